"""Measure the coverage of the 95 % intervals of the tables: ``python benchmarks/coverage.py [--draws 2000]``.

Made-up answers of n images are drawn many times from a distribution whose mean is known, and the share of intervals
that hold it is counted; of tests, the share that find a difference where there is none. Beside the intervals in use
stand those that they took the place of. Prints Markdown for docs/policies.md; takes under a minute on one core.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from robustness.analysis.metrics import (
    ALEXNET_ERRORS,
    expected_calibration_error,
    mean_corruption_error,
    root_calibration_error,
)
from robustness.statistics import (
    Z_95,
    accuracy_intervals,
    adjust_for_many,
    paired_answers,
    paired_differences,
    percentile_interval,
    resample_means,
)

SIZES = (50, 200, 1000)
Array = NDArray[np.float64]
Intervals = Callable[[Array], tuple[Array, Array]]
"""Interval of each row of values (draws, n): lower and upper ends, (draws,)."""


def bootstrap(values: Array) -> tuple[Array, Array]:
    """The percentile bootstrap of the mean."""
    drawn = resample_means(values.T)
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    return low, high


def normal(values: Array) -> tuple[Array, Array]:
    """The normal interval of the mean, cut off at 0 and 1."""
    mean, half = values.mean(axis=1), Z_95 * values.std(axis=1, ddof=1) / np.sqrt(values.shape[1])
    return np.maximum(mean - half, 0), np.minimum(mean + half, 1)


def wilson(values: Array) -> tuple[Array, Array]:
    """The interval of accuracies that is in use."""
    found = accuracy_intervals(values.shape[1], values.sum(axis=1), np.square(values).sum(axis=1))
    return found[:, 1], found[:, 2]


def paired(values: Array) -> tuple[Array, Array]:
    """The interval of differences that is in use."""
    found = paired_differences(values.T)
    return found[:, 1], found[:, 2]


def few(gained: float, lost: float, levels: int = 1) -> Callable[[np.random.Generator, int, int], Array]:
    """Differences of which a share is positive and another negative, at 1 to ``levels`` of as many severities."""

    def draw(rng: np.random.Generator, draws: int, n: int) -> Array:
        signs = rng.choice([1.0, 0.0, -1.0], p=[gained, 1 - gained - lost, lost], size=(draws, n))
        return signs * rng.integers(1, levels + 1, (draws, n)) / levels

    return draw


def many(first: float, second: float, cells: int) -> Callable[[np.random.Generator, int, int], Array]:
    """Differences of means over many cells."""
    return lambda rng, draws, n: (
        (rng.binomial(cells, first, (draws, n)) - rng.binomial(cells, second, (draws, n))) / cells
    )


def spread(mean: float, strength: float, cells: int) -> Callable[[np.random.Generator, int, int], Array]:
    """Mean accuracies over ``cells`` of images that are easy or hard: Beta(m s, (1 − m) s)."""
    return lambda rng, draws, n: (
        rng.binomial(cells, rng.beta(mean * strength, (1 - mean) * strength, (draws, n))) / cells
    )


DIFFERENCES = [
    ("one cell, 3 % against 1 % of the images", few(0.03, 0.01), 0.02),
    ("one cell, 0 against 2 %", few(0.0, 0.02), -0.02),
    ("one cell, 10 against 10 %", few(0.1, 0.1), 0.0),
    ("5 severities, 2 % differ at some", few(0.02, 0.0, 5), 0.012),
    ("5 severities, 3 against 1 %", few(0.03, 0.01, 5), 0.012),
    ("75 cells, 10 against 8 %", many(0.1, 0.08, 75), 0.02),
]
MEANS = [
    ("one cell, 70 %", spread(0.7, 1e6, 1), 0.7),
    ("one cell, 98 %", spread(0.98, 1e6, 1), 0.98),
    ("5 severities, 70 %", spread(0.7, 1.0, 5), 0.7),
    ("5 severities, 98 %", spread(0.98, 1.0, 5), 0.98),
    ("75 cells, 70 %", spread(0.7, 3.0, 75), 0.7),
    ("75 cells, 98 %", spread(0.98, 3.0, 75), 0.98),
]


def count(intervals: Intervals, values: Array, truth: float) -> str:
    """The share of intervals that hold the true value, in percent."""
    low, high = intervals(values)
    return f"{100 * np.mean((low <= truth + 1e-12) & (truth - 1e-12 <= high)):.1f}"


def show(title: str, cases: list, ours: Intervals, before: Intervals, draws: int) -> None:  # type: ignore[type-arg]
    """Print the coverage of the intervals in use and, behind it, of those before."""
    print(f"| {title} | " + " | ".join(f"n = {n}" for n in SIZES) + " |\n| --- |" + " ---: |" * len(SIZES))
    for name, draw, truth in cases:
        cells = []
        for n in SIZES:
            values = draw(np.random.default_rng(n), draws, n)
            fewer = values[: min(draws, 1_000)]
            cells.append(f"{count(ours, values, truth)} ({count(before, fewer, truth)})")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    print()


def show_errors(draws: int) -> None:
    """Print the coverage for mCE, of the calibration error, and how often a table finds something in nothing."""
    print("| other | " + " | ".join(f"n = {n}" for n in SIZES) + " |\n| --- |" + " ---: |" * len(SIZES))
    alexnet = np.array(list(ALEXNET_ERRORS.values()))[:, None]
    rows: dict[str, list[str]] = {}
    for n in SIZES:
        rng = np.random.default_rng(n)
        held = []
        for _ in range(draws // 8):
            hard = rng.beta(1, 2, (n, 1))
            errors = rng.binomial(5, np.clip(0.9 * hard + 0.05, 0, 1), (n, 15)) / 5
            drawn = mean_corruption_error(resample_means(errors)[..., None], alexnet)
            low, high = percentile_interval(drawn)
            truth = float(mean_corruption_error(np.full((15, 1), 0.9 / 3 + 0.05), alexnet))
            held.append(low <= truth <= high)
        rows.setdefault("mCE, bootstrap: coverage", []).append(f"{100 * np.mean(held):.1f}")
        for title, shift in (("calibrated", 0.0), ("10 points too confident", 0.1)):
            confidence = rng.uniform(0.6, 1.0, (draws // 4, n))
            correct = rng.random((draws // 4, n)) < confidence - shift
            found = root_calibration_error(confidence, correct)
            held = (found[:, 1] <= shift + 1e-12) & (shift - 1e-12 <= found[:, 2])
            rows.setdefault(f"calibration error, {title}: coverage", []).append(f"{100 * held.mean():.1f}")
            rows.setdefault(f"calibration error, {title}: mean (ECE)", []).append(
                f"{100 * found[:, 0].mean():.1f} ({100 * np.mean(expected_calibration_error(confidence, correct)):.1f})"
            )
        alone, together = [], []
        for _ in range(draws // 40):
            p = [paired_answers(*(rng.random((2, n)) < 0.7))[3] for _ in range(75)]
            alone.append(min(p) < 0.05)
            together.append((adjust_for_many(p) < 0.05).any())
        text = f"{100 * np.mean(together):.1f} ({100 * np.mean(alone):.1f})"
        rows.setdefault("tables of 75 equal cells with something bold, Holm (each alone)", []).append(text)
    for title, cells in rows.items():
        print(f"| {title} | {' | '.join(cells)} |")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=2_000)
    draws = parser.parse_args().draws
    show("paired difference: coverage in % (bootstrap)", DIFFERENCES, paired, bootstrap, draws)
    show("mean accuracy: coverage in % (normal)", MEANS, wilson, normal, draws)
    show_errors(draws)


if __name__ == "__main__":
    main()
