"""Scores against hand-computed cases."""

from __future__ import annotations

import numpy as np
import pytest

from data_prep import corruption_names
from robustness.analysis.metrics import (
    ALEXNET_ERRORS,
    expected_calibration_error,
    mean_corruption_error,
    relative_corruption_error,
    root_calibration_error,
)

ERRORS = [[0.1, 0.3], [0.2, 0.2]]
BASELINE = [[0.4, 0.4], [0.1, 0.4]]


def test_corruption_error_is_the_ratio_of_sums_not_the_mean_of_ratios():
    """CE = 0.4/0.8 = 50 % and 0.4/0.5 = 80 %; the mean of the ratios would be 50 % and 125 %."""
    assert mean_corruption_error(ERRORS, BASELINE) == pytest.approx(65)


def test_relative_corruption_error_by_hand():
    """Clean 0.05 and 0.1: 0.3/0.6 = 50 % and 0.3/0.3 = 100 %."""
    assert relative_corruption_error(ERRORS, 0.05, BASELINE, 0.1) == pytest.approx(75)


def test_alexnets_own_errors_give_exactly_100():
    assert tuple(ALEXNET_ERRORS) == corruption_names("standard")
    errors = np.array(list(ALEXNET_ERRORS.values()))[:, None]
    assert mean_corruption_error(errors, errors) == 100


def test_a_baseline_without_errors_gives_no_finite_number():
    assert mean_corruption_error([[0.1]], [[0.0]]) == np.inf
    assert np.isnan(mean_corruption_error([[0.0]], [[0.0]]))


def test_calibration_error_by_hand():
    """Two bins: (0, ½] holds 0.5 (right) and 0.3 (wrong), (½, 1] holds 0.9 (wrong): |0.2|/3 + |−0.9|/3."""
    assert expected_calibration_error([0.5, 0.3, 0.9], [True, False, False], bins=2) == pytest.approx(1.1 / 3)


def test_the_calibration_error_has_no_bias_and_an_interval():
    """Calibrated answers of 50 images: the mean of its square, signs and all, is zero; ECE says 12 %."""
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.6, 1.0, (2_000, 50))
    found = root_calibration_error(confidence, rng.random((2_000, 50)) < confidence)
    assert (found[:, 1] == 0).mean() > 0.93, "the interval reaches down to none"
    assert np.median(found[:, 0]) < 0.05
    shifted = root_calibration_error(confidence, rng.random((2_000, 50)) < confidence - 0.3)
    assert np.square(shifted[:, 0]).mean() == pytest.approx(0.09, rel=0.03)
    assert ((shifted[:, 1] <= 0.3) & (shifted[:, 2] >= 0.3)).mean() > 0.9


def test_the_calibration_error_by_hand():
    """One bin of four: gaps 0.1 − 1, three of 0.1 … mean −0.15, their variance of the mean taken off its square."""
    gaps = np.array([0.1, 0.1, 0.1, -0.9])
    variance = gaps.var(ddof=1) / 4
    error = root_calibration_error([0.9] * 4, [1, 1, 1, 0])
    assert gaps.mean() ** 2 < variance
    assert error[:2].tolist() == [0, 0]
    wrong = root_calibration_error([0.9] * 4, [0, 0, 0, 0])
    assert wrong.tolist() == pytest.approx([0.9, 0.9, 0.9])


def test_a_calibrated_model_has_no_calibration_error():
    assert expected_calibration_error([0.75] * 4, [1, 1, 1, 0]) == pytest.approx(0)
    assert expected_calibration_error([0.0, 1.0], [0, 1]) == 0
