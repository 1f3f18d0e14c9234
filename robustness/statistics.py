"""Intervals for accuracies and their differences, and tests for paired predictions."""

from __future__ import annotations

import itertools
import math
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binom
from scipy.stats import t as student_t

Z_95 = 1.959963984540054
"""Two-sided 95 % quantile of the standard normal distribution."""
LEVEL = 0.05
"""Significance level: a difference is called significant only if its p is below this level."""
_DRAWS = 2000
_DRAWN_AT_ONCE = 1 << 22
"""Number of counts drawn at once, which bounds the memory."""
_FEW_IMAGES = 4096
"""Largest number of images whose resamples share their draws."""
_FEW_DIFFERENT, _ROUNDING = 10, 1e-9


def wilson_interval(correct: float, n: float, z: float = Z_95) -> tuple[float, float]:
    """Compute Wilson's interval of a proportion: (p̂ + z²/2n ± z √(p̂(1−p̂)/n + z²/4n²)) / (1 + z²/n).

    Args:
        correct: number of successes, 0 to ``n``; may be a sum of shares, such as 2.5 of 5.
        n: number of trials, at least 1.
        z: normal quantile; 95 % by default.

    Returns:
        Lower and upper end, in [0, 1].

    Source: Wilson, JASA 22, 1927; Brown, Cai & DasGupta, Statistical Science 16(2), 2001, eq. 4.
    """
    low, high = wilson_intervals(correct / n, n, z).tolist()
    return low, high


def wilson_intervals(shares: ArrayLike, n: ArrayLike, z: float = Z_95) -> NDArray[np.float64]:
    """Compute :func:`wilson_interval` of many proportions: (...) shares of ``n`` trials each to (..., 2) ends."""
    share, count = np.asarray(shares, dtype=np.float64), np.asarray(n, dtype=np.float64)
    centre = share + z * z / (2 * count)
    half = z * np.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    ends = np.stack([centre - half, centre + half], axis=-1) / (1 + z * z / count)[..., None]
    low, high = np.moveaxis(ends, -1, 0)  # which rounding may move past the share, where it is 0 or 1
    return np.stack([np.clip(low, 0.0, share), np.clip(high, share, 1.0)], axis=-1)


def share_interval(right: NDArray[np.bool_]) -> tuple[float, float, float]:
    """Compute the share of True among (n,) values, and its :func:`wilson_interval`."""
    return float(right.mean()), *wilson_interval(int(right.sum()), len(right))


def accuracy_interval(values: ArrayLike) -> tuple[float, float, float]:
    """Compute the mean accuracy or error and its 95 % interval, in [0, 1].

    Wilson's interval of the mean m for n/d images: d = s²/(m(1 − m)) ≤ 1 is the variance of the images' means over the
    variance of single predictions, estimated with two additional images, one that counts 0 and one that counts 1. Where
    every image counts 0 or 1, as in a single cell, d = 1.

    Args:
        values: (n,) one value per image: its mean over all of its perturbations, in [0, 1].

    Returns:
        Mean, lower and upper end.

    Source: Wilson, JASA 22, 1927, for the effective number of images of Kish, Survey Sampling, 1965, section 8.2.
    Deviation: the two additional images, after Agresti & Coull, The American Statistician 52(2), 1998; without them the
        interval of a mean near 1 over few images contains the true value too rarely (``benchmarks/coverage.py``).
    """
    array = np.asarray(values, dtype=np.float64)
    mean, low, high = accuracy_intervals(len(array), array.sum(), np.square(array).sum()).tolist()
    return mean, low, high


def accuracy_intervals(n: ArrayLike, sums: ArrayLike, squares: ArrayLike) -> NDArray[np.float64]:
    """Compute :func:`accuracy_interval` for many groups of images.

    Args:
        n: (...) numbers of images.
        sums: (...) sums of their values.
        squares: (...) sums of the squared values.

    Returns:
        (..., 3) means, lower and upper ends.
    """
    count, total = np.asarray(n, dtype=np.float64), np.asarray(sums, dtype=np.float64)
    mean, centre = np.clip(total / count, 0.0, 1.0), (total + 1) / (count + 2)
    variance = (np.asarray(squares, dtype=np.float64) + 1) / (count + 2) - centre**2
    worth = count / np.minimum(1.0, variance / (centre * (1 - centre)))
    low, high = np.moveaxis(wilson_intervals(mean, worth), -1, 0)
    return np.stack([mean, np.minimum(low, mean), np.maximum(high, mean)], axis=-1)


