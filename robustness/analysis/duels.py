"""One model under one attack at one budget: its predictions for every set of adversarial images at every λ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from data_prep.errors import InputError
from robustness.analysis.columns import ACCURACY, DIFFERENCE, name_values
from robustness.analysis.frames import Run
from robustness.analysis.trust import attack_power, judge
from robustness.statistics import paired_answers, share_interval
from robustness.verdicts import Verdict, unite
from robustness.which_lam import WhichLam

Target = tuple[str, str, str, float]
"""Model, attack, norm and ε."""
MARKED_DIFFERENCE = (*DIFFERENCE, "_trust")
"""Ends of the names of a paired difference, its interval, p and the worse mark of the two numbers."""


def describe_right(right: np.ndarray, verdict: Verdict) -> dict[str, object]:
    """Return ``n``, accuracy, interval, trust mark and its reason, from (N,) images that withstood."""
    values = dict(zip(ACCURACY, share_interval(right), strict=True))
    return {"n": len(right), **values, "trust": verdict.mark, "trust_reason": verdict.reason}


class Judged:
    """Base of the results of attacks: (N,) the images that withstood, and the verdict on their number."""

    right: np.ndarray
    verdict: Verdict

    def describe(self) -> dict[str, object]:
        """Return the columns of :func:`describe_right`."""
        return describe_right(self.right, self.verdict)

    def compare(self, name: str, reference: Judged | None) -> dict[str, object]:
        """Return the difference ``name`` from another result on the same images; empty without another one."""
        if reference is None or reference is self:
            return {}
        values = (*paired_answers(self.right, reference.right), unite([self.verdict, reference.verdict]).mark)
        return name_values(name, values, MARKED_DIFFERENCE)


@dataclass(frozen=True, eq=False)
class Duel:
    """One model under one attack at one budget, at every pair of λ that was measured.

    Args:
        run: the run.
        model: name of the model.
        attack: name of the attack in tables.
        norm: norm of the budget.
        eps: budget ε.
        cells: the rows of ``run.cells`` for this duel.
        planned: the planned choices of λ to craft images for, by the choice to evaluate them at.
        clean_keys: key of the cell of the clean images, by the choice of the evaluation.
    """

    run: Run
    model: str
    attack: str
    norm: str
    eps: float
    cells: pd.DataFrame
    planned: Mapping[WhichLam, set[WhichLam]]
    clean_keys: Mapping[WhichLam, str]

    @property
    def target(self) -> Target:
        """Model, attack, norm and ε."""
        return self.model, self.attack, self.norm, self.eps

    @cached_property
    def keys(self) -> dict[tuple[WhichLam, WhichLam], str]:
        """Key of the cell, by (crafted for, shown at)."""
        fields = ["crafted_lam", "crafted_policy", "lam", "policy", "key"]
        rows = self.cells[fields].to_dict("records")
        return {(WhichLam.from_row(row, "crafted_"), WhichLam.from_row(row)): row["key"] for row in rows}

    @cached_property
    def clean(self) -> dict[WhichLam, np.ndarray]:
        """(N,) correct predictions on the clean images, by the λ of the evaluation."""
        return {choice: self.run.correct([key])[0] for choice, key in self.clean_keys.items()}

    @property
    def choices(self) -> list[WhichLam]:
        """The λs and policies that were attacked."""
        return [shown for crafted, shown in self.keys if crafted == shown and shown in self.clean]

    @property
    def trained(self) -> WhichLam:
        """Training λ."""
        return WhichLam.from_row({"lam": float(self.cells["trained_lam"].iloc[0]), "policy": ""})

    def right(self, crafted: WhichLam, shown: WhichLam) -> np.ndarray:
        """Return (N,) whether the clean image and the image of ``crafted`` are both right at ``shown``."""
        key = self.keys[crafted, shown]
        right: np.ndarray = self.run.correct([key])[0] & self.clean[shown]
        if crafted == shown:  # an image that fooled the model during the attack is not robust, whatever happened later
            right = right & (self._attacked(key)["broken_by"] == "").to_numpy()
        return right

    def is_complete(self, shown: WhichLam) -> bool:
        """Check that everything planned against ``shown`` is finished: only then is there a worst case."""
        return self.planned.get(shown, set()) == {crafted for crafted, at in self.keys if at == shown}

    def crafted_elsewhere(self, shown: WhichLam) -> dict[WhichLam, np.ndarray]:
        """Return the correct predictions on the images crafted for every other choice."""
        return {crafted: self.right(crafted, at) for crafted, at in self.keys if at == shown and crafted != shown}

    @cached_property
    def verdicts(self) -> dict[WhichLam, Verdict]:
        """Verdict on every attack on its own, by the λ that it was crafted for."""
        return {crafted: self.own_verdict(crafted) for crafted, shown in self.keys if crafted == shown}

    def own_verdict(self, choice: WhichLam, others: Iterable[np.ndarray] = ()) -> Verdict:
        """Judge the attack on ``choice``, as one of several attempts if ``others`` are given.

        Args:
            choice: λ that the images were crafted for and are evaluated at.
            others: (N,) correct predictions on the images of every other attempt.
        """
        frame = self._attacked(self.keys[choice, choice])
        standing = np.logical_and.reduce([np.ones(len(frame), bool), *others])
        num_classes = len(self.run.record["data"]["classes"])
        of_attack = judge(frame, eps=self.eps, num_classes=num_classes, standing=standing)
        of_model = self.run.soundness.get((self.model, choice.value))
        return unite([of_attack, *([of_model] if of_model is not None else [])])

    def power(self, crafted: WhichLam) -> tuple[int, int]:
        """Return how many planted adversarial examples the attack on ``crafted`` found, and how many were planted."""
        return attack_power(self._attacked(self.keys[crafted, crafted])) if (crafted, crafted) in self.keys else (0, 0)

    def _attacked(self, key: str) -> pd.DataFrame:
        frame = self.run.outcome(key)
        if "broken_by" not in frame:
            raise InputError(
                f"expected an attack in the cell {key} of {self.run.directory.path}, as its run.json says, got another "
                "outcome; run the same command again to rebuild it"
            )
        return frame


def list_duels(run: Run) -> list[Duel]:
    """List every model × attack × budget of a run, in the requested order."""
    planned, clean = plan_of(run), _clean_keys(run)
    cells = run.cells[run.cells["norm"].notna()]
    duels = []
    for _, rows in cells.groupby(["perturbation", "norm", "eps", "model"], sort=False):
        first = rows.iloc[0]
        target = str(first["model"]), str(first["perturbation"]), str(first["norm"]), float(first["eps"])
        duels.append(Duel(run, *target, rows, planned[target], clean.get(target[0], {})))
    return duels


def plan_of(run: Run) -> dict[Target, dict[WhichLam, set[WhichLam]]]:
    """Return the attacks that a run planned, finished or not: choices to craft for, by the choice to evaluate at."""
    planned: dict[Target, dict[WhichLam, set[WhichLam]]] = {}
    for cell in run.record["cells"]:
        if cell.get("norm") is not None:
            target = cell["model"], cell["perturbation"], cell["norm"], float(cell["eps"])
            shown, crafted = (WhichLam.from_row(cell, at) for at in ("", "crafted_"))
            planned.setdefault(target, {}).setdefault(shown, set()).add(crafted)
    return planned


def _clean_keys(run: Run) -> dict[str, dict[WhichLam, str]]:
    """Return the cells of the clean images, by model and by the choice of the evaluation."""
    cells = run.cells[run.cells["perturbation"] == "clean"]
    keys: dict[str, dict[WhichLam, str]] = {}
    for row in cells[["model", "lam", "policy", "key"]].to_dict("records"):
        keys.setdefault(row["model"], {})[WhichLam.from_row(row)] = row["key"]
    return keys
