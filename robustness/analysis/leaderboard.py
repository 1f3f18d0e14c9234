"""A leaderboard of a run's models that shows which of them its images can tell apart."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_prep.shifts import SHIFTS
from robustness.analysis.attacks import Attacks
from robustness.analysis.frames import Run
from robustness.analysis.sequences import find_steady
from robustness.analysis.summary import Settings, average, average_rows, find_main_mean, list_planned
from robustness.attack import NORMS, format_eps
from robustness.statistics import accuracy_interval, adjust_for_many, paired_answers, paired_differences
from robustness.verdicts import INVALID

_LEVEL = 0.05
_SCORES = ("mce", "relative_mce", "mce_alexnet")
_TOP5 = ("clean_top5", "mean_top5")
_MEANS = ("clean", "mean", "shifts", "steady", *_TOP5)
_OF_NONE = ("none", "trained", "fixed")
"""Policies that a leaderboard may show; a model gets the first that it has."""


@dataclass(frozen=True)
class Leaderboard:
    """Every model once: without λ, or at its training λ (if that was not measured, at the nearest measured λ).

    Args:
        table: a row per model, best first. Columns ``model, lam, n``; ``rank_from, rank_to``: one more than the
            number of models that are significantly better, and the number of models less those that are significantly
            worse, NaN where nothing can be ranked; ``alike``: models that cannot be told apart from it, separated by
            ``; ``; ``clean``, ``mean`` (over the corruptions), ``shifts`` (over all shifted images), ``steady``
            (1 − mFP), ``clean_top5``, ``mean_top5``, ``mce, relative_mce, mce_alexnet``, and a column for every one of
            ``threats``, each with ``_low`` and ``_high``; ``<threat>_trust``. Fractions, mCE in percent.
        measure: the column that models are ranked by.
        threats: norm and ε in words, by column.
    """

    table: pd.DataFrame
    measure: str
    threats: dict[str, str]

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
    threats = {name_threat(norm, eps): f"{NORMS[norm]} {format_eps(eps, norm)}" for norm, eps in budgets}
    measure = (
        "mean"
        if title
        else max_threat(budgets) or ("steady" if len(run.sequences) else "shifts" if len(run.shifted) else "clean")
    )
    steady = find_steady(run)
    rows: list[dict[str, Any]] = []
    values: dict[str, NDArray[np.float64]] = {}
    for model, (policy, lam) in find_entries(run, summary).items():
        own = summary[_is_of(summary, model, policy, lam)].set_index("perturbation")
        row = {"model": model, "lam": lam}
        row |= _take(own, "clean", "clean") | _take(own, title, "mean")
        row |= {"n": own["n"].iloc[0]} if len(own) else {}
        shifted = find_shifted(run, model, lam)
        if shifted is not None:
            row |= dict(zip(("shifts", "shifts_low", "shifts_high"), accuracy_interval(shifted), strict=True))
            values |= {model: shifted} if measure == "shifts" else {}
        kept = steady.get((model, -1.0 if math.isnan(lam) else lam))
        if kept is not None:
            row |= dict(zip(("steady", "steady_low", "steady_high"), accuracy_interval(kept), strict=True))
            values |= {model: kept} if measure == "steady" else {}
        row |= _count_top5(run, model, lam, planned if title else [])
        of_scores = scores[_is_of(scores, model, policy, lam)]
        for name in _SCORES if len(of_scores) else ():
            row |= {f"{name}{end}": of_scores.iloc[0][f"{name}{end}"] for end in ("", "_low", "_high")}
        for survivors in () if attacks is None else attacks.survivors:
            if survivors.model == model and (survivors.lam == lam or math.isnan(lam)) and not survivors.policy:
                threat = name_threat(survivors.norm, survivors.eps)
                row |= survivors.name_values(threat)
                if threat == measure and row[f"{threat}_trust"] != INVALID:
                    values[model] = survivors.right.astype(float)
        places = settings.get((model, policy, str(lam if policy == "fixed" else math.nan)), {})
        if measure in ("mean", "clean") and planned and all(place in places for place in planned):
            values[model] = average(places, planned)
        rows.append(row)
    ends = [f"{name}{end}" for name in (*_MEANS, *_SCORES, *threats) for end in ("", "_low", "_high")]
    columns = ["model", "lam", "n", "rank_from", "rank_to", "alike", *ends, *(f"{name}_trust" for name in threats)]
    ranks = rank_values(values)
    table = pd.DataFrame([{**row, **ranks.get(row["model"], {})} for row in rows], columns=columns)
    table = table.sort_values(measure, ascending=False, kind="stable", na_position="last", ignore_index=True)
    return Leaderboard(table, measure, threats)


def find_shifted(run: Run, model: str, lam: float) -> NDArray[np.float64] | None:
    """Return (N,) correct predictions of a model on the images of all shifts; None if any shift is missing."""
    rows, asked = run.shifted, {cell["shift"] for cell in run.record["cells"] if "shift" in cell}
    own = rows[rows["perturbation"].isin(SHIFTS) & (rows["model"] == model) & ((rows["lam"] == lam) | math.isnan(lam))]
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


def rank_values(values: Mapping[str, NDArray[np.float64]]) -> dict[str, dict[str, Any]]:
    """Compute ``rank_from, rank_to, alike`` of every model, from (N,) values of its images; larger is better."""
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
        if p < _LEVEL and (low > 0 or high < 0):
            winner, loser = (first, other) if low > 0 else (other, first)
            better[loser].add(winner)
    worse = {model: {loser for loser in models if model in better[loser]} for model in models}
    return {
        model: {
            "rank_from": 1 + len(better[model]),
            "rank_to": len(models) - len(worse[model]),
            "alike": "; ".join(m for m in models if m != model and m not in better[model] | worse[model]),
        }
        for model in models
    }


def find_entries(run: Run, summary: pd.DataFrame) -> dict[str, tuple[str, float]]:
    """Choose policy and λ at which each model appears once: without λ, at the training λ, or near it."""
    entries = {}
    trained = {model["name"]: model["lam"] for model in run.record["models"]}
    for model in run.models:
        own = summary[summary["model"] == model]
        of_policy = {name: lams for name in _OF_NONE if len(lams := own.loc[own["policy"] == name, "lam"])}
        if of_policy:
            policy, lams = next(iter(of_policy.items()))
            nearest = (lams - (trained[model] or 0.0)).abs().argmin() if policy == "fixed" else 0
            entries[model] = policy, float(lams.iloc[nearest])
    return entries


def _count_top5(run: Run, model: str, lam: float, planned: list[tuple[str, int]]) -> dict[str, float]:
    """Return the share of images whose label is among the five likeliest classes, if that was stored."""
    own = run.corrupted[(run.corrupted["model"] == model) & ((run.corrupted["lam"] == lam) | math.isnan(lam))]
    keys = {(name, level): key for name, level, key in zip(own["perturbation"], own["severity"], own["key"])}
    row: dict[str, float] = {}
    for title, places in zip(_TOP5, ([("clean", 0)], planned)):
        if places and all(place in keys for place in places):
            answers = run.answers([keys[place] for place in places])
            if "top5" in answers:
                values = accuracy_interval(average_rows(answers["top5"], places))
                row |= dict(zip((title, f"{title}_low", f"{title}_high"), values, strict=True))
    return row


def _is_of(frame: pd.DataFrame, model: str, policy: str, lam: float) -> pd.Series:
    """Select the rows of one model under one policy; for ``fixed`` the rows at ``lam``."""
    own = (frame["model"] == model) & (frame["policy"] == policy)
    return own & (frame["lam"] == lam) if policy == "fixed" else own


def _take(own: pd.DataFrame, perturbation: str | None, name: str) -> dict[str, float]:
    if perturbation not in own.index:
        return {}
    values = own[own.index == perturbation][["accuracy", "ci_low", "ci_high"]].to_numpy(dtype=np.float64)[0].tolist()
    return dict(zip((name, f"{name}_low", f"{name}_high"), values, strict=True))