def resample_means(values: ArrayLike, *, draws: int = _DRAWS, seed: int = 0) -> NDArray[np.float64]:
    """Draw the bootstrap distribution of column means: n rows drawn with replacement, ``draws`` times.

    Whole rows are drawn, so that columns stay paired. For up to 4,096 images all calls share their draws. For more
    images, equal rows are drawn together, from a multinomial distribution over the distinct rows: the distribution is
    the same and needs less memory.

    Args:
        values: (n,) or (n, k), a row per image.
        draws: number of resamples.
        seed: seed of the resampling; the same seed gives the same intervals.

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
    """Draw (draws, n) counts of every image in each resample, shared by all intervals of equally many images."""
    rng = np.random.default_rng(seed)
    return np.stack([rng.multinomial(n, np.full(n, 1 / n)).astype(np.uint8) for _ in range(draws)])


def _resample(rows: NDArray[np.float64], counts: NDArray[np.int64], draws: int, seed: int) -> NDArray[np.float64]:
    """Compute the means of ``draws`` resamples of distinct ``rows``, each occurring ``counts`` times."""
    n = int(counts.sum())
    rng = np.random.default_rng(seed)
    at_once = max(1, _DRAWN_AT_ONCE // len(rows))
    means = [
        rng.multinomial(n, counts / n, size=min(at_once, draws - start)) @ rows / n
        for start in range(0, draws, at_once)
    ]
    return np.concatenate(means)


def percentile_interval(samples: ArrayLike) -> tuple[float, float]:
    """Compute the 95 % percentile interval of a bootstrap distribution (draws,): its 2.5 % and 97.5 % quantiles.

    Source: Efron & Tibshirani, An Introduction to the Bootstrap, 1993, section 13.3.
    """
    low, high = np.quantile(np.asarray(samples, dtype=np.float64), [0.025, 0.975]).tolist()
    return low, high


def paired_differences(differences: ArrayLike) -> NDArray[np.float64]:
    """Compute means of paired differences, their 95 % intervals over the images, and p of no difference.

    m ± t √(v/(n + 2)), m and v the mean and variance of the n differences and two more, +a and −a, where a is the
    largest |d| (1 if none differs), and t is the quantile for n − 1 degrees of freedom. For single predictions a = 1,
    and the interval is Bonett and Price's. p comes from :func:`sign_flip` if at most ten images differ, and otherwise
    from the same t.

    Args:
        differences: (n, k), a row per image, in [−1, 1]: a right answer counts 1, and an image that was seen at several
            severities counts once, with its mean.

    Returns:
        (k, 4) means, lower and upper ends in [−1, 1], p.

    Source: Bonett & Price, J. Educational and Behavioral Statistics 37(4), 2012.
    Deviation: a for means over several answers, and t for z (``benchmarks/coverage.py`` has the coverage).
    """
    array = np.asarray(differences, dtype=np.float64)
    n = len(array)
    sizes = np.abs(array)
    largest = sizes.max(axis=0, initial=0.0)
    largest = np.where(largest > _ROUNDING, largest, 1.0)
    sums, squares = array.sum(axis=0), np.square(array).sum(axis=0) + 2 * largest**2
    centre = sums / (n + 2)
    error = np.sqrt((squares / (n + 2) - centre**2) / (n + 2))
    half = _quantile(n) * error
    p = 2 * student_t.sf(np.abs(centre) / error, max(n - 1, 1))
    for column in np.flatnonzero((sizes > _ROUNDING).sum(axis=0) <= _FEW_DIFFERENT):
        p[column] = sign_flip(array[:, column])
    mean = sums / n
    low, high = np.maximum(-1.0, np.minimum(centre - half, mean)), np.minimum(1.0, np.maximum(centre + half, mean))
    return np.column_stack([mean, low, high, p])


def paired_interval(differences: ArrayLike) -> tuple[float, float, float]:
    """Compute the mean and interval of :func:`paired_differences` for one quantity, (n,)."""
    mean, low, high, _ = paired_differences(np.asarray(differences, dtype=np.float64)[:, None])[0].tolist()
    return mean, low, high


@lru_cache(maxsize=64)
def _quantile(n: int) -> float:
    return float(student_t.ppf(0.975, max(n - 1, 1)))


def sign_flip(differences: ArrayLike) -> float:
    """Compute the exact two-sided p of the sign-flip test: the share of all signs with as large a sum.

    p = #{s ∈ {±1}^m : |Σ sᵢ dᵢ| ≥ |Σ dᵢ|} / 2^m over the m images with a difference d ≠ 0. For single answers it equals
    :func:`paired_answers`. The test is for few differing images.

    Args:
        differences: (n,) one per image.

    Returns:
        p; NaN if more than ten images differ: too many to try all signs, and enough for a bootstrap interval.

    Source: Fisher, The Design of Experiments, 1935, section 21.
    """
    array = np.asarray(differences, dtype=np.float64)
    different = array[np.abs(array) > _ROUNDING]
    if len(different) > _FEW_DIFFERENT:
        return math.nan
    signs = np.array(list(itertools.product((-1, 1), repeat=len(different))), dtype=np.float64)
    sums = np.abs(signs @ different)
    return float(np.mean(sums >= abs(different.sum()) - _ROUNDING))


def paired_answers(first: ArrayLike, second: ArrayLike) -> tuple[float, float, float, float]:
    """Compute :func:`paired_interval` of ``first`` − ``second`` and the exact two-sided p of McNemar's test.

    p = min(1, 2 P(B ≤ min(b, c))), B ~ Binomial(b + c, ½), b and c the counts of images that only the first and only
    the second got right; 1 where there is none.

    Args:
        first: (n,) correct predictions.
        second: (n,) correct predictions on the same images.

    Source: McNemar, Psychometrika 12(2), 1947; exact form: Liddell, J. Epidemiology & Community Health 37(1), 1983.
    """
    one, other = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    both = int(np.count_nonzero(one & other))
    return _compare_counts(int(np.count_nonzero(one)) - both, int(np.count_nonzero(other)) - both, one.size)


@lru_cache(maxsize=1 << 16)
def _compare_counts(gained: int, lost: int, n: int) -> tuple[float, float, float, float]:
    mean, centre = (gained - lost) / n, (gained - lost) / (n + 2)
    half = _quantile(n) * math.sqrt(((gained + lost + 2) / (n + 2) - centre**2) / (n + 2))
    low, high = max(-1.0, min(centre - half, mean)), min(1.0, max(centre + half, mean))
    p = min(1.0, 2 * float(binom.cdf(min(gained, lost), gained + lost, 0.5))) if gained + lost else 1.0
    return mean, low, high, p


def find_direction(low: float, high: float, p: float) -> int:
    """Return the sign of a paired difference if it is significant, otherwise 0.

    Its interval from ``low`` to ``high`` must exclude zero, and ``p`` be below :data:`LEVEL`; if ``p`` is NaN, the
    interval decides alone.
    """
    return 0 if p >= LEVEL else int(low > 0) - int(high < 0)


def adjust_for_many(p_values: ArrayLike) -> NDArray[np.float64]:
    """Adjust p of a family of comparisons after Holm: below 0.05, the chance of one false find among all is below 5 %.

    p̃₍ᵢ₎ = max_{j ≤ i} min(1, (m − j + 1) p₍ⱼ₎), p₍₁₎ ≤ … ≤ p₍ₘ₎; a NaN is not a member of the family and stays NaN.

    Args:
        p_values: (m,) p of every comparison, however they depend on one another.

    Returns:
        (m,) in the order given.

    Source: Holm, Scandinavian J. of Statistics 6(2), 1979.
    """
    array = np.asarray(p_values, dtype=np.float64)
    adjusted = array.copy()
    known = np.flatnonzero(~np.isnan(array))
    order = known[np.argsort(array[known], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(factors * array[order]))
    return adjusted
