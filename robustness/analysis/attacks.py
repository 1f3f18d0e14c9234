"""What attacks leave of a model: accuracies under every threat model, with intervals and trust marks.

Threat models, for a model shown at λ_j (or at a policy's choice):

- ``whitebox``: images crafted at λ_j itself;
- ``transfer``: images crafted at the λ of training: what an attacker sees who does not know λ_j;
- ``adaptive``: images crafted at every λ of the grid and through the policy: an image is robust only if it withstands
  all of them. The pointwise worst case.

In every one of them an image counts as robust only if the model is right on the clean image, too.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from data_prep.errors import InputError
from robustness.analysis.frames import CELL_COLUMNS, Run
from robustness.analysis.statistics import mcnemar, paired_interval, wilson_interval
from robustness.analysis.trust import Verdict, judge, judge_rise, judge_transfer, unite
from robustness.attack import format_eps

Choice = float | str
"""λ of the grid, ``"residual"`` for the policy, ``""`` for a model without λ."""


@dataclass(frozen=True)
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

    def own_verdict(self, choice: Choice) -> Verdict:
        """What was measured beside the attack on ``choice``."""
        frame = self._attacked(self.keys[choice, choice])
        return judge(frame, eps=self.eps, num_classes=len(self.run.record["data"]["classes"]))

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


@dataclass(frozen=True)
class Row:
    """One line of the attack tables: which images withstood, and whether that can be believed."""

    duel: Duel
    threat: str
    shown: Choice
    right: np.ndarray
    verdict: Verdict

    @property
    def accuracy(self) -> float:
        """Share of the images that withstood."""
        return float(self.right.mean())

    def fields(self) -> dict[str, object]:
        """The columns of ``cells.csv`` and ``policy``."""
        cells = self.duel.cells
        cell = cells[cells["key"] == self.duel.keys[self.shown, self.shown]].iloc[0]
        low, high = wilson_interval(int(self.right.sum()), len(self.right))
        return {
            **{name: cell[name] for name in [*CELL_COLUMNS, "policy"]},
            "threat": self.threat,
            "accuracy": self.accuracy,
            "ci_low": low,
            "ci_high": high,
            "trust": self.verdict.mark,
            "trust_reason": self.verdict.reason,
        }


@dataclass(frozen=True, eq=False)
class Attacks:
    """What the attacks of a run come to: :func:`tabulate_rows`, :func:`worst_case` and :func:`transfer_matrix`."""

    rows: pd.DataFrame
    worst: pd.DataFrame
    transfers: pd.DataFrame

    @classmethod
    def of(cls, run: Run) -> Attacks | None:
        """Analyse the attacks of a run; None if it has none."""
        if not run.cells["norm"].notna().any():
            return None
        rows = list_rows(run)
        return cls(tabulate_rows(run, rows), worst_case(run, rows), transfer_matrix(run))


def list_rows(run: Run) -> list[Row]:
    """A row for every model, attack, budget, threat model and λ."""
    rows = [row for duel in list_duels(run) for row in _rows_of(duel)]
    return [_compare_budgets(row, rows) for row in rows]


def tabulate_rows(run: Run, rows: list[Row]) -> pd.DataFrame:
    """The rows with intervals, marks and paired differences.

    Returns:
        The columns of ``cells.csv`` (``lam`` is empty at a policy), ``policy``, and two paired differences with their
        bootstrap intervals and McNemar's p: ``gain, gain_low, gain_high, gain_p`` (minus the accuracy at the λ of
        training under the same threat model; under ``transfer``, whose images were crafted there, under ``whitebox``)
        and ``versus, …`` (minus that of the baseline model).
    """
    fields = [
        row.fields()
        | _difference("gain", row, _find_trained(row, rows))
        | _difference("versus", row, _find_baseline(run, row, rows))
        for row in rows
    ]
    differences = [f"{title}{suffix}" for title in ("gain", "versus") for suffix in ("", "_low", "_high", "_p")]
    return pd.DataFrame(fields, columns=[*CELL_COLUMNS, "policy", *differences])


def _find_trained(row: Row, rows: list[Row]) -> Row | None:
    """The row at the λ of training that ``row`` is compared with; None for that row itself and where there is none."""
    threat = "whitebox" if row.threat == "transfer" else row.threat
    if not isinstance(row.duel.trained, float) or row.shown == row.duel.trained:
        return None
    wanted = (threat, row.duel.trained)
    return next((other for other in rows if other.duel is row.duel and (other.threat, other.shown) == wanted), None)


def _find_baseline(run: Run, row: Row, rows: list[Row]) -> Row | None:
    """The baseline model's row under the same attack: its worst case for a worst case, if it has a λ, too."""
    if row.duel.model == run.baseline:
        return None
    attack = (row.duel.attack, row.duel.norm, row.duel.eps)
    candidates = [
        other
        for other in rows
        if other.duel.model == run.baseline
        and (other.duel.attack, other.duel.norm, other.duel.eps) == attack
        and other.shown == other.duel.trained
    ]
    return next((other for other in candidates if other.threat == row.threat), next(iter(candidates), None))


def _difference(title: str, row: Row, reference: Row | None) -> dict[str, object]:
    if reference is None:
        return {}
    mean, low, high = paired_interval(row.right.astype(float) - reference.right)
    p = mcnemar(row.right, reference.right)
    return {title: mean, f"{title}_low": low, f"{title}_high": high, f"{title}_p": p}


