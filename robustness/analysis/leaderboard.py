"""A leaderboard of a run's models that shows which of them its images can tell apart."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_prep.shifts import SHIFTS
from robustness.analysis.attacks import Attacks
from robustness.analysis.columns import ACCURACY, name_values, select_lam, to_key, to_records, with_ends
from robustness.analysis.decisions import Place, Setting
from robustness.analysis.frames import Run
from robustness.analysis.sequences import find_steady
from robustness.analysis.summary import Settings, average, average_rows, find_main_mean, list_planned
from robustness.analysis.texts import name_budget
from robustness.statistics import accuracy_interval, adjust_for_many, find_direction, paired_answers, paired_differences
from robustness.verdicts import INVALID

PERCENT = ("mce", "relative_mce", "mce_alexnet")
"""Columns in percent."""
_TOP5 = ("clean_top5", "mean_top5")
SHARES = ("clean", "mean", "shifts", "steady", *_TOP5)
"""Columns that hold shares, in addition to the threats."""
_OF_NONE = ("none", "trained", "fixed")
"""Policies that a leaderboard may show; a model gets the first that it has."""


class Rank(NamedTuple):
    """The first and last place that a model may have, and the models that cannot be told apart from it."""

    first: int
    last: int
    alike: list[str]


@dataclass(frozen=True)
class Leaderboard:
    """Every model once: without λ, or at its training λ (if that was not measured, at the nearest measured λ).

    Args:
        table: a row per model, best first. Columns ``model, lam, n``; ``rank_from, rank_to``: one more than the number
            of models that are significantly better, and the number of models minus the number that are significantly
            worse, NaN where models cannot be ranked; ``alike``: models that cannot be told apart from it, separated by
            ``; ``; ``clean``, ``mean`` (over the corruptions), ``shifts`` (over all shifted images), ``steady``
            (1 − mFP), ``clean_top5``, ``mean_top5``, ``mce, relative_mce, mce_alexnet``, and a column for every one of
            ``threats``, each with ``_low`` and ``_high``; ``<threat>_trust``. Fractions, mCE in percent.
        measure: the column that models are ranked by.
        threats: norm and ε in words, by column.
        ranks: the ranks of the models that can be ranked.
    """

    table: pd.DataFrame
    measure: str
    threats: dict[str, str]
    ranks: dict[str, Rank]

    @property
    def title(self) -> str:
        """Title of the ranking measure."""
        titles = {"mean": "corrupted", "shifts": "natural shifts", "steady": "frames of the same class"}
        return {**titles, **self.threats}.get(self.measure, self.measure)

    @property
    def is_contest(self) -> bool:
        """True if there are several models to rank."""
        return bool(self.table["rank_from"].notna().sum() > 1)


def rank_models(
    run: Run, settings: Settings, summary: pd.DataFrame, scores: pd.DataFrame, attacks: Attacks | None
) -> Leaderboard:
    """Rank the models by mean over the corruptions, else by worst case, sequences, shifts, or clean accuracy.

    Two models are told apart if a paired test over the images does so (McNemar's for single answers, otherwise the test
    of :func:`~robustness.statistics.paired_differences`) after Holm's adjustment for all pairs. The worst case
    is taken in the first norm at its largest ε; a worst case marked INVALID is not ranked.
    """
    title, names = find_main_mean(run)
    planned = list_planned(run, names or ["clean"])
    worst = None if attacks is None else attacks.worst
    budgets = [] if worst is None else list(worst[["norm", "eps"]].drop_duplicates().itertuples(index=False, name=None))
    threats = {name_threat(norm, eps): name_budget(norm, eps) for norm, eps in budgets}
    measure = (
        "mean"
        if title
        else max_threat(budgets) or ("steady" if len(run.sequences) else "shifts" if len(run.shifted) else "clean")
    )
    steady = find_steady(run)
    rows: list[dict[str, Any]] = []
    values: dict[str, NDArray[np.float64]] = {}
    for setting, lam in find_entries(run, summary).items():
        model = setting.model
        own = _select(summary, setting).set_index("perturbation")
        row: dict[str, Any] = {"model": model, "lam": lam}
        row |= _take(own, "clean", "clean") | _take(own, title, "mean")
        row |= {"n": own["n"].iloc[0]} if len(own) else {}
        shifted = find_shifted(run, model, lam)
        if shifted is not None:
            row |= name_values("shifts", accuracy_interval(shifted))
            values |= {model: shifted} if measure == "shifts" else {}
        kept = steady.get((model, to_key(lam)))
        if kept is not None:
            row |= name_values("steady", accuracy_interval(kept))
            values |= {model: kept} if measure == "steady" else {}
        row |= _count_top5(run, model, lam, planned if title else [])
        for of_scores in to_records(_select(scores, setting).head(1)):
            row |= {name: of_scores[name] for name in with_ends(*PERCENT)}
        for survivors in () if attacks is None else attacks.survivors:
            if survivors.model == model and (survivors.lam == lam or math.isnan(lam)) and not survivors.policy:
                threat = name_threat(survivors.norm, survivors.eps)
                row |= survivors.name_values(threat)
                if threat == measure and row[f"{threat}_trust"] != INVALID:
                    values[model] = survivors.right.astype(float)
        places = settings.get(setting, {})
        if measure in ("mean", "clean") and planned and all(place in places for place in planned):
            values[model] = average(places, planned)
        rows.append(row)
    columns = ["model", "lam", "n", "rank_from", "rank_to", "alike", *with_ends(*SHARES, *PERCENT, *threats)]
    columns += [f"{name}_trust" for name in threats]
    ranks = rank_values(values)
    for row in rows:
        if rank := ranks.get(row["model"]):
            row |= {"rank_from": rank.first, "rank_to": rank.last, "alike": "; ".join(rank.alike)}
    table = pd.DataFrame(rows, columns=columns)
    table = table.sort_values(measure, ascending=False, kind="stable", na_position="last", ignore_index=True)
    return Leaderboard(table, measure, threats, ranks)


def find_shifted(run: Run, model: str, lam: float) -> NDArray[np.float64] | None:
    """Return (N,) correct predictions of a model on the images of all shifts; None if any shift is missing."""
    rows, asked = run.shifted, {cell["shift"] for cell in run.record["cells"] if "shift" in cell}
    own = select_lam(rows[rows["perturbation"].isin(SHIFTS)], model, lam)
    if not asked or {*own["shift"]} != asked:
        return None
    return np.concatenate([run.correct([key])[0] for key in own["key"]]).astype(float)


def name_threat(norm: str, eps: float) -> str:
    """Name the column of the worst case within a budget: ``robust_linf_0.0314``."""
    return f"robust_{norm}_{eps:.4g}"


def max_threat(budgets: Iterable[tuple[str, float]]) -> str | None:
    """Return the column of the largest ε in the first norm."""
    listed = list(budgets)
    of_first = [(norm, eps) for norm, eps in listed if norm == listed[0][0]]
    return name_threat(*max(of_first, key=lambda budget: budget[1])) if of_first else None


def rank_values(values: Mapping[str, NDArray[np.float64]]) -> dict[str, Rank]:
    """Rank every model by (N,) values of its images; larger is better."""
    models = list(values)
    pairs, found = [], []
    for place, first in enumerate(models[:-1]):
        others = models[place + 1 :]
        pairs += [(first, other) for other in others]
        differences = np.stack([values[first] - values[other] for other in others], axis=1)
        if all(np.isin(values[model], (0.0, 1.0)).all() for model in (first, *others)):
            found += [paired_answers(values[first], values[other]) for other in others]
        else:
            found += paired_differences(differences).tolist()
    adjusted = adjust_for_many([p for *_, p in found])
    better: dict[str, set[str]] = {model: set() for model in models}
    for (first, other), (_, low, high, _), p in zip(pairs, found, adjusted, strict=True):
        if direction := find_direction(low, high, p):
            winner, loser = (first, other) if direction > 0 else (other, first)
            better[loser].add(winner)
    worse = {model: {loser for loser in models if model in better[loser]} for model in models}
    return {
        model: Rank(
            first=1 + len(better[model]),
            last=len(models) - len(worse[model]),
            alike=[other for other in models if other != model and other not in better[model] | worse[model]],
        )
        for model in models
    }


def find_entries(run: Run, summary: pd.DataFrame) -> dict[Setting, float]:
    """Choose the setting, and its λ, at which each model appears once: without λ, at the training λ, or near it."""
    entries = {}
    trained = {model["name"]: model["lam"] for model in run.record["models"]}
    for model in run.models:
        own = summary[summary["model"] == model]
        of_policy = {name: lams for name in _OF_NONE if len(lams := own.loc[own["policy"] == name, "lam"])}
        if of_policy:
            policy, lams = next(iter(of_policy.items()))
            nearest = (lams - (trained[model] or 0.0)).abs().argmin() if policy == "fixed" else 0
            lam = float(lams.iloc[nearest])
            entries[Setting(model, policy, lam if policy == "fixed" else None)] = lam
    return entries


def _count_top5(run: Run, model: str, lam: float, planned: list[Place]) -> dict[str, float]:
    """Return the share of images whose label is among the five likeliest classes, if that was stored."""
    own = select_lam(run.corrupted, model, lam)
    keys = {(name, level): key for name, level, key in zip(own["perturbation"], own["severity"], own["key"])}
    row: dict[str, float] = {}
    for title, places in zip(_TOP5, ([("clean", 0)], planned)):
        if places and all(place in keys for place in places):
            answers = run.answers([keys[place] for place in places])
            if "top5" in answers:
                row |= name_values(title, accuracy_interval(average_rows(answers["top5"], places)))
    return row


def _select(frame: pd.DataFrame, setting: Setting) -> pd.DataFrame:
    """Select the rows of a table at one setting."""
    is_own = (frame["model"] == setting.model) & (frame["policy"] == setting.policy)
    return frame[is_own & ((setting.lam is None) | (frame["lam"] == setting.lam))]


def _take(own: pd.DataFrame, perturbation: str | None, name: str) -> dict[str, float]:
    if perturbation not in own.index:
        return {}
    return name_values(name, own[own.index == perturbation][[*ACCURACY]].to_numpy(dtype=np.float64)[0].tolist())
