"""Intervals for accuracies and their differences."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

Z_95 = 1.959963984540054
"""Two-sided 95 % quantile of the standard normal distribution."""


def wilson_interval(correct: int, n: int, z: float = Z_95) -> tuple[float, float]:
    """Wilson score interval of a proportion: (p̂ + z²/2n ± z √(p̂(1−p̂)/n + z²/4n²)) / (1 + z²/n).

    Args:
        correct: successes, 0 to ``n``.
        n: trials, at least 1.
        z: normal quantile; 95 % by default.

    Returns:
        Lower and upper end, in [0, 1].

    Source: Wilson, JASA 22, 1927; Brown, Cai & DasGupta, Statistical Science 16(2), 2001, eq. 4.
    """
    share = correct / n
    centre = share + z * z / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def clustered_interval(values: ArrayLike, z: float = Z_95) -> tuple[float, float, float]:
    """Mean and 95 % interval of per-image means: m ± z · sd/√n, the images being the independent units.

    For an accuracy over several severities every image counts once with its mean over the severities: its answers at
    the severities are not independent, and an interval that pooled them would be too narrow.

    Args:
        values: (n,) one value per image: a mean accuracy in [0, 1], or a paired difference in [−1, 1].
        z: normal quantile; 95 % by default.

    Returns:
        Mean, lower and upper end.

    Source: Liang & Zeger, Biometrika 73(1), 1986, for clusters of equal size (the images) and the identity link.
    """
    array = np.asarray(values, dtype=np.float64)
    mean = float(array.mean())
    half = z * float(array.std(ddof=1)) / math.sqrt(len(array)) if len(array) > 1 else math.nan
    return mean, mean - half, mean + half
