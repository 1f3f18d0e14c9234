"""What every λ policy decides and how that turns out, from the stored answers: no model is run again."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robustness.analysis.frames import Run
from robustness.analysis.metrics import expected_calibration_error
from robustness.policies import POLICIES, Fixed, Policy, Trained, View

_DECIMALS = 10
"""The mean of equal λs is rounded to the λ itself."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """A model under one λ policy on the images of one perturbation and severity.

    Args:
        model: its name.
        perturbation: ``clean`` or a corruption.
        severity: its level; 0 for clean.
        policy: ``none`` for a model without λ.
        setting: tells the fixed λs apart: the λ of ``fixed``, NaN for every other policy.
        lam: mean of the chosen λs; NaN for a model without λ.
        correct: (N,) right answers.
        nll: mean of −log p(label).
        ece: expected calibration error.
        residual: mean ‖x − Az‖²; NaN for a model without λ.
        sparsity: mean share of zeros in the code; NaN for a model without λ.
    """

    model: str
    perturbation: str
    severity: int
    policy: str
    setting: float
    lam: float
    correct: NDArray[np.bool_]
    nll: float
    ece: float
    residual: float
    sparsity: float


def decide(run: Run, policies: tuple[Policy, ...] = POLICIES) -> list[Decision]:
    """Every policy, and every fixed λ, on every perturbation and severity.

    Where a λ of the grid is missing, only the fixed ones and that of training count: the others would choose from less.
    A λ between two of the grid becomes the nearest of them, the smaller one of two equally near.
    """
    return list(_decide(run, policies))


def _decide(run: Run, policies: tuple[Policy, ...]) -> Iterator[Decision]:
    grids = run.corrupted.groupby("model")["lam"].unique()
    for (model, perturbation, severity), cells in run.corrupted.groupby(
        ["model", "perturbation", "severity"], sort=False
    ):
        cells = cells.sort_values("lam")
        values = _stack(run, list(cells["key"]))
        where: dict[str, Any] = {"model": model, "perturbation": perturbation, "severity": severity}
        if cells["lam"].isna().all():
            yield _pick(values, 0, policy="none", **where)
            continue
        view = _look(run, cells, values)
        able = policies if len(cells) == len(grids[str(model)]) else (Trained(),)
        for policy in (*map(Fixed, view.lambdas), *able):
            seen = dataclasses.replace(view, correct=values["correct"]) if policy.uses_test_labels else view
            chosen = policy.choose(seen)
            if chosen is not None:
                rows = np.abs(view.lambdas[:, None] - chosen).argmin(axis=0)
                setting = policy.lam if isinstance(policy, Fixed) else math.nan
                answers = {**values, "lam": view.lambdas[:, None]}
                yield _pick(answers, rows, policy=policy.name, setting=setting, **where)


def _stack(run: Run, keys: list[str]) -> dict[str, np.ndarray]:
    """The columns of several cells, each (len(keys), N), images in the same order in every row."""
    frames = [run.outcome(key) for key in keys]
    return {str(name): np.stack([frame[name].to_numpy() for frame in frames]) for name in frames[0].columns}


def _look(run: Run, cells: pd.DataFrame, values: dict[str, np.ndarray]) -> View:
    """What a policy may see of the cells of one model, perturbation and severity, at every λ."""
    first, lambdas = cells.iloc[0], cells["lam"].to_numpy()
    no_code = np.full(values["predicted"].shape, np.nan)
    law = run.laws.get(first["model"])
    chosen_on = run.selection_accuracy.get(first["model"], pd.DataFrame()).reindex(columns=lambdas)
    return View(
        perturbation=first["perturbation"],
        severity=int(first["severity"]),
        lambdas=lambdas,
        trained_lam=float(first["trained_lam"]),
        predicted=values["predicted"],
        confidence=values["confidence"],
        residual=values.get("residual", no_code),
        sparsity=values.get("sparsity", no_code),
        law=law.law if law else None,
        selection={str(name): row.to_numpy() for name, row in chosen_on.dropna().iterrows()},
    )


def _pick(values: dict[str, np.ndarray], rows: NDArray[np.intp] | int, **fields: Any) -> Decision:
    """The decision that takes the answers in ``rows`` (N,) of ``values`` (L, N)."""

    shape = values["correct"].shape

    def take(name: str) -> np.ndarray:
        everywhere = np.broadcast_to(values.get(name, math.nan), shape)
        return np.asarray(everywhere[np.broadcast_to(rows, shape[1]), np.arange(shape[1])])

    correct = take("correct")
    return Decision(
        **{"setting": math.nan, **fields},
        correct=correct,
        lam=round(float(take("lam").mean()), _DECIMALS),
        nll=float(take("nll").mean()),
        ece=expected_calibration_error(take("confidence"), correct),
        residual=float(take("residual").mean()),
        sparsity=float(take("sparsity").mean()),
    )
