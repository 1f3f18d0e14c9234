"""Accuracy by class: shows which classes a corruption costs most."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robustness.analysis.columns import with_ends
from robustness.analysis.frames import Run
from robustness.analysis.leaderboard import find_entries
from robustness.analysis.summary import Settings, average, find_main_mean, list_planned
from robustness.statistics import accuracy_intervals


def tabulate_classes(run: Run, settings: Settings, summary: pd.DataFrame) -> pd.DataFrame:
    """Tabulate a row per model (λ as in :func:`~robustness.analysis.leaderboard.find_entries`) and class with images.

    Returns:
        Columns ``model, lam, class, n``, ``clean`` and ``mean`` (over the corruptions), each with ``_low`` and
        ``_high``, fractions; ``mean`` is NaN if cells are missing.
    """
    classes, labels = run.record["data"]["classes"], run.labels
    counts = np.bincount(labels, minlength=len(classes))
    there = np.flatnonzero(counts)
    title, names = find_main_mean(run)
    planned = list_planned(run, names)
    tables = []
    for setting, lam in find_entries(run, summary).items():
        places = settings.get(setting, {})
        names = [classes[label] for label in there]
        table = pd.DataFrame({"model": setting.model, "lam": lam, "class": names, "n": counts[there]})
        for column, needed in (("clean", [("clean", 0)]), ("mean", planned if title else [])):
            values = average(places, needed) if needed and all(place in places for place in needed) else None
            table[with_ends(column)] = _average_classes(values, labels, counts)[there]
        tables.append(table)
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=["model", "lam", "class", "n"])


def _average_classes(
    values: NDArray[np.float64] | None, labels: NDArray[np.int64], counts: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return (C, 3) mean and interval of every class; NaN without values."""
    if values is None:
        return np.full((len(counts), 3), np.nan)
    sums, squares = (np.bincount(labels, weights=values**power, minlength=len(counts)) for power in (1, 2))
    return accuracy_intervals(np.maximum(counts, 1), sums, squares)
