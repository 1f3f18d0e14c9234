"""Intervals against hand-computed cases."""

from __future__ import annotations

import math

import numpy as np
import pytest

from robustness.statistics import (
    accuracy_interval,
    adjust_for_many,
    find_direction,
    paired_answers,
    paired_differences,
    paired_interval,
    percentile_interval,
    resample_means,
    sign_flip,
    wilson_interval,
    wilson_intervals,
)


@pytest.mark.parametrize(
    ("low", "high", "p", "direction"),
    [
        (0.01, 0.2, 0.01, 1),
        (-0.2, -0.01, 0.01, -1),
        (-0.01, 0.2, 0.01, 0),
        (0.01, 0.2, 0.05, 0),
        (0.01, 0.2, math.nan, 1),
        (math.nan, math.nan, math.nan, 0),
    ],
)
def test_a_difference_is_beyond_doubt_by_its_interval_and_p(low, high, p, direction):
    assert find_direction(low, high, p) == direction


def test_wilson_interval_of_a_textbook_case():
    """8 of 10 at z = 1.96: centre (0.8 + 0.19207)/1.38415, half width 1.96·√(0.016 + 0.009604)/1.38415."""
    low, high = wilson_interval(8, 10, z=1.96)
    assert low == pytest.approx((0.8 + 0.19208 - 1.96 * math.sqrt(0.016 + 0.009604)) / 1.38416, abs=1e-4)
    assert high == pytest.approx((0.8 + 0.19208 + 1.96 * math.sqrt(0.016 + 0.009604)) / 1.38416, abs=1e-4)


def test_wilson_interval_at_the_ends():
    assert wilson_interval(0, 100)[0] == pytest.approx(0.0, abs=1e-12)
    assert wilson_interval(0, 100)[1] == pytest.approx(3.8416 / 103.8416, abs=1e-4)
    assert wilson_interval(100, 100)[1] == pytest.approx(1.0)
    n = np.arange(1, 3000)
    for share in (0.0, 1.0):  # where rounding used to leave some of them out: error bars of negative length
        low, high = wilson_intervals(np.full(len(n), share), n).T
        assert ((low <= share) & (share <= high)).all()


def test_the_interval_of_an_accuracy_is_wilsons_for_as_many_images_as_its_spread_is_worth():
    """Ten images of single answers; of means over severities, which spread less, as if there were more images."""
    assert accuracy_interval(np.ones(10)) == pytest.approx((1.0, *wilson_interval(10, 10)))
    assert accuracy_interval(np.arange(20) < 15) == pytest.approx((0.75, *wilson_interval(15, 20)))
    values = np.array([1.0, 0.5, 0.5, 0.0])
    effect = ((1 + 0.25 + 0.25 + 1) / 6 - 0.25) / 0.25
    mean, low, high = accuracy_interval(values)
    assert (mean, low, high) == pytest.approx((0.5, *wilson_interval(2 / effect, 4 / effect)))
    alike = accuracy_interval(np.full(10, 0.5))
    assert wilson_interval(5, 10)[0] < alike[1] < 0.5 < alike[2] < wilson_interval(5, 10)[1]
    mean, low, high = accuracy_interval([1.0] * 49 + [0.8])
    assert mean == pytest.approx(0.996)
    assert 0.9 < low < mean < high < 1


def test_repeating_the_answers_of_an_image_does_not_narrow_the_interval():
    """Five equal severities tell no more than one: a pooled interval would shrink by √5."""
    once = np.random.default_rng(0).random(200) < 0.7
    assert accuracy_interval(once) == accuracy_interval(np.stack([once] * 5).mean(axis=0))


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
    monkeypatch.setattr("robustness.statistics._DRAWN_AT_ONCE", 100)
    assert resample_means(values, draws=50).shape == (50, 2)
    np.testing.assert_allclose(resample_means(values, draws=50), whole)


def test_the_percentile_interval_is_the_middle_95_percent():
    assert percentile_interval(np.arange(1001)) == (25.0, 975.0)
    assert percentile_interval([0.25]) == (0.25, 0.25)


