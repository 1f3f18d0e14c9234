"""Tidy tables of the accuracy of every model under every λ policy, with intervals and paired differences."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_prep import corruption_names
from robustness.analysis.decisions import Decision
from robustness.analysis.frames import Run
from robustness.statistics import (
    accuracy_interval,
    adjust_for_many,
    paired_answers,
    paired_differences,
    wilson_interval,
)

_LEVEL = 0.05
_CALIBRATION = ("calibration", "calibration_low", "calibration_high")
MEAN, MEAN_OF_CBAR, MEAN_OF_EXTRA = "mean of corruptions", "mean of C-bar", "mean of extra corruptions"
Places = dict[tuple[str, int], Decision]
"""The decisions of one model under one policy, by perturbation and severity."""
Settings = dict[tuple[str, str, str], Places]
"""Decisions by model, policy and, for ``fixed``, the λ as text."""
_Difference = tuple[dict[str, Any], str, NDArray[np.float64]]
"""A row of a table, the name of a difference in it, and the difference of every image, (N,)."""
Means = NDArray[np.float64]
_NO_SETTING = str(math.nan)
_NO_DIFFERENCE = (0.0, 0.0, 0.0, 1.0)
"""Difference between identical answers at one λ: no other images would tell them apart."""


def tabulate_policies(run: Run, settings: Settings) -> pd.DataFrame:
    """Tabulate one row per model, policy, perturbation and severity.

    Returns:
        Columns ``perturbation, severity, model, policy, lam, n, accuracy, ci_low, ci_high`` (Wilson); ``gain, gain_low,
        gain_high, gain_p``: accuracy minus accuracy at the training λ, paired by image, with Bonett and Price's
        interval and McNemar's exact p; ``versus, versus_low, versus_high, versus_p``: the same against the baseline
        model; and ``nll, ece``, ``calibration, calibration_low, calibration_high``
        (:func:`~robustness.analysis.metrics.root_calibration_error`), ``residual, sparsity``.
    """
    rows = []
    for decision in (decision for places in settings.values() for decision in places.values()):
        place, correct = (decision.perturbation, decision.severity), decision.correct
        low, high = wilson_interval(int(correct.sum()), len(correct))
        row = {name: getattr(decision, name) for name in ("perturbation", "severity", "model", "policy", "lam")}
        row |= {"n": len(correct), "accuracy": correct.mean(), "ci_low": low, "ci_high": high}
        for title, reference in _references(run, settings, decision.model).items():
            if place in reference:
                row |= _compare_answers(title, decision, reference[place])
        row |= zip(_CALIBRATION, decision.calibration, strict=True)
        rows.append(row | {name: getattr(decision, name) for name in ("nll", "ece", "residual", "sparsity")})
    columns = ["perturbation", "severity", "model", "policy", "lam", "n", "accuracy", "ci_low", "ci_high"]
    columns += [f"{title}{suffix}" for title in ("gain", "versus") for suffix in ("", "_low", "_high", "_p")]
    return pd.DataFrame(rows, columns=[*columns, "nll", "ece", *_CALIBRATION, "residual", "sparsity"])


def summarise(run: Run, settings: Settings) -> pd.DataFrame:
    """Average accuracy over the severities of every corruption, and over the corruptions, for every model and λ policy.

    Every image counts once, with its mean: the images are the independent units of the intervals
    (:func:`~robustness.statistics.accuracy_interval`, for differences
    :func:`~robustness.statistics.paired_differences`). A mean over corruptions is given only if none of
    their cells is missing; the extra corruptions have a mean of their own.

    Returns:
        Columns ``perturbation, model, policy, lam, n, severities, accuracy, ci_low, ci_high``, ``gain, gain_low,
        gain_high`` (minus the accuracy at the training λ) and ``versus, versus_low, versus_high`` (minus the accuracy
        of the baseline model), both paired by image; ``gain_p, versus_p``: McNemar's exact p where the mean is of one
        cell only, p of the sign-flip test if at most ten images differ, and otherwise p of the interval's t.
        ``lam`` is the mean of the λs that the policy chose.
    """
    rows = []
    for title, names in {**{name: [name] for name in ["clean", *run.corruptions]}, **group_corruptions(run)}.items():
        planned = list_planned(run, names)
        differences: list[_Difference] = []
        for (model, policy, _), places in settings.items():
            measured = [place for place in planned if place in places]
            if not measured or (title in (MEAN, MEAN_OF_CBAR, MEAN_OF_EXTRA) and measured != planned):
                continue
            values = average(places, measured)
            row = {"perturbation": title, "model": model, "policy": policy, "n": len(values)}
            lam = float(np.mean([places[place].lam for place in measured]))
            row |= {"lam": round(lam, 10), "severities": len(measured)}
            row |= zip(("accuracy", "ci_low", "ci_high"), accuracy_interval(values), strict=True)
            for name, reference in _references(run, settings, model).items():
                if len(measured) == 1 and measured[0] in reference:
                    row |= _compare_answers(name, places[measured[0]], reference[measured[0]])
                elif all(place in reference for place in measured):
                    if all(is_same(places[place], reference[place]) for place in measured):
                        row |= _name_values(name, _NO_DIFFERENCE)
                    else:
                        differences.append((row, name, values - average(reference, measured)))
            rows.append(row)
        _fill_in(differences)
    columns = ["perturbation", "model", "policy", "lam", "n", "severities", "accuracy", "ci_low", "ci_high"]
    columns += [f"{name}{suffix}" for name in ("gain", "versus") for suffix in ("", "_low", "_high", "_p")]
    return pd.DataFrame(rows, columns=columns)


def find_direction(row: pd.Series | dict[Hashable, Any], name: str) -> int:
    """Return +1 or −1 if the difference ``name`` (``gain`` or ``versus``) of a row is significant, otherwise 0.

    Its interval must exclude zero and p be below 0.05: McNemar's p in a single cell, in a mean the p of
    :func:`~robustness.statistics.paired_differences`. This is for one comparison chosen beforehand; for a
    whole table see :func:`find_directions`.
    """
    if row[f"{name}_p"] >= _LEVEL:
        return 0
    return int(row[f"{name}_low"] > 0) - int(row[f"{name}_high"] < 0)


def find_directions(table: pd.DataFrame, name: str) -> pd.Series:
    """Apply :func:`find_direction` to every row of a table, with p adjusted for all of its rows (Holm)."""
    adjusted = table.assign(**{f"{name}_p": adjust_for_many(table[f"{name}_p"])})
    return pd.Series([find_direction(row, name) for row in adjusted.to_dict("records")], index=table.index, dtype=int)


def group_corruptions(run: Run) -> dict[str, list[str]]:
    """Group the corruptions that are averaged together, by the title of their mean, in the order given.

    The standard 15 are what robustness is reported on; the extra 4, which serve to choose λ, come last and apart, and
    so do the corruptions of C-bar next to others. The noise sweep has a list of its own, which is one group.
    """
    extra = () if run.record["suite"]["profile"] == "sweep" else corruption_names("extra")
    bar = corruption_names("cbar") if not set(run.corruptions) <= set(corruption_names("cbar")) else ()
    groups = {
        MEAN: [name for name in run.corruptions if name not in (*bar, *extra)],
        MEAN_OF_CBAR: [name for name in run.corruptions if name in bar],
        MEAN_OF_EXTRA: [name for name in run.corruptions if name in extra],
    }
    return {title: members for title, members in groups.items() if members}


def find_main_mean(run: Run) -> tuple[str | None, list[str]]:
    """Return the mean that sums a run up, and its corruptions: the extra ones only if there are no others."""
    return next(iter(group_corruptions(run).items()), (None, []))


def list_planned(run: Run, names: list[str]) -> list[tuple[str, int]]:
    """List perturbation and severity of every requested cell, finished or not."""
    split = run.record["data"]["split"]
    asked = [cell for cell in run.record["cells"] if cell["split"] == split and not cell.get("threat")]
    return list(dict.fromkeys((c["perturbation"], c["severity"]) for c in asked if c["perturbation"] in names))


def group_settings(decisions: list[Decision]) -> Settings:
    """Group the decisions by model, policy and fixed λ."""
    settings: Settings = {}
    for decision in decisions:
        setting = (decision.model, decision.policy, str(float(decision.setting)))
        settings.setdefault(setting, {})[decision.perturbation, decision.severity] = decision
    return settings


def find_baseline(run: Run, settings: Settings) -> Places:
    """Return the decisions of the baseline model, at its training λ if it has one; empty if there is none."""
    baseline = str(run.baseline)
    return settings.get((baseline, "none", _NO_SETTING)) or settings.get((baseline, "trained", _NO_SETTING), {})


def _references(run: Run, settings: Settings, model: str) -> dict[str, Places]:
    """Return the references of a model: itself at the training λ (``gain``), the baseline model (``versus``)."""
    trained = settings.get((model, "trained", _NO_SETTING), {})
    return {"gain": trained, "versus": find_baseline(run, settings) if model != run.baseline else {}}


def average(places: Places, measured: list[tuple[str, int]]) -> NDArray[np.float64]:
    """Compute (N,) means over the severities of every corruption, then over the corruptions."""
    return average_rows([places[place].correct for place in measured], measured)


def average_rows(rows: Sequence[NDArray[np.bool_]] | NDArray[np.bool_], measured: list[tuple[str, int]]) -> Means:
    """Compute (N,) means of ``rows`` (P, N), one for each of ``measured``, over severities, then over corruptions."""
    names = [name for name, _ in measured]
    counts = Counter(names)
    weights = np.array([1 / (counts[name] * len(counts)) for name in names])
    return np.asarray(weights @ np.asarray(rows, dtype=np.float64))


def is_same(decision: Decision, reference: Decision) -> bool:
    """Check that both are one model at the same λs, and not two that happen to be right on the same images."""
    is_one_lam = decision.lam == reference.lam or (math.isnan(decision.lam) and math.isnan(reference.lam))
    is_right_alike = decision.nll == reference.nll and np.array_equal(decision.correct, reference.correct)
    return is_one_lam and is_right_alike


def _compare_answers(name: str, decision: Decision, reference: Decision) -> dict[str, float]:
    """Compute the difference ``name`` from another decision on the same images, its interval and McNemar's p."""
    if is_same(decision, reference):
        return _name_values(name, _NO_DIFFERENCE)
    return _name_values(name, paired_answers(decision.correct, reference.correct))


def _name_values(name: str, values: Sequence[float]) -> dict[str, float]:
    return dict(zip((name, f"{name}_low", f"{name}_high", f"{name}_p"), values, strict=True))


def _fill_in(differences: list[_Difference]) -> None:
    """Fill rows with the means of their differences, the intervals and p."""
    if not differences:
        return
    found = paired_differences(np.stack([values for _, _, values in differences], axis=1)).tolist()
    for (row, name, _), values in zip(differences, found, strict=True):
        row |= _name_values(name, values)
