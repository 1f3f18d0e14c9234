"""Tidy tables of the accuracy of every model under every λ policy, with intervals and paired differences."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_prep import corruption_names
from robustness.analysis.columns import ACCURACY, DIFFERENCE, name_values, with_ends
from robustness.analysis.decisions import Decision, Place, Setting
from robustness.analysis.frames import Run
from robustness.statistics import (
    accuracy_interval,
    adjust_for_many,
    find_direction,
    paired_answers,
    paired_differences,
    wilson_intervals,
)

MEAN, MEAN_OF_CBAR, MEAN_OF_EXTRA = "mean of corruptions", "mean of C-bar", "mean of extra corruptions"
Places = dict[Place, Decision]
"""The decisions of one model under one policy, by perturbation and severity."""
Settings = dict[Setting, Places]
"""Decisions by setting."""
_Difference = tuple[dict[str, Any], str, NDArray[np.float64]]
"""A row of a table, the name of a difference in it, and the difference of every image, (N,)."""
Means = NDArray[np.float64]
_NO_DIFFERENCE = (0.0, 0.0, 0.0, 1.0)
"""Difference between a model and itself at the same λs, which is 0 on any images."""
_OF_DECISION = ("perturbation", "severity", "model", "policy", "lam", "nll", "ece", "residual", "sparsity")


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
    decisions = [decision for places in settings.values() for decision in places.values()]
    n = np.array([len(decision.correct) for decision in decisions])
    shares = np.array([np.count_nonzero(decision.correct) for decision in decisions]) / n
    accuracies = np.column_stack([shares, wilson_intervals(shares, n)]).tolist()
    for decision, accuracy in zip(decisions, accuracies, strict=True):
        row = {name: getattr(decision, name) for name in _OF_DECISION}
        row |= {"n": len(decision.correct), **dict(zip(ACCURACY, accuracy, strict=True))}
        for title, reference in _references(run, settings, decision.model).items():
            if decision.place in reference:
                row |= _compare_answers(title, decision, reference[decision.place])
        rows.append(row | name_values("calibration", decision.calibration))
    columns = ["perturbation", "severity", "model", "policy", "lam", "n", *ACCURACY]
    columns += [*with_ends("gain", "versus", ends=DIFFERENCE), "nll", "ece", *with_ends("calibration")]
    return pd.DataFrame(rows, columns=[*columns, "residual", "sparsity"])


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
        for setting, places in settings.items():
            measured = [place for place in planned if place in places]
            if not measured or (title in (MEAN, MEAN_OF_CBAR, MEAN_OF_EXTRA) and measured != planned):
                continue
            values = average(places, measured)
            row = {"perturbation": title, "model": setting.model, "policy": setting.policy, "n": len(values)}
            lam = float(np.mean([places[place].lam for place in measured]))
            row |= {"lam": round(lam, 10), "severities": len(measured)}
            row |= zip(ACCURACY, accuracy_interval(values), strict=True)
            for name, reference in _references(run, settings, setting.model).items():
                if len(measured) == 1 and measured[0] in reference:
                    row |= _compare_answers(name, places[measured[0]], reference[measured[0]])
                elif all(place in reference for place in measured):
                    if all(is_same(places[place], reference[place]) for place in measured):
                        row |= name_values(name, _NO_DIFFERENCE, DIFFERENCE)
                    else:
                        differences.append((row, name, values - average(reference, measured)))
            rows.append(row)
        _fill_in(differences)
    columns = ["perturbation", "model", "policy", "lam", "n", "severities", *ACCURACY]
    return pd.DataFrame(rows, columns=[*columns, *with_ends("gain", "versus", ends=DIFFERENCE)])


def direction_of(row: Mapping[Any, Any] | pd.Series, name: str) -> int:
    """Apply :func:`~robustness.statistics.find_direction` to the difference ``name`` (``gain`` or ``versus``) of a row.

    p is McNemar's in a single cell, in a mean the p of :func:`~robustness.statistics.paired_differences`. This is for
    one comparison chosen beforehand; for a whole table see :func:`directions_of`.
    """
    return find_direction(row[f"{name}_low"], row[f"{name}_high"], row[f"{name}_p"])


def directions_of(table: pd.DataFrame, name: str) -> list[int]:
    """Apply :func:`direction_of` to every row of a table, with p adjusted for all of its rows (Holm)."""
    return list(map(find_direction, table[f"{name}_low"], table[f"{name}_high"], adjust_for_many(table[f"{name}_p"])))


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


def list_planned(run: Run, names: list[str]) -> list[Place]:
    """List perturbation and severity of every requested cell, finished or not."""
    split = run.record["data"]["split"]
    asked = [cell for cell in run.record["cells"] if cell["split"] == split and not cell.get("threat")]
    return list(dict.fromkeys((c["perturbation"], c["severity"]) for c in asked if c["perturbation"] in names))


def group_settings(decisions: list[Decision]) -> Settings:
    """Group the decisions by model, policy and fixed λ."""
    settings: Settings = {}
    for decision in decisions:
        settings.setdefault(decision.setting, {})[decision.place] = decision
    return settings


def find_baseline(run: Run, settings: Settings) -> Places:
    """Return the decisions of the baseline model, at its training λ if it has one; empty if there is none."""
    settings_of = (Setting(str(run.baseline), policy) for policy in ("none", "trained"))
    return next((settings[setting] for setting in settings_of if setting in settings), {})


def _references(run: Run, settings: Settings, model: str) -> dict[str, Places]:
    """Return the references of a model: itself at the training λ (``gain``), the baseline model (``versus``)."""
    trained = settings.get(Setting(model, "trained"), {})
    return {"gain": trained, "versus": find_baseline(run, settings) if model != run.baseline else {}}


def average(places: Places, measured: list[Place]) -> NDArray[np.float64]:
    """Compute (N,) means over the severities of every corruption, then over the corruptions."""
    return average_rows([places[place].correct for place in measured], measured)


def average_rows(rows: Sequence[NDArray[np.bool_]] | NDArray[np.bool_], measured: list[Place]) -> Means:
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
        return name_values(name, _NO_DIFFERENCE, DIFFERENCE)
    return name_values(name, paired_answers(decision.correct, reference.correct), DIFFERENCE)


def _fill_in(differences: list[_Difference]) -> None:
    """Fill rows with the means of their differences, the intervals and p."""
    if not differences:
        return
    found = paired_differences(np.stack([values for _, _, values in differences], axis=1)).tolist()
    for (row, name, _), values in zip(differences, found, strict=True):
        row |= name_values(name, values, DIFFERENCE)