def test_the_interval_of_a_paired_difference_by_hand():
    """Bonett and Price with t for z: (3 − 1)/52 ± t₄₉ √((6/52 − (2/52)²)/52)."""
    first, second = np.array([True] * 3 + [False] * 47), np.array([False] * 3 + [True] + [False] * 46)
    half = 2.0095752 * math.sqrt((6 / 52 - (2 / 52) ** 2) / 52)
    difference, low, high, p = paired_answers(first, second)
    assert (difference, low, high) == pytest.approx((0.04, 2 / 52 - half, 2 / 52 + half))
    assert p == pytest.approx(0.625), "three against one: 2 (1 + 4)/2⁴"
    assert paired_interval(first.astype(float) - second) == pytest.approx((difference, low, high))


def test_where_no_image_differs_the_interval_still_has_a_width():
    """None of 50 differ: of all images, up to about 5 % may. A whole difference stays within −1 and 1."""
    difference, low, high, p = paired_answers(np.ones(50, bool), np.ones(50, bool))
    assert (difference, p) == (0, 1)
    assert -0.06 < low < 0 < high < 0.06
    assert paired_answers(np.ones(50, bool), np.zeros(50, bool))[2] == 1.0


def test_many_quantities_are_compared_as_each_alone():
    """Means over five answers: the pseudo-images are as far out as the largest difference, p is the interval's."""
    rng = np.random.default_rng(0)
    values = rng.choice([-0.4, -0.2, 0, 0.2, 0.6], (100, 3))
    found = paired_differences(values)
    for column, (mean, low, high, p) in zip(values.T, found.tolist(), strict=True):
        padded = np.append(column, [0.6, -0.6])
        error = padded.std() / math.sqrt(102)
        assert (mean, low, high) == pytest.approx(
            (column.mean(), padded.mean() - 1.9842169 * error, padded.mean() + 1.9842169 * error)
        )
        assert (p < 0.05) == (low > 0 or high < 0)
        assert paired_interval(column) == pytest.approx((mean, low, high))
    few = np.zeros((100, 1))
    few[:4] = 0.2
    assert paired_differences(few)[0, 3] == sign_flip(few[:, 0]) == pytest.approx(2 / 16)


def test_holm_by_hand():
    """Sorted 0.01, 0.02, 0.03, 0.04 times 4, 3, 2, 1, and never below the one before."""
    assert adjust_for_many([0.04, 0.01, math.nan, 0.03, 0.02]) == pytest.approx(
        [0.06, 0.04, math.nan, 0.06, 0.06], nan_ok=True
    )
    assert adjust_for_many([0.6, 0.9]).tolist() == [1, 1]
    assert adjust_for_many([]).tolist() == []


def test_mcnemar_by_hand():
    """One image only the first got right, five only the second: p = 2 (1 + 6)/2⁶ = 0.21875."""
    first = np.array([True] * 4 + [True] + [False] * 5)
    second = np.array([True] * 4 + [False] + [True] * 5)
    assert paired_answers(first, second)[3] == pytest.approx(0.21875)
    assert paired_answers(second, first)[3] == pytest.approx(0.21875)
    assert paired_answers(first, first)[3] == 1
    assert paired_answers([True, False], [False, True])[3] == 1
    assert paired_answers(np.ones(40, bool), np.zeros(40, bool))[3] == pytest.approx(2 / 2**40)


def test_the_sign_flip_test_of_few_images_by_hand():
    """Four images gain alike: of 16 signs two are as extreme. Of single answers it is McNemar's test."""
    assert sign_flip([0.2] * 4 + [0.0] * 96) == pytest.approx(2 / 16)
    assert sign_flip([0.2, 0.2, 0.2, -0.6]) == 1
    assert sign_flip([0.6, 0.2, 0.1, -0.1]) == pytest.approx(6 / 16), "0.8 twice and 1.0, and their opposites"
    assert sign_flip(np.zeros(5)) == 1
    assert math.isnan(sign_flip(np.ones(11)))
    first, second = np.array([True] * 6 + [False] * 3), np.array([False] * 5 + [True, True, False, False])
    assert sign_flip(first.astype(float) - second) == pytest.approx(paired_answers(first, second)[3])
