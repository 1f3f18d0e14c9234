"""Scores by model and λ policy: clean accuracy, mean error, and mCE if its protocol is met."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_prep import corruption_names
from robustness.analysis.columns import name_values, with_ends
from robustness.analysis.frames import Run
from robustness.analysis.metrics import ALEXNET_ERRORS, mean_corruption_error, relative_corruption_error
from robustness.analysis.summary import MEAN, Places, Settings, average, find_baseline, group_corruptions, list_planned
from robustness.statistics import accuracy_interval, percentile_interval, resample_means

_SEVERITIES = 5
_CLEAN = [("clean", 0)]
_COLUMNS = ["model", "policy", "lam", "baseline", "n", "corruptions"]
_COLUMNS += with_ends("clean_accuracy", "mean_error", "mce", "relative_mce", "mce_alexnet")


def score(run: Run, settings: Settings) -> pd.DataFrame:
    """Score every model under every λ policy on the standard corruptions of the run.

    Returns:
        Columns ``model, policy, lam, baseline, n, corruptions``; ``clean_accuracy`` and ``mean_error`` (fractions,
        intervals over the images); ``mce`` and ``relative_mce`` against the baseline model, and ``mce_alexnet``
        (percent, bootstrap intervals); each with ``_low`` and ``_high``; and ``refused``: the reason for an empty mCE.
        ``lam`` is the mean of the chosen λs over the corruptions; over the clean images if cells of corruptions are
        missing.
    """
    names = group_corruptions(run).get(MEAN, [])
    planned = list_planned(run, names)
    baseline = find_baseline(run, settings)
    rows = []
    for setting, places in settings.items():
        measured = planned if planned and all(place in places for place in planned) else []
        lams = [places[place].lam for place in measured or _CLEAN if place in places]
        lam = round(float(np.mean(lams)), 10) if lams else np.nan
        row = {"model": setting.model, "policy": setting.policy, "lam": lam, "corruptions": len(names)}
        if ("clean", 0) in places:
            clean = places["clean", 0].correct
            row |= {"n": len(clean), **name_values("clean_accuracy", accuracy_interval(clean))}
        if measured:
            row |= name_values("mean_error", accuracy_interval(1 - average(places, measured)))
        refused = _refuse(places)
        if not refused:
            row |= _corruption_errors(places, baseline) | _alexnet_errors(places, run)
        reasons = (
            [refused] if refused else [text for text in (_refuse_baseline(baseline), _refuse_alexnet(run)) if text]
        )
        rows.append(row | {"baseline": run.baseline, "refused": "; ".join(filter(None, reasons))})
    return pd.DataFrame(rows, columns=[*_COLUMNS, "refused"])


def _refuse(places: Places) -> str:
    """Give the reason why there is no mCE; empty if every cell of the standard protocol is there."""
    names = corruption_names("standard")
    needed = [("clean", 0), *((name, level) for name in names for level in range(1, _SEVERITIES + 1))]
    missing = [place for place in needed if place not in places]
    if not missing:
        return ""
    (name, level), count = missing[0], len(missing)
    more = f" and {count - 1} more" if count > 1 else ""
    return f"mCE needs the {len(names)} standard corruptions at {_SEVERITIES} severities: {name} {level}{more} missing"


def _refuse_baseline(baseline: Places) -> str:
    return "" if baseline and not _refuse(baseline) else "mCE: no baseline model with all cells"


def _refuse_alexnet(run: Run) -> str:
    return "" if run.record["suite"]["profile"] == "imagenet" else "mCE (AlexNet): its errors are of ImageNet-C"


def _errors(places: Places) -> NDArray[np.float64]:
    """Return (N, 15) errors of every image, averaged over the severities of every standard corruption."""
    names = corruption_names("standard")
    levels = range(1, _SEVERITIES + 1)
    return np.stack([1 - np.mean([places[name, level].correct for level in levels], axis=0) for name in names], axis=1)


def _corruption_errors(places: Places, baseline: Places) -> dict[str, float]:
    if _refuse_baseline(baseline):
        return {}
    count = len(corruption_names("standard"))
    clean, baseline_clean = (1 - p["clean", 0].correct.astype(float)[:, None] for p in (places, baseline))
    values = np.concatenate([_errors(places), _errors(baseline), clean, baseline_clean], axis=1)

    def both(means: NDArray[np.float64]) -> NDArray[np.float64]:
        errors, reference = means[..., :count, None], means[..., count : 2 * count, None]
        relative = relative_corruption_error(errors, means[..., -2], reference, means[..., -1])
        return np.stack([mean_corruption_error(errors, reference), relative])

    mce, relative = both(values.mean(axis=0)).tolist()
    drawn = both(resample_means(values))
    return name_values("mce", (mce, *percentile_interval(drawn[0]))) | name_values(
        "relative_mce", (relative, *percentile_interval(drawn[1]))
    )


def _alexnet_errors(places: Places, run: Run) -> dict[str, float]:
    if _refuse_alexnet(run):
        return {}
    values, alexnet = _errors(places), np.array(list(ALEXNET_ERRORS.values()))[:, None]
    drawn = mean_corruption_error(resample_means(values)[..., None], alexnet)
    point = float(mean_corruption_error(values.mean(axis=0)[:, None], alexnet))
    return name_values("mce_alexnet", (point, *percentile_interval(drawn)))
