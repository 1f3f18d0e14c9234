"""Scores of a model: corruption error and its relatives, calibration. Errors and accuracies are fractions."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

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
    """mCE = 100/C · Σ_c CE_c, CE_c = Σ_s E_{s,c} / Σ_s E⁰_{s,c}: in percent of the errors of a baseline.

    Args:
        errors: (..., C, S) or, of means over the severities, (..., C, 1) errors of the model.
        baseline: the same of the baseline. Both must be of the same severities; a baseline without any error under a
            corruption gives no finite number.

    Returns:
        (...) mCE.

    Source: Hendrycks & Dietterich, ICLR 2019, section 4.3.
    """
    return _mean_ratio(np.asarray(errors, dtype=np.float64), np.asarray(baseline, dtype=np.float64))


def relative_corruption_error(
    errors: ArrayLike, clean: ArrayLike, baseline: ArrayLike, baseline_clean: ArrayLike
) -> NDArray[np.float64]:
    """Relative mCE = 100/C · Σ_c Σ_s (E_{s,c} − E_clean) / Σ_s (E⁰_{s,c} − E⁰_clean): the added errors.

    Args:
        errors: (..., C, S) errors of the model.
        clean: (...) its error on clean images.
        baseline: (..., C, S) errors of the baseline.
        baseline_clean: (...) its error on clean images.

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
    """ECE = Σ_b |B_b|/n · |accuracy(B_b) − mean confidence(B_b)| over ``bins`` bins of equal width, ((b−1)/M, b/M].

    Args:
        confidence: (..., n) softmax probability of the predicted class, in [0, 1].
        correct: (..., n) right answers.
        bins: M.

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
