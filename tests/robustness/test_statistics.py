"""Intervals against hand-computed cases."""

from __future__ import annotations

import math

import numpy as np
import pytest

from robustness.analysis.statistics import (
    accuracy_interval,
    clustered_interval,
    mcnemar,
    paired_answers,
    paired_interval,
    paired_intervals,
    percentile_interval,
    percentile_intervals,
    resample_means,
    sign_flip,
    wilson_interval,
)


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


def test_the_interval_of_an_accuracy_stays_within_its_range():
    """All right: Wilson's, which is not a point; nearly all right: cut off at 1."""
    assert accuracy_interval(np.ones(10)) == (1.0, *wilson_interval(10, 10))
    assert accuracy_interval(np.arange(20) < 15) == (0.75, *wilson_interval(15, 20))
    assert accuracy_interval(np.full(10, 0.5)) == (0.5, *wilson_interval(5, 10)), "alike is not certain"
    mean, low, high = accuracy_interval([1.0, 1.0, 1.0, 0.2])
    assert (low, high) == (pytest.approx(clustered_interval([1.0, 1.0, 1.0, 0.2])[1]), 1.0)
    assert accuracy_interval([0.0, 0.0, 0.0, 0.8])[1] == 0.0
    assert mean == pytest.approx(0.8)


def test_repeating_the_answers_of_an_image_does_not_narrow_the_interval():
    """Five equal severities tell no more than one: a pooled interval would shrink by √5."""
    once = np.random.default_rng(0).random(200) < 0.7
    assert clustered_interval(once) == clustered_interval(np.stack([once] * 5).mean(axis=0))


def test_bootstrap_means_have_the_moments_of_the_mean():
    """Mean 0.4 and standard deviation √(0.24/50) of a proportion; columns drawn together stay paired."""
    values = np.repeat([0.0, 1.0], [30, 20])
    means = resample_means(np.stack([values, 1 - values], axis=1), draws=20_000)
    assert means[:, 0].mean() == pytest.approx(0.4, abs=0.002)
    assert means[:, 0].std() == pytest.approx(math.sqrt(0.24 / 50), rel=0.02)
    np.testing.assert_allclose(means.sum(axis=1), 1)


def test_the_same_seed_draws_the_same_and_pieces_change_nothing_but_memory(monkeypatch):
    values = np.random.default_rng(0).random((40, 2))
    whole = resample_means(values, draws=50)
    np.testing.assert_array_equal(whole, resample_means(values, draws=50))
    assert not np.array_equal(whole, resample_means(values, draws=50, seed=1))
    monkeypatch.setattr("robustness.analysis.statistics._DRAWN_AT_ONCE", 100)
    assert resample_means(values, draws=50).shape == (50, 2)
    np.testing.assert_allclose(resample_means(values, draws=50), whole)


def test_the_percentile_interval_is_the_middle_95_percent():
    assert percentile_interval(np.arange(1001)) == (25.0, 975.0)


def test_the_paired_interval_of_a_constant_gain_is_a_point_and_of_none_includes_zero():
    assert paired_interval(np.full(10, 0.25)) == (0.25, 0.25, 0.25)
    mean, low, high = paired_interval(np.repeat([-1.0, 0.0, 1.0], [10, 80, 10]))
    assert mean == 0
    assert low < 0 < high
    assert high == pytest.approx(1.96 * math.sqrt(0.2 / 100), abs=0.01)


def test_mcnemar_by_hand():
    """One image only the first got right, five only the second: p = 2 (1 + 6)/2⁶ = 0.21875."""
    first = np.array([True] * 4 + [True] + [False] * 5)
    second = np.array([True] * 4 + [False] + [True] * 5)
    assert mcnemar(first, second) == pytest.approx(0.21875)
    assert mcnemar(second, first) == pytest.approx(0.21875)
    assert mcnemar(first, first) == 1
    assert mcnemar([True, False], [False, True]) == 1
    assert mcnemar(np.ones(40, bool), np.zeros(40, bool)) == pytest.approx(2 / 2**40)


def test_intervals_of_many_quantities_are_those_of_each():
    """Means of five answers of 100 images; of up to three values equal images are drawn together: other draws."""
    rng = np.random.default_rng(0)
    values = rng.choice([-0.4, -0.2, 0, 0.2, 0.4, 0.6], (100, 4))
    values[:, 3] = rng.choice([-1, 0, 1], 100)
    intervals = paired_intervals(values)
    for column, (mean, low, high) in zip(values.T, intervals, strict=True):
        drawn = resample_means(column, draws=20_000, seed=1)
        assert mean == pytest.approx(column.mean())
        assert (low, high) == pytest.approx(np.quantile(drawn, [0.025, 0.975]).tolist(), abs=0.1 * (high - low))
        assert paired_interval(column) == pytest.approx((mean, low, high), abs=0.1 * (high - low))
    assert paired_interval(values[:, 0]) == pytest.approx(tuple(intervals[0]), abs=1e-12)


def test_percentiles_lie_between_the_draws_as_numpy_says():
    samples = np.random.default_rng(0).random((57, 3))
    np.testing.assert_allclose(percentile_intervals(samples), np.quantile(samples, [0.025, 0.975], axis=0).T)
    assert percentile_interval([0.25]) == (0.25, 0.25)


def test_the_sign_flip_test_of_few_images_by_hand():
    """Four images gain alike: of 16 signs two are as extreme. Of single answers it is McNemar's test."""
    assert sign_flip([0.2] * 4 + [0.0] * 96) == pytest.approx(2 / 16)
    assert sign_flip([0.2, 0.2, 0.2, -0.6]) == 1
    assert sign_flip([0.6, 0.2, 0.1, -0.1]) == pytest.approx(6 / 16), "0.8 twice and 1.0, and their opposites"
    assert sign_flip(np.zeros(5)) == 1
    assert math.isnan(sign_flip(np.ones(11)))
    first, second = np.array([True] * 6 + [False] * 3), np.array([False] * 5 + [True, True, False, False])
    assert sign_flip(first.astype(float) - second) == pytest.approx(mcnemar(first, second))


def test_many_images_have_the_intervals_of_few(monkeypatch):
    """Drawn over distinct values instead of images: another order of the same draws."""
    values = np.random.default_rng(0).choice([-0.4, -0.2, 0, 0.2, 0.6], (300, 3))
    shared = paired_intervals(values)
    monkeypatch.setattr("robustness.analysis.statistics._FEW_IMAGES", 100)
    np.testing.assert_allclose(paired_intervals(values), shared, atol=0.006)
    assert not np.array_equal(paired_intervals(values), shared)


def test_paired_answers_are_what_their_differences_and_mcnemar_say():
    first, second = np.array([True] * 7 + [False] * 5), np.array([True] * 3 + [False] * 7 + [True] * 2)
    difference = first.astype(float) - second
    assert paired_answers(first, second) == (*paired_interval(difference), mcnemar(first, second))
    assert paired_answers(first, first) == (0, 0, 0, 1)
