"""One model under one attack at one budget: what it answered to every set of adversarial images at every λ."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from data_prep.errors import InputError
from robustness.analysis.frames import Run
from robustness.analysis.trust import Verdict, judge

Choice = float | str
"""λ of the grid, ``"residual"`` for the policy, ``""`` for a model without λ."""


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
    """

    run: Run
    model: str
    attack: str
    norm: str
    eps: float
    cells: pd.DataFrame

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
        cells = self.run.cells
        rows = cells[(cells["perturbation"] == "clean") & (cells["model"] == self.model)]
        return {_choice(row["lam"], row["policy"]): self.run.correct([row["key"]])[0] for _, row in rows.iterrows()}

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
        planned = {
            _choice(cell["crafted_lam"], cell["crafted_policy"])
            for cell in self.run.record["cells"]
            if (cell["model"], cell["perturbation"], cell.get("norm"), cell.get("eps"))
            == (self.model, self.attack, self.norm, self.eps)
            and _choice(cell["lam"], cell["policy"]) == shown
        }
        return planned == {crafted for crafted, at in self.keys if at == shown}

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
        return judge(frame, eps=self.eps, num_classes=len(self.run.record["data"]["classes"]), standing=standing)

    def _attacked(self, key: str) -> pd.DataFrame:
        frame = self.run.outcome(key)
        if "broken_by" not in frame:
            raise InputError(f"{self.run.directory.path}: run.json calls the cell {key} an attack, and it is none")
        return frame


def list_duels(run: Run) -> list[Duel]:
    """Every model × attack × budget of a run, in the order asked."""
    cells = run.cells[run.cells["norm"].notna()]
    duels = []
    for _, rows in cells.groupby(["perturbation", "norm", "eps", "model"], sort=False):
        first = rows.iloc[0]
        duels.append(Duel(run, first["model"], first["perturbation"], first["norm"], float(first["eps"]), rows))
    return duels


def name_choice(choice: Choice) -> str:
    """For people: ``λ = 0.1`` or ``the residual λ``."""
    return f"λ = {choice:g}" if isinstance(choice, float) else f"the {choice} λ"


def _choice(lam: object, policy: object) -> Choice:
    if isinstance(policy, str) and policy:
        return policy
    return "" if _is_missing(lam) else float(lam)  # type: ignore[arg-type]


def _is_missing(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
