"""Intervals against hand-computed cases."""

from __future__ import annotations

import math

import numpy as np
import pytest

from robustness.analysis.statistics import clustered_interval, wilson_interval


def test_wilson_interval_of_a_textbook_case():
    """8 of 10 at z = 1.96: centre (0.8 + 0.19207)/1.38415, half width 1.96·√(0.016 + 0.009604)/1.38415."""
    low, high = wilson_interval(8, 10, z=1.96)
    assert low == pytest.approx((0.8 + 0.19208 - 1.96 * math.sqrt(0.016 + 0.009604)) / 1.38416, abs=1e-4)
    assert high == pytest.approx((0.8 + 0.19208 + 1.96 * math.sqrt(0.016 + 0.009604)) / 1.38416, abs=1e-4)


def test_wilson_interval_at_the_ends():
    assert wilson_interval(0, 100)[0] == pytest.approx(0.0, abs=1e-12)
    assert wilson_interval(0, 100)[1] == pytest.approx(3.8416 / 103.8416, abs=1e-4)
    assert wilson_interval(100, 100)[1] == pytest.approx(1.0)


def test_clustered_interval_by_hand():
    mean, low, high = clustered_interval([0.0, 1.0, 1.0, 0.5], z=2.0)
    deviation = math.sqrt((0.625**2 + 2 * 0.375**2 + 0.125**2) / 3)
    assert mean == 0.625
    assert high - mean == pytest.approx(2 * deviation / 2)
    assert low == pytest.approx(mean - (high - mean))


def test_repeating_the_answers_of_an_image_does_not_narrow_the_interval():
    """Five equal severities tell no more than one: a pooled interval would shrink by √5."""
    once = np.random.default_rng(0).random(200) < 0.7
    assert clustered_interval(once) == clustered_interval(np.stack([once] * 5).mean(axis=0))
