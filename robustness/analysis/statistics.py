"""Intervals for accuracies and their differences, and a test for paired answers."""

from __future__ import annotations

import itertools
import math
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binom

Z_95 = 1.959963984540054
"""Two-sided 95 % quantile of the standard normal distribution."""
_DRAWS = 2000
_DRAWN_AT_ONCE = 1 << 22
"""Counts that are drawn at once, to bound the memory."""
_FEW_VALUES = 3
"""Of the answers in a single cell, or of their difference."""
_FEW_IMAGES = 4096
"""Resamples of up to so many images share their draws."""
_FEW_DIFFERENT, _ROUNDING = 10, 1e-9


def wilson_interval(correct: float, n: int, z: float = Z_95) -> tuple[float, float]:
    """Wilson score interval of a proportion: (p̂ + z²/2n ± z √(p̂(1−p̂)/n + z²/4n²)) / (1 + z²/n).

    Args:
        correct: successes, 0 to ``n``; a sum of shares, such as 2.5 of 5, counts like so many.
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


def accuracy_interval(values: ArrayLike) -> tuple[float, float, float]:
    """Mean accuracy or error and its 95 % interval, in [0, 1].

    Wilson's where every image counts 0 or 1, as in a single cell, or all count alike, of which the spread of the
    images says nothing; otherwise :func:`clustered_interval`, cut off at 0 and 1.

    Args:
        values: (n,) one per image, its mean over what it was seen under, in [0, 1].

    Returns:
        Mean, lower and upper end.
    """
    array = np.asarray(values, dtype=np.float64)
    if np.isin(array, (0.0, 1.0)).all() or np.ptp(array) == 0:
        return float(array.mean()), *wilson_interval(float(array.sum()), len(array))
    mean, low, high = clustered_interval(array)
    return mean, max(0.0, low), min(1.0, high)


def resample_means(values: ArrayLike, *, draws: int = _DRAWS, seed: int = 0) -> NDArray[np.float64]:
    """Bootstrap distribution of column means: n rows drawn with replacement, ``draws`` times.

    Whole rows are drawn, so that columns stay paired. For up to 4,096 images all calls share their draws. Of more
    images, equal rows are drawn together, from a multinomial distribution over the distinct ones: the same
    distribution, in less memory.

    Args:
        values: (n,) or (n, k), a row per image.
        draws: resamples.
        seed: of the resampling; the same seed gives the same intervals.

    Returns:
        (draws,) or (draws, k) means.

    Source: Efron, Annals of Statistics 7(1), 1979.
    """
    array = np.asarray(values, dtype=np.float64)
    if len(array) <= _FEW_IMAGES:
        return _draw_counts(len(array), draws, seed) @ array / len(array)
    rows, counts = np.unique(array, axis=0 if array.ndim > 1 else None, return_counts=True)
    return _resample(rows, counts, draws, seed)


@lru_cache(maxsize=2)
def _draw_counts(n: int, draws: int, seed: int) -> NDArray[np.uint8]:
    """(draws, n) how often every image is in each resample: drawn once for all intervals of as many images."""
    rng = np.random.default_rng(seed)
    return np.stack([rng.multinomial(n, np.full(n, 1 / n)).astype(np.uint8) for _ in range(draws)])


def _resample(rows: NDArray[np.float64], counts: NDArray[np.int64], draws: int, seed: int) -> NDArray[np.float64]:
    """Means of ``draws`` resamples of distinct ``rows``, each there ``counts`` times."""
    n = int(counts.sum())
    rng = np.random.default_rng(seed)
    at_once = max(1, _DRAWN_AT_ONCE // len(rows))
    means = [
        rng.multinomial(n, counts / n, size=min(at_once, draws - start)) @ rows / n
        for start in range(0, draws, at_once)
    ]
    return np.concatenate(means)


def percentile_intervals(samples: ArrayLike) -> NDArray[np.float64]:
    """The 2.5 % and 97.5 % quantiles of bootstrap distributions: 95 % percentile intervals.

    Args:
        samples: (draws, k), of k quantities.

    Returns:
        (k, 2) lower and upper ends.

    Source: Efron & Tibshirani, An Introduction to the Bootstrap, 1993, section 13.3.
    """
    ordered: NDArray[np.float64] = np.array(np.transpose(samples), dtype=np.float64, order="C")
    ordered.sort()
    last = ordered.shape[1] - 1
    places = last * np.array([0.025, 0.975])
    below = places.astype(int)
    lower, upper = ordered[:, below], ordered[:, np.minimum(below + 1, last)]
    between: NDArray[np.float64] = lower + (places - below) * (upper - lower)
    return between


def percentile_interval(samples: ArrayLike) -> tuple[float, float]:
    """:func:`percentile_intervals` of one quantity, (draws,)."""
    low, high = percentile_intervals(np.asarray(samples)[:, None])[0].tolist()
    return low, high


def paired_intervals(differences: ArrayLike) -> NDArray[np.float64]:
    """Means of paired differences and their 95 % bootstrap intervals over the images, which are drawn once for all.

    Args:
        differences: (n, k), a row per image, in [−1, 1]: a right answer counts 1, and an image that was seen at several
            severities counts once, with its mean.

    Returns:
        (k, 3) means, lower and upper ends.
    """
    array = np.asarray(differences, dtype=np.float64)
    if len(array) > _FEW_IMAGES:
        return np.array([_interval_of(*_count(column)) for column in array.T])
    return np.column_stack([array.mean(axis=0), percentile_intervals(resample_means(array))])


def paired_interval(differences: ArrayLike) -> tuple[float, float, float]:
    """:func:`paired_intervals` of one quantity, (n,): mean, lower and upper end."""
    array = np.asarray(differences, dtype=np.float64)
    values, counts = _count(array)
    if len(values) <= _FEW_VALUES:
        return _interval_of(values, counts)
    mean, low, high = paired_intervals(array[:, None])[0].tolist()
    return mean, low, high


def _count(array: NDArray[np.float64]) -> tuple[tuple[float, ...], tuple[int, ...]]:
    values, counts = np.unique(array, return_counts=True)
    return tuple(values.tolist()), tuple(counts.tolist())


@lru_cache(maxsize=1 << 16)
def _interval_of(values: tuple[float, ...], counts: tuple[int, ...]) -> tuple[float, float, float]:
    """:func:`paired_interval` of ``values`` that are there ``counts`` times: a large grid has the same ones often."""
    rows, weights = np.array(values), np.array(counts)
    return float(rows @ weights / weights.sum()), *percentile_interval(_resample(rows, weights, _DRAWS, 0))


def sign_flip(differences: ArrayLike) -> float:
    """Exact two-sided p of the sign-flip test, where few images differ: the share of all signs with as large a sum.

    p = #{s ∈ {±1}^m : |Σ sᵢ dᵢ| ≥ |Σ dᵢ|} / 2^m over the m images with a difference d ≠ 0. Of single answers it is
    :func:`mcnemar`.

    Args:
        differences: (n,) one per image.

    Returns:
        p; NaN where more than ten images differ, which is too many for all signs and enough for a bootstrap interval.

    Source: Fisher, The Design of Experiments, 1935, section 21.
    """
    array = np.asarray(differences, dtype=np.float64)
    different = array[np.abs(array) > _ROUNDING]
    if len(different) > _FEW_DIFFERENT:
        return math.nan
    signs = np.array(list(itertools.product((-1, 1), repeat=len(different))), dtype=np.float64)
    sums = np.abs(signs @ different)
    return float(np.mean(sums >= abs(different.sum()) - _ROUNDING))


def mcnemar(first: ArrayLike, second: ArrayLike) -> float:
    """Exact two-sided p of McNemar's test: the images that only one of the two got right, against a fair coin.

    p = min(1, 2 P(B ≤ min(b, c))), B ~ Binomial(b + c, ½), b and c the counts of images that only the first and only
    the second got right; 1 where there is none.

    Args:
        first: (n,) right answers.
        second: (n,) right answers on the same images.

    Source: McNemar, Psychometrika 12(2), 1947; exact form: Liddell, J. Epidemiology & Community Health 37(1), 1983.
    """
    gained, lost = _count_discordant(first, second)
    return _two_sided(min(gained, lost), gained + lost)


def paired_answers(first: ArrayLike, second: ArrayLike) -> tuple[float, float, float, float]:
    """:func:`paired_interval` of ``first`` − ``second``, (n,) right answers, and their :func:`mcnemar`, from counts."""
    gained, lost = _count_discordant(first, second)
    counts = {-1.0: lost, 0.0: np.size(first) - gained - lost, 1.0: gained}
    counts = {value: count for value, count in counts.items() if count}
    interval = _interval_of(tuple(counts), tuple(counts.values()))
    return *interval, _two_sided(min(gained, lost), gained + lost)


def _count_discordant(first: ArrayLike, second: ArrayLike) -> tuple[int, int]:
    """How many images only ``first``, and only ``second``, got right."""
    one, other = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    both = int(np.count_nonzero(one & other))
    return int(np.count_nonzero(one)) - both, int(np.count_nonzero(other)) - both


@lru_cache(maxsize=1 << 16)
def _two_sided(fewer: int, discordant: int) -> float:
    return min(1.0, 2 * float(binom.cdf(fewer, discordant, 0.5))) if discordant else 1.0
