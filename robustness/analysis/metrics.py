"""Scores of a model: corruption error and its relatives, calibration. Errors and accuracies are fractions."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robustness.statistics import Z_95

_EQUAL_BINS, _LEAST_IN_BIN = 15, 10
ALEXNET_ERRORS = {
    "gaussian_noise": 0.886428,
    "shot_noise": 0.894468,
    "impulse_noise": 0.922640,
    "defocus_blur": 0.819880,
    "glass_blur": 0.826268,
    "motion_blur": 0.785948,
    "zoom_blur": 0.798360,
    "snow": 0.866816,
    "frost": 0.826572,
    "fog": 0.819324,
    "brightness": 0.564592,
    "contrast": 0.853204,
    "elastic_transform": 0.646056,
    "pixelate": 0.717840,
    "jpeg_compression": 0.606500,
}
"""Mean error of AlexNet over the five severities of ImageNet-C.

Source: Hendrycks & Dietterich, ICLR 2019, and the evaluation code of AugMix (Hendrycks et al., ICLR 2020).
"""


def mean_corruption_error(errors: ArrayLike, baseline: ArrayLike) -> NDArray[np.float64]:
    """Compute mCE = 100/C · Σ_c CE_c, CE_c = Σ_s E_{s,c} / Σ_s E⁰_{s,c}: in percent of a baseline's errors.

    Args:
        errors: (..., C, S) errors of the model, or (..., C, 1) means over the severities.
        baseline: errors of the baseline in the same shape. Both must cover the same severities; a baseline without any
            error under a corruption gives an infinite or undefined number.

    Returns:
        (...) mCE.

    Source: Hendrycks & Dietterich, ICLR 2019, section 4.3.
    """
    return _mean_ratio(np.asarray(errors, dtype=np.float64), np.asarray(baseline, dtype=np.float64))


def relative_corruption_error(
    errors: ArrayLike, clean: ArrayLike, baseline: ArrayLike, baseline_clean: ArrayLike
) -> NDArray[np.float64]:
    """Compute relative mCE = 100/C · Σ_c Σ_s (E_{s,c} − E_clean) / Σ_s (E⁰_{s,c} − E⁰_clean): the added errors.

    Args:
        errors: (..., C, S) errors of the model.
        clean: (...) error of the model on clean images.
        baseline: (..., C, S) errors of the baseline.
        baseline_clean: (...) error of the baseline on clean images.

    Returns:
        (...) relative mCE.

    Source: Hendrycks & Dietterich, ICLR 2019, section 4.3.
    """
    return _mean_ratio(_added(errors, clean), _added(baseline, baseline_clean))


def _added(errors: ArrayLike, clean: ArrayLike) -> NDArray[np.float64]:
    return np.asarray(errors, dtype=np.float64) - np.asarray(clean, dtype=np.float64)[..., None, None]


def _mean_ratio(errors: NDArray[np.float64], baseline: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(100 * (errors.sum(axis=-1) / baseline.sum(axis=-1)).mean(axis=-1))


def expected_calibration_error(confidence: ArrayLike, correct: ArrayLike, *, bins: int = 15) -> NDArray[np.float64]:
    """Compute ECE = Σ_b |B_b|/n · |accuracy(B_b) − mean confidence(B_b)| over ``bins`` equal bins ((b−1)/M, b/M].

    Args:
        confidence: (..., n) softmax probability of the predicted class, in [0, 1].
        correct: (..., n) correct predictions.
        bins: number M of bins of equal width.

    Returns:
        (...) ECE.

    Source: Guo et al., ICML 2017, equation 3, M = 15.
    """
    probability, right = np.asarray(confidence, dtype=np.float64), np.asarray(correct, dtype=np.float64)
    *outer, n = right.shape
    bin_of = np.clip(np.ceil(probability * bins).astype(int) - 1, 0, bins - 1).reshape(-1, n)
    bin_of += bins * np.arange(len(bin_of))[:, None]
    gaps = np.bincount(bin_of.ravel(), weights=(right - probability).ravel(), minlength=bins * len(bin_of))
    return np.asarray(np.abs(gaps).reshape(*outer, bins).sum(axis=-1) / n)


def root_calibration_error(confidence: ArrayLike, correct: ArrayLike) -> NDArray[np.float64]:
    """Estimate the root mean square calibration error, corrected for chance, and its 95 % interval.

    √max(0, T), T = Σ_b w_b (g_b² − v_b) over bins of as many images each (15 of them, fewer below 150 images), w_b the
    share of the images, g_b = accuracy − mean confidence, v_b the variance of g_b: T has no bias, where the expected
    calibration error of a calibrated model is 12 % with 50 images. The interval comes from
    T ± 1.96 √(Σ w_b² (4 g_b² v_b + 2 v_b²)), g_b² without v_b.

    Args:
        confidence: (..., n) softmax probability of the predicted class, in [0, 1].
        correct: (..., n) correct predictions.

    Returns:
        (..., 3) the error and the lower and upper end of its interval, in [0, 1].

    Source: Kumar, Liang & Ma, NeurIPS 2019, definition 4.1 (v_b is there the variance of the predictions alone).
    """
    probability, right = np.asarray(confidence, dtype=np.float64), np.asarray(correct, dtype=np.float64)
    order = np.argsort(probability, axis=-1, kind="stable")
    gaps = np.take_along_axis(right - probability, order, axis=-1)
    n = gaps.shape[-1]
    bins = min(_EQUAL_BINS, max(1, n // _LEAST_IN_BIN))
    starts = np.arange(bins) * n // bins
    counts = np.diff(np.append(starts, n))
    mean = np.add.reduceat(gaps, starts, axis=-1) / counts
    squares = np.add.reduceat(np.square(gaps), starts, axis=-1) / counts
    variance = np.maximum(squares - mean**2, 0) / np.maximum(counts - 1, 1)
    weights, excess = counts / n, mean**2 - variance
    total = (weights * excess).sum(axis=-1)
    spread = 4 * np.maximum(excess, 0) * variance + 2 * variance**2
    half = Z_95 * np.sqrt((weights**2 * spread).sum(axis=-1))
    return np.asarray(np.sqrt(np.clip(np.stack([total, total - half, total + half], axis=-1), 0.0, 1.0)))
