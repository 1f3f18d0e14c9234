"""Flips and the top-5 distance, in cases that have a closed form."""

from __future__ import annotations

import numpy as np
import pytest

from data_prep.errors import InputError
from robustness.flips import flips_of_sequences, top5_distances


def test_an_answer_that_changes_once_flips_once() -> None:
    once = np.array([[3] * 10 + [4] * 21])
    assert flips_of_sequences(once, noise=False) == pytest.approx(1 / 30)
    assert flips_of_sequences(once, noise=True) == pytest.approx(21 / 30)
    for step in (1, 2, 3):
        assert flips_of_sequences(once, noise=False, step=step) == pytest.approx(step / (31 - step))


def test_an_answer_that_alternates_flips_always_or_every_second_time() -> None:
    alternating = np.tile([0, 1], 16)[None, :31]
    assert flips_of_sequences(alternating, noise=False) == 1
    assert flips_of_sequences(alternating, noise=False, step=2) == 0
    assert flips_of_sequences(alternating, noise=True) == pytest.approx(15 / 30)


def test_sequences_count_alike() -> None:
    both = np.array([[1, 1, 1, 1], [1, 2, 2, 3]])
    np.testing.assert_allclose(flips_of_sequences(both, noise=False), [0, 2 / 3])


def test_independent_guesses_flip_as_often_as_two_of_them_differ() -> None:
    guesses = np.random.default_rng(0).integers(0, 10, (2000, 31))
    for noise in (False, True):
        assert flips_of_sequences(guesses, noise=noise).mean() == pytest.approx(0.9, abs=0.01)


def scores(*lists: list[int], classes: int = 12) -> np.ndarray:
    """Scores of frames whose best classes are these, in order; the rest follows in the order of its numbers."""
    result = np.zeros((1, len(lists), classes))
    for frame, best in enumerate(lists):
        order = best + [number for number in range(classes) if number not in best]
        result[0, frame, order] = -np.arange(classes)
    return result


def test_distance_of_top_5_lists() -> None:
    same = [0, 1, 2, 3, 4]
    assert top5_distances(scores(same, same), noise=False) == 0
    assert top5_distances(scores(same, [5, 6, 7, 8, 9]), noise=False) == 5 + 4 + 3 + 2 + 1
    assert top5_distances(scores(same, [1, 0, 2, 3, 4]), noise=False) == 2
    assert top5_distances(scores(same, [0, 1, 2, 3, 5, 6, 4]), noise=False) == 1  # fifth to seventh: as if sixth
    assert top5_distances(scores(same, [1, 2, 3, 4, 0]), noise=False) == 4 + 1 + 1 + 1 + 1
    there_and_back = scores(same, [1, 0, 2, 3, 4], same)
    assert top5_distances(there_and_back, noise=False) == 2
    assert top5_distances(there_and_back, noise=True) == 1
    assert top5_distances(there_and_back, noise=False, step=2) == 0


def test_distance_is_the_sum_over_the_ranks_that_are_crossed() -> None:
    """The paper's form: Σ_i Σ_{j = min(i, σ(i)) + 1}^{max(i, σ(i))} 1(1 ≤ j − 1 ≤ 5)."""
    rng = np.random.default_rng(1)
    values = rng.normal(size=(1, 2, 9))
    first, second = (np.argsort(-frame) for frame in values[0])
    expected = 0
    for rank in range(1, 6):
        later = 1 + int(np.flatnonzero(second == first[rank - 1])[0])
        expected += sum(1 <= j - 1 <= 5 for j in range(min(rank, later) + 1, max(rank, later) + 1))
    assert top5_distances(values, noise=False) == expected > 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: flips_of_sequences(np.zeros(31, int), noise=False), r"expected \(sequences, frames\) .*, got \(31,\)"),
        (lambda: flips_of_sequences(np.zeros((2, 1), int), noise=True), "at least 2 frames"),
        (lambda: flips_of_sequences(np.zeros((2, 3), int), noise=False, step=3), "at least 4 frames"),
        (lambda: flips_of_sequences(np.zeros((2, 3), int), noise=False, step=0), "a step of at least 1 frame, got 0"),
        (lambda: flips_of_sequences(np.zeros((0, 3), int), noise=False), r"got \(0, 3\)"),
        (lambda: top5_distances(np.zeros((2, 3, 4)), noise=False), "at least 5 classes .*, got 4"),
    ],
)
def test_what_cannot_be_compared_is_named(call, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()
