"""The decisions of every λ policy and their outcome, from stored predictions: no model runs again."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robustness.analysis.frames import Run
from robustness.analysis.metrics import expected_calibration_error, root_calibration_error
from robustness.policies import POLICIES, Fixed, Policy, Trained, View

_DECIMALS = 10
"""Decimals to which mean λs are rounded, so that the mean of equal λs is the λ itself."""
Place = tuple[str, int]
"""Perturbation and severity."""


class Setting(NamedTuple):
    """A model under a λ policy; ``lam`` distinguishes the λs of ``fixed`` and is None for every other policy."""

    model: str
    policy: str
    lam: float | None = None


@dataclass(frozen=True, kw_only=True)
class Decision:
    """A model under one λ policy on the images of one perturbation and severity.

    Args:
        model: name of the model.
        perturbation: ``clean`` or a corruption.
        severity: level of the corruption; 0 for clean.
        policy: name of the policy; ``none`` for a model without λ.
        lam: mean of the chosen λs; NaN for a model without λ.
        correct: (N,) correct predictions.
        nll: mean of −log p(label).
        ece: expected calibration error.
        calibration: :func:`~robustness.analysis.metrics.root_calibration_error`, with its interval.
        residual: mean ‖x − Az‖²; NaN for a model without λ.
        sparsity: mean share of zeros in the code; NaN for a model without λ.
    """

    model: str
    perturbation: str
    severity: int
    policy: str
    lam: float
    correct: NDArray[np.bool_]
    nll: float
    ece: float
    calibration: tuple[float, ...]
    residual: float
    sparsity: float

    @property
    def place(self) -> Place:
        """Perturbation and severity."""
        return self.perturbation, self.severity

    @property
    def setting(self) -> Setting:
        """Model, policy and, for ``fixed``, its λ."""
        return Setting(self.model, self.policy, self.lam if self.policy == Fixed.name else None)


def decide(run: Run, policies: tuple[Policy, ...] = POLICIES) -> list[Decision]:
    """Decide every policy, and every fixed λ, on every perturbation and severity.

    If a λ of the grid is missing, only the fixed λs and the training λ count: the other policies would choose from
    fewer λs. A λ between two of the grid becomes the nearest of them; ties go to the smaller one.
    """
    return list(_decide(run, policies))


def _decide(run: Run, policies: tuple[Policy, ...]) -> Iterator[Decision]:
    selected = {model: _select(run, model, grid) for model, grid in run.grids.items()}
    groups = run.corrupted.groupby(["model", "perturbation", "severity"], sort=False)
    for (model, perturbation, _), cells in groups:
        cells = cells.sort_values("lam")
        answers = _Answers(cells["lam"].to_numpy(), run.answers(list(cells["key"])))
        level = int(cells["severity"].iloc[0])
        where: dict[str, Any] = {"model": model, "perturbation": perturbation, "severity": level}
        if np.isnan(answers.lambdas).all():
            yield answers.pick(0, policy="none", **where)
            continue
        is_whole = np.array_equal(answers.lambdas, run.grids[str(model)])
        able = policies if is_whole else (Trained(),)
        view = _look(run, cells, answers, selected[str(model)] if is_whole else {})
        for policy in (*map(Fixed, answers.lambdas), *able):
            seen = dataclasses.replace(view, correct=answers.correct) if policy.uses_test_labels else view
            chosen = policy.choose(seen)
            if chosen is not None:
                rows = np.abs(np.subtract.outer(answers.lambdas, chosen)).argmin(axis=0)
                yield answers.pick(rows, policy=policy.name, **where)


@dataclass(frozen=True)
class _Answers:
    """The predictions of a model for N images at L λs.

    lambdas: (L,), increasing. columns: (L, N) each, as :meth:`robustness.analysis.frames.Run.answers` has them.
    """

    lambdas: NDArray[np.float64]
    columns: dict[str, np.ndarray]

    @property
    def correct(self) -> NDArray[np.bool_]:
        """(L, N) correct predictions."""
        return self.columns["correct"]

    def get(self, name: str) -> np.ndarray:
        """Return a column (L, N); NaN everywhere if there is none."""
        return self.columns[name] if name in self.columns else np.full(self.correct.shape, np.nan)

    @cached_property
    def _means(self) -> dict[str, np.ndarray]:
        """(L,) means at every λ that enter a decision."""
        means = {name: self.get(name).mean(axis=1) for name in ("nll", "residual", "sparsity")}
        return {**means, "ece": expected_calibration_error(self.columns["confidence"], self.correct)}

    @cached_property
    def _calibrations(self) -> np.ndarray:
        """(L, 3) :func:`~robustness.analysis.metrics.root_calibration_error` at every λ."""
        return root_calibration_error(self.columns["confidence"], self.correct)

    def pick(self, rows: NDArray[np.intp] | np.intp | int, **fields: Any) -> Decision:
        """Return the decision for the λ at position ``rows``, one for all images or (N,) one for each."""
        if np.ndim(rows) == 0:
            fields |= {name: float(values[rows]) for name, values in self._means.items()}
            calibration = tuple(self._calibrations[rows].tolist())
            lam = round(float(self.lambdas[rows]), _DECIMALS)
            return Decision(**fields, calibration=calibration, correct=self.correct[rows], lam=lam)
        images = np.arange(self.correct.shape[1])
        taken = {
            name: self.get(name)[rows, images] for name in ("confidence", "correct", "nll", "residual", "sparsity")
        }
        fields |= {name: float(taken[name].mean()) for name in ("nll", "residual", "sparsity")}
        ece = float(expected_calibration_error(taken["confidence"], taken["correct"]))
        lam = round(float(self.lambdas[rows].mean()), _DECIMALS)
        calibration = tuple(root_calibration_error(taken["confidence"], taken["correct"]).tolist())
        return Decision(**fields, ece=ece, calibration=calibration, correct=taken["correct"], lam=lam)


def _select(run: Run, model: str, lambdas: NDArray[np.float64]) -> dict[str, np.ndarray]:
    """Return the accuracy on training images at each of ``lambdas``, by perturbation; only if every one is there."""
    accuracy = run.selection_accuracy.get(model, pd.DataFrame()).reindex(columns=lambdas).dropna()
    return {str(name): row.to_numpy() for name, row in accuracy.iterrows()}


def _look(run: Run, cells: pd.DataFrame, answers: _Answers, selection: dict[str, np.ndarray]) -> View:
    """Build the view that a policy gets of the cells of one model, perturbation and severity, at every λ."""
    first = cells.iloc[0]
    law = run.laws.get(first["model"])
    return View(
        perturbation=first["perturbation"],
        severity=int(first["severity"]),
        lambdas=answers.lambdas,
        trained_lam=float(first["trained_lam"]),
        predicted=answers.columns["predicted"],
        confidence=answers.columns["confidence"],
        residual=answers.get("residual"),
        sparsity=answers.get("sparsity"),
        noise_level=answers.columns["noise_level"][0] if "noise_level" in answers.columns else None,
        law=law.law if law else None,
        selection=selection,
    )
