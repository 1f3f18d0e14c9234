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


def test_a_calibrated_model_has_no_calibration_error():
    assert expected_calibration_error([0.75] * 4, [1, 1, 1, 0]) == pytest.approx(0)
    assert expected_calibration_error([0.0, 1.0], [0, 1]) == 0