def _compare_budgets(row: Row, rows: list[Row]) -> Row:
    """``row`` with what its accuracy at smaller budgets says of it."""
    duel = row.duel
    smaller = {
        format_eps(other.duel.eps, other.duel.norm): other.accuracy
        for other in rows
        if (other.threat, other.shown, other.duel.model, other.duel.attack, other.duel.norm)
        == (row.threat, row.shown, duel.model, duel.attack, duel.norm)
        and other.duel.eps < duel.eps
    }
    return dataclasses.replace(row, verdict=unite([row.verdict, judge_rise(row.accuracy, smaller)]))


def _rows_of(duel: Duel) -> list[Row]:
    rows = []
    threats = duel.run.record["suite"]["threats"]
    for shown in duel.choices:
        elsewhere = duel.crafted_elsewhere(shown)
        own, verdict = duel.right(shown, shown), duel.own_verdict(shown)
        doubt = judge_transfer(own, {_name(choice): right for choice, right in elsewhere.items()})
        verdict = unite([verdict, doubt])
        rows.append(Row(duel, "whitebox", shown, own, verdict))
        if "transfer" in threats and duel.trained in elsewhere and duel.trained in duel.choices:
            right = elsewhere[duel.trained]
            doubt = judge_transfer(right, {_name(shown): own})
            rows.append(Row(duel, "transfer", shown, right, unite([duel.own_verdict(duel.trained), doubt])))
        if "adaptive" in threats and elsewhere and duel.is_complete(shown):
            rows.append(Row(duel, "adaptive", shown, np.logical_and.reduce([own, *elsewhere.values()]), verdict))
    return rows


def worst_case(run: Run, rows: list[Row]) -> pd.DataFrame:
    """The robust accuracy: what withstands everything that was tried within a budget, all attacks and threat models.

    An attack at a smaller ε in the same norm counts, too: its images lie within the budget. There is a row only where
    everything that was planned is finished.

    Returns:
        Columns ``model, lam, policy, norm, eps, attacks, n, accuracy, ci_low, ci_high, trust, trust_reason``; the mark
        is the worst of the white-box rows that went into it.
    """
    duels = list_duels(run)
    lines = []
    for model, norm in dict.fromkeys((duel.model, duel.norm) for duel in duels):
        mine = [duel for duel in duels if (duel.model, duel.norm) == (model, norm)]
        planned = {
            (cell["perturbation"], cell["eps"])
            for cell in run.record["cells"]
            if (cell["model"], cell.get("norm")) == (model, norm)
        }
        for eps in sorted({duel.eps for duel in mine}):
            within = [duel for duel in mine if duel.eps <= eps]
            if {(duel.attack, duel.eps) for duel in within} != {(name, e) for name, e in planned if e <= eps}:
                continue
            for shown in dict.fromkeys(choice for duel in within for choice in duel.choices):
                if not all(duel.is_complete(shown) for duel in within):
                    continue
                tried = [duel.right(*pair) for duel in within for pair in duel.keys if pair[1] == shown]
                right = np.logical_and.reduce(tried)
                low, high = wilson_interval(int(right.sum()), len(right))
                used = {(duel.attack, duel.eps) for duel in within}
                verdict = unite(
                    row.verdict
                    for row in rows
                    if (row.duel.model, row.duel.norm, row.threat, row.shown) == (model, norm, "whitebox", shown)
                    and (row.duel.attack, row.duel.eps) in used
                )
                lines.append(
                    {
                        "model": model,
                        "lam": shown if isinstance(shown, float) else math.nan,
                        "policy": shown if isinstance(shown, str) else "",
                        "norm": norm,
                        "eps": eps,
                        "attacks": len(tried),
                        "n": len(right),
                        "accuracy": float(right.mean()),
                        "ci_low": low,
                        "ci_high": high,
                        "trust": verdict.mark,
                        "trust_reason": verdict.reason,
                    }
                )
    columns = ["model", "lam", "policy", "norm", "eps", "attacks", "n", "accuracy", "ci_low", "ci_high"]
    return pd.DataFrame(lines, columns=[*columns, "trust", "trust_reason"])


def transfer_matrix(run: Run) -> pd.DataFrame:
    """Accuracy for every pair of λ: crafted for one, shown at the other.

    Returns:
        Columns ``model, perturbation, norm, eps, crafted, shown, n, accuracy, ci_low, ci_high``; ``crafted`` and
        ``shown`` are λs, ``residual`` for the policy, or empty for a model without λ.
    """
    rows = []
    for duel in list_duels(run):
        for crafted, shown in duel.keys:
            if shown not in duel.clean:
                continue
            right = duel.right(crafted, shown)
            low, high = wilson_interval(int(right.sum()), len(right))
            rows.append(
                {
                    "model": duel.model,
                    "perturbation": duel.attack,
                    "norm": duel.norm,
                    "eps": duel.eps,
                    "crafted": crafted,
                    "shown": shown,
                    "n": len(right),
                    "accuracy": float(right.mean()),
                    "ci_low": low,
                    "ci_high": high,
                }
            )
    return pd.DataFrame(rows)


def _choice(lam: object, policy: object) -> Choice:
    if isinstance(policy, str) and policy:
        return policy
    return "" if _is_missing(lam) else float(lam)  # type: ignore[arg-type]


def _is_missing(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _name(choice: Choice) -> str:
    return f"λ = {choice:g}" if isinstance(choice, float) else f"the {choice} λ"
