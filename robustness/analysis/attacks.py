"""Robust accuracy of a model under every attack and threat model, with intervals and trust marks.

Threat models, for a model that is evaluated at λ_j (or at the λ that a policy chooses):

- ``whitebox``: images crafted at λ_j itself;
- ``transfer``: images crafted at the training λ, by an attacker who does not know λ_j;
- ``adaptive``: images crafted at every λ of the grid and through every policy: an image is robust only if it withstands
  all of them, which is the worst case for every image.

In each of them an image counts as robust only if the model is also right on the clean image.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from robustness.analysis.columns import ACCURACY, name_values, with_ends
from robustness.analysis.duels import MARKED_DIFFERENCE, Duel, Judged, Target, describe_right, list_duels
from robustness.analysis.frames import CELL_COLUMNS, Run
from robustness.analysis.trust import judge_rise, judge_transfer
from robustness.analysis.worst_case import Survivors, find_survivors, worst_case
from robustness.attack import format_eps
from robustness.statistics import wilson_interval
from robustness.verdicts import OK, Verdict, grade, unite
from robustness.which_lam import WhichLam

_OF_ONE_SET = ("residual", "sparsity", "seconds")
"""Columns of ``cells.csv`` that describe one set of images; empty for the worst case of several sets."""
BEATEN = (0.02, 0.2)
"""Decrease in accuracy, from this attack to another attack of the run: SUSPECT above the first, INVALID above the
second."""


@dataclass(frozen=True, eq=False)
class Row(Judged):
    """One line of the attack tables: the images that withstood, and the trust mark.

    ``crafted`` is the choice of λ that the images were crafted for; None for the worst case over all choices.
    """

    duel: Duel
    threat: str
    crafted: WhichLam | None
    shown: WhichLam
    right: np.ndarray
    verdict: Verdict

    @property
    def model(self) -> str:
        """Name of the model."""
        return self.duel.model

    @property
    def norm(self) -> str:
        """Norm of the budget."""
        return self.duel.norm

    @property
    def accuracy(self) -> float:
        """Share of the images that withstood, in [0, 1]."""
        return float(self.right.mean())

    def fields(self) -> dict[str, object]:
        """Return the columns of ``cells.csv`` and ``policy``."""
        cells = self.duel.cells
        crafted = self.shown if self.crafted is None else self.crafted
        cell = cells[cells["key"] == self.duel.keys[crafted, self.shown]].iloc[0]
        return {
            **{name: cell[name] for name in [*CELL_COLUMNS, "policy"]},
            **(dict.fromkeys(_OF_ONE_SET, math.nan) if self.crafted is None else {}),
            "threat": self.threat,
            **self.describe(),
        }


@dataclass(frozen=True, eq=False)
class Attacks:
    """The results of a run's attacks: :func:`tabulate_rows`, ``worst_case`` and :func:`transfer_matrix`.

    ``listed`` and ``survivors`` are the images behind ``rows`` and ``worst``, one entry per line.
    """

    rows: pd.DataFrame
    worst: pd.DataFrame
    transfers: pd.DataFrame
    listed: Sequence[Row] = ()
    survivors: Sequence[Survivors] = ()

    @property
    def has_lam(self) -> bool:
        """True if an attacked model has a λ."""
        return bool(self.rows["lam"].notna().any())

    @property
    def is_believed(self) -> bool:
        """True if every mark is OK."""
        return all((table["trust"] == OK).all() for table in (self.rows, self.worst, self.transfers))

    @classmethod
    def of(cls, run: Run) -> Attacks | None:
        """Analyse the attacks of a run; None if it has none."""
        if not run.cells["norm"].notna().any():
            return None
        duels = list_duels(run)
        survivors = find_survivors(run, duels)
        rows = list_rows(duels)
        return cls(tabulate_rows(run, rows), worst_case(run, survivors), transfer_matrix(duels), rows, survivors)


def list_rows(duels: Sequence[Duel]) -> list[Row]:
    """List a row for every model, attack, budget, threat model and λ."""
    rows = [row for duel in duels for row in _rows_of(duel)]
    alike: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        alike.setdefault((row.model, row.norm, row.threat, row.shown), []).append(row)
    return [_compare_with_others(row, alike[row.model, row.norm, row.threat, row.shown]) for row in rows]


def tabulate_rows(run: Run, rows: list[Row]) -> pd.DataFrame:
    """Tabulate the rows with intervals, marks and paired differences.

    Returns:
        The columns of ``cells.csv`` (``lam`` is empty at a policy), ``policy``, and two paired differences with their
        intervals, McNemar's p and the worse mark of the two numbers: ``gain, gain_low, gain_high, gain_p, gain_trust``
        (minus the accuracy at the training λ under the same threat model, or under ``whitebox`` for ``transfer``, whose
        images were crafted there) and ``versus, …`` (minus the accuracy of the baseline model; empty under
        ``transfer``, which a baseline does not have); between them ``attack_power`` with its interval, the share of
        planted adversarial examples that the attack finds (:mod:`robustness.measure.active_test`), empty if nothing was
        planted, for example because no image withstood.
    """
    trained = {(row.duel.target, row.threat): row for row in rows if row.shown == row.duel.trained}
    fields = [
        row.fields()
        | _power(row)
        | row.compare("gain", _find_trained(row, trained))
        | row.compare("versus", _find_baseline(run.baseline, row, trained))
        for row in rows
    ]
    differences = with_ends("gain", "versus", ends=MARKED_DIFFERENCE)
    return pd.DataFrame(fields, columns=[*CELL_COLUMNS, "policy", *with_ends("attack_power"), *differences])


def _power(row: Row) -> dict[str, object]:
    """Return the share of planted adversarial examples found by the attack behind a row; empty for a worst case."""
    found, planted = row.duel.power(row.crafted) if row.crafted is not None else (0, 0)
    return name_values("attack_power", (found / planted, *wilson_interval(found, planted))) if planted else {}


def _find_trained(row: Row, trained: Mapping[tuple[Target, str], Row]) -> Row | None:
    """Return the row at the training λ to compare ``row`` with; None for that row itself and if there is none."""
    threat = "whitebox" if row.threat == "transfer" else row.threat
    if row.duel.trained.value is None or row.shown == row.duel.trained:
        return None
    return trained.get((row.duel.target, threat))


def _find_baseline(baseline: str | None, row: Row, trained: Mapping[tuple[Target, str], Row]) -> Row | None:
    """Return the baseline model's row under the same attack: for a worst case its worst case, if it also has a λ.

    Transferred images are easier than the images of a white-box attack on the baseline, so they are not compared.
    """
    if baseline is None or row.model == baseline or row.threat == "transfer":
        return None
    target = (baseline, *row.duel.target[1:])
    return trained.get((target, row.threat)) or trained.get((target, "whitebox"))


def _compare_with_others(row: Row, rows: Sequence[Row]) -> Row:
    """Return ``row`` with the marks that other numbers of the run give its accuracy.

    Args:
        row: the row of one attack at one ε.
        rows: the rows of the same model, norm, threat model and λ, at any attack and ε. The images of a smaller ε also
            lie within a larger one.
    """
    duel = row.duel
    within = [other for other in rows if other.duel.eps <= duel.eps]
    smaller = {
        format_eps(other.duel.eps, other.duel.norm): other.accuracy
        for other in within
        if other.duel.attack == duel.attack and other.duel.eps < duel.eps
    }
    verdicts = [row.verdict, judge_rise(row.accuracy, smaller)]
    stronger = min(
        (other for other in within if other.duel.attack != duel.attack), key=lambda other: other.accuracy, default=None
    )
    if stronger is not None:
        name = f"{stronger.duel.attack} at ε = {format_eps(stronger.duel.eps, stronger.duel.norm)}"
        reason = f"{name} leaves {stronger.accuracy:.1%}, this attack {row.accuracy:.1%}: quote the worst case"
        verdicts.append(grade(round(row.accuracy - stronger.accuracy, 9), BEATEN, reason))
    return dataclasses.replace(row, verdict=unite(verdicts))


def _rows_of(duel: Duel) -> list[Row]:
    rows = []
    threats = duel.run.record["suite"]["threats"]
    for shown in duel.choices:
        elsewhere = duel.crafted_elsewhere(shown)
        own = duel.right(shown, shown)
        rows.append(Row(duel, "whitebox", shown, shown, own, _judge_pair(duel, shown, shown)))
        if "transfer" in threats and duel.trained in elsewhere and duel.trained in duel.choices:
            verdict = _judge_pair(duel, duel.trained, shown)
            rows.append(Row(duel, "transfer", duel.trained, shown, elsewhere[duel.trained], verdict))
        if "adaptive" in threats and elsewhere and duel.is_complete(shown):
            right = np.logical_and.reduce([own, *elsewhere.values()])
            verdict = duel.own_verdict(shown, elsewhere.values())
            rows.append(Row(duel, "adaptive", None, shown, right, verdict))
    return rows


def _judge_pair(duel: Duel, crafted: WhichLam, shown: WhichLam) -> Verdict:
    """Judge the white-box attacks at both λs, and compare them with other images that fool the model more often.

    For a white-box attack, the other images are the images of every other λ; otherwise they are the images crafted for
    ``shown``.
    """
    others = duel.crafted_elsewhere(shown)
    if crafted != shown:
        others = {shown: duel.right(shown, shown)} if (shown, shown) in duel.keys else {}
    doubt = judge_transfer(duel.right(crafted, shown), {choice.title: right for choice, right in others.items()})
    own = [duel.verdicts[choice] for choice in dict.fromkeys((crafted, shown)) if choice in duel.verdicts]
    return unite([*own, doubt])


def transfer_matrix(duels: Sequence[Duel]) -> pd.DataFrame:
    """Tabulate the accuracy for every pair of λ: on images crafted for one, with the model at the other.

    Returns:
        Columns ``model, perturbation, norm, eps, crafted, shown, n, accuracy, ci_low, ci_high, trust, trust_reason``;
        ``crafted`` and ``shown`` are λs, ``residual`` for the policy, or empty for a model without λ.
    """
    columns = ["model", "perturbation", "norm", "eps", "crafted", "shown", "n", *ACCURACY, "trust", "trust_reason"]
    rows = []
    for duel in duels:
        for crafted, shown in duel.keys:
            if shown not in duel.clean:
                continue
            right = duel.right(crafted, shown)
            row = dict(zip(("model", "perturbation", "norm", "eps"), duel.target, strict=True))
            row |= {"crafted": crafted.entry, "shown": shown.entry}
            rows.append(row | describe_right(right, _judge_pair(duel, crafted, shown)))
    return pd.DataFrame(rows, columns=columns)
