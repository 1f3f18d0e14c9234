"""One model under one attack at one budget: what it answered to every set of adversarial images at every λ."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from data_prep.errors import InputError
from robustness.analysis.frames import Run
from robustness.analysis.trust import Verdict, judge, unite
from robustness.grids import format_lam

Choice = float | str
"""λ of the grid, ``"residual"`` for the policy, ``""`` for a model without λ."""
Target = tuple[str, str, str, float]
"""Model, attack, norm and ε."""


@dataclass(frozen=True, eq=False)
class Duel:
    """One model under one attack at one budget, at every pair of λ that was measured.

    Args:
        run: the run.
        model: its name.
        attack: what tables call the attack.
        norm: of the budget.
        eps: the budget.
        cells: the rows of ``run.cells`` for it.
        planned: the choices that images were to be crafted for, by the choice that they were to be shown at.
        clean_keys: cell of the clean images, by the choice that they were shown at.
    """

    run: Run
    model: str
    attack: str
    norm: str
    eps: float
    cells: pd.DataFrame
    planned: Mapping[Choice, set[Choice]]
    clean_keys: Mapping[Choice, str]

    @property
    def target(self) -> Target:
        """Model, attack, norm and ε."""
        return self.model, self.attack, self.norm, self.eps

    @cached_property
    def keys(self) -> dict[tuple[Choice, Choice], str]:
        """Cell of (crafted for, shown at)."""
        return {
            (_choice(row["crafted_lam"], row["crafted_policy"]), _choice(row["lam"], row["policy"])): row["key"]
            for _, row in self.cells.iterrows()
        }

    @cached_property
    def clean(self) -> dict[Choice, np.ndarray]:
        """(N,) right on the clean images, by the λ they are shown at."""
        return {choice: self.run.correct([key])[0] for choice, key in self.clean_keys.items()}

    @property
    def choices(self) -> list[Choice]:
        """The λs and policies that were attacked."""
        return [shown for crafted, shown in self.keys if crafted == shown and shown in self.clean]

    @property
    def trained(self) -> Choice:
        """λ of training."""
        lam = self.cells["trained_lam"].iloc[0]
        return "" if _is_missing(lam) else float(lam)

    def right(self, crafted: Choice, shown: Choice) -> np.ndarray:
        """(N,) right on the clean image and on the one crafted for ``crafted``, both shown at ``shown``."""
        key = self.keys[crafted, shown]
        right: np.ndarray = self.run.correct([key])[0] & self.clean[shown]
        if crafted == shown:  # an image that fooled the model during the attack is not robust, whatever came after
            right = right & (self._attacked(key)["broken_by"] == "").to_numpy()
        return right

    def is_complete(self, shown: Choice) -> bool:
        """Whether everything that was planned against ``shown`` is finished: only then is there a worst case."""
        return self.planned.get(shown, set()) == {crafted for crafted, at in self.keys if at == shown}

    def crafted_elsewhere(self, shown: Choice) -> dict[Choice, np.ndarray]:
        """Right answers to the images crafted for every other choice."""
        return {crafted: self.right(crafted, at) for crafted, at in self.keys if at == shown and crafted != shown}

    @cached_property
    def verdicts(self) -> dict[Choice, Verdict]:
        """What was measured beside every attack on its own, by the λ that it was crafted for."""
        return {crafted: self.own_verdict(crafted) for crafted, shown in self.keys if crafted == shown}

    def own_verdict(self, choice: Choice, others: Iterable[np.ndarray] = ()) -> Verdict:
        """What speaks for and against the attack on ``choice``, one of several attempts if ``others`` are given.

        Args:
            choice: λ that the images were crafted for and are shown at.
            others: (N,) right answers to the images of every other attempt.
        """
        frame = self._attacked(self.keys[choice, choice])
        standing = np.logical_and.reduce([np.ones(len(frame), bool), *others])
        num_classes = len(self.run.record["data"]["classes"])
        of_attack = judge(frame, eps=self.eps, num_classes=num_classes, standing=standing)
        of_model = self.run.soundness.get((self.model, choice if isinstance(choice, float) else None))
        return unite([of_attack, *([of_model] if of_model is not None else [])])

    def _attacked(self, key: str) -> pd.DataFrame:
        frame = self.run.outcome(key)
        if "broken_by" not in frame:
            raise InputError(f"{self.run.directory.path}: run.json calls the cell {key} an attack, and it is none")
        return frame


def list_duels(run: Run) -> list[Duel]:
    """Every model × attack × budget of a run, in the order asked."""
    planned, clean = plan_of(run), _clean_keys(run)
    cells = run.cells[run.cells["norm"].notna()]
    duels = []
    for _, rows in cells.groupby(["perturbation", "norm", "eps", "model"], sort=False):
        first = rows.iloc[0]
        target = str(first["model"]), str(first["perturbation"]), str(first["norm"]), float(first["eps"])
        duels.append(Duel(run, *target, rows, planned[target], clean.get(target[0], {})))
    return duels


def plan_of(run: Run) -> dict[Target, dict[Choice, set[Choice]]]:
    """What a run was to attack, finished or not: the choices to craft images for, by the choice to show them at."""
    planned: dict[Target, dict[Choice, set[Choice]]] = {}
    for cell in run.record["cells"]:
        if cell.get("norm") is not None:
            target = cell["model"], cell["perturbation"], cell["norm"], float(cell["eps"])
            shown, crafted = (_choice(cell[f"{at}lam"], cell[f"{at}policy"]) for at in ("", "crafted_"))
            planned.setdefault(target, {}).setdefault(shown, set()).add(crafted)
    return planned


def _clean_keys(run: Run) -> dict[str, dict[Choice, str]]:
    """Cells of the clean images, by model and the choice that they were shown at."""
    cells = run.cells[run.cells["perturbation"] == "clean"]
    keys: dict[str, dict[Choice, str]] = {}
    for model, lam, policy, key in zip(*(cells[name] for name in ("model", "lam", "policy", "key")), strict=True):
        keys.setdefault(model, {})[_choice(lam, policy)] = key
    return keys


def name_choice(choice: Choice) -> str:
    """For people: ``λ = 0.1`` or ``the residual λ``."""
    return f"λ = {format_lam(choice)}" if isinstance(choice, float) else f"the {choice} λ"


def _choice(lam: object, policy: object) -> Choice:
    if isinstance(policy, str) and policy:
        return policy
    return "" if _is_missing(lam) else float(lam)  # type: ignore[arg-type]


def _is_missing(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
