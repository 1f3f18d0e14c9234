"""Tables of perturbation sequences: flip probability and top-5 distance, also relative to the baseline model."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robustness.analysis.columns import name_values, to_key, to_records, with_ends
from robustness.analysis.frames import Run
from robustness.statistics import accuracy_interval, percentile_interval, resample_means

MEAN_OF_SEQUENCES = "mean of sequences"
SEQUENCE_NOTE = (
    "Flips: share of the compared frames whose predicted class is another, over all sequences mFP. Top-5 distance: "
    "from 0 to 15. Flip rate and distance rate: the same in percent of the baseline model's, over all the mean of the "
    "quotients; where the baseline is AlexNet they are the paper's mFR and mT5D. 95 % intervals over the images."
)
_MEASURES = {"flips": ("flips", "flip_rate", 1), "distance": ("top5_distance", "distance_rate", 15)}
"""Columns of a table: the column of outcomes, the column of its quotient, and the largest value."""
ModelAt = tuple[str, float | None]
"""A model and its λ, None without one."""


def tabulate_sequences(run: Run) -> pd.DataFrame:
    """Tabulate the stability of models along every sequence, and along all.

    Returns:
        A row per sequence, model and λ, and one for their mean if none is missing: ``sequence, difficulty, model,
        lam, n``; ``flips`` (a share) and ``distance`` (0 to 15), ``flip_rate`` and ``distance_rate`` (percent of the
        baseline model's; NaN without a baseline, and if its value may be 0), each with ``_low`` and ``_high``.
    """
    asked = list_sequences(run)
    found = {name: read_sequences(run, column) for name, (column, *_) in _MEASURES.items()}
    trained = {model["name"]: model["lam"] for model in run.record["models"]}.get(run.baseline)
    baseline = (str(run.baseline), trained)
    rows: list[dict[str, Any]] = []
    for at, flips in found["flips"].items():
        groups = {name: [name] for name in flips} | ({MEAN_OF_SEQUENCES: asked} if list(flips) == asked else {})
        for title, members in groups.items():
            row: dict[str, Any] = {"sequence": title, "difficulty": run.sequences["severity"].iloc[0], "model": at[0]}
            row |= {"lam": math.nan if at[1] is None else at[1], "n": len(flips[members[0]])}
            for name, (_, rate, largest) in _MEASURES.items():
                values, others = found[name].get(at, {}), found[name].get(baseline, {})
                if all(member in values for member in members):
                    stacked = np.stack([values[member] for member in members], axis=1)
                    row |= name_values(name, largest * np.array(accuracy_interval(stacked.mean(axis=1) / largest)))
                    if all(member in others for member in members):
                        reference = np.stack([others[member] for member in members], axis=1)
                        row |= name_values(rate, _compare(stacked, reference))
            rows.append(row)
    numbers = [name for key, (_, rate, _) in _MEASURES.items() for name in (key, rate)]
    return pd.DataFrame(rows, columns=["sequence", "difficulty", "model", "lam", "n", *with_ends(*numbers)])


def read_sequences(run: Run, column: str = "flips") -> dict[ModelAt, dict[str, NDArray[np.float64]]]:
    """Read a column of the outcomes, (N,) by model and λ and by sequence; empty if it was not measured."""
    found: dict[ModelAt, dict[str, NDArray[np.float64]]] = {}
    for row in to_records(run.sequences):
        outcome = run.outcome(row["key"])
        if column in outcome:
            at = (row["model"], to_key(row["lam"]))
            found.setdefault(at, {})[row["perturbation"]] = outcome[column].to_numpy(dtype=np.float64)
    return found


def find_steady(run: Run) -> dict[ModelAt, NDArray[np.float64]]:
    """Return (N,) 1 − mFP of every image, for the models that were measured along every sequence."""
    asked, found = list_sequences(run), read_sequences(run)
    return {at: 1 - np.mean(list(own.values()), axis=0) for at, own in found.items() if list(own) == asked}


def list_sequences(run: Run) -> list[str]:
    """List the sequences that a run was asked for, finished or not."""
    return list(dict.fromkeys(cell["perturbation"] for cell in run.record["cells"] if cell.get("sequence")))


def _compare(own: NDArray[np.float64], reference: NDArray[np.float64]) -> list[float]:
    """Compare (N, P) values: mean quotient in percent with its bootstrap interval; NaN if a divisor may be 0."""
    both = np.concatenate([own, reference], axis=1)

    def divide(means: NDArray[np.float64]) -> NDArray[np.float64]:
        numerator, denominator = np.split(means, 2, axis=-1)
        quotients = np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator > 0)
        return np.asarray(100 * quotients.mean(axis=-1))

    drawn = divide(resample_means(both))
    if not np.isfinite(drawn).all():
        return [math.nan] * 3
    return [float(divide(both.mean(axis=0))), *percentile_interval(drawn)]
