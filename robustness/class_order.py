"""Check that the outputs of a model stand for the classes of the data in the same order, by its clean predictions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustness.statistics import paired_answers
from robustness.verdicts import SUSPECT, Verdict

LEAST_GAIN = 0.05
"""Smallest gain of accuracy by another order of the classes."""
LEAST_RATIO = 3
"""Smallest ratio of the images that the other order gets right to those that it loses: where a model takes one class
for another, and does not swap the two, the other order loses about as many."""
SIGNIFICANCE = 1e-4
"""Largest p of McNemar's test of the accuracies in the two orders."""
_SHOWN = 3
Classes = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class OtherOrder:
    """An order of the classes that fits a model's predictions better than the order of the data.

    Args:
        accuracy: accuracy as measured.
        reordered: accuracy in the other order. An order that was fitted was fitted on other images.
        moves: outputs that stand for another class in it, as ``output 2 for 10``, some of them.
    """

    accuracy: float
    reordered: float
    moves: tuple[str, ...]

    @property
    def verdict(self) -> Verdict:
        """The verdict on every number of the model."""
        moves = ", ".join(self.moves)
        reason = (
            f"{self.reordered:.1%} of the clean images would be right with its classes in another order ({moves}), "
            f"{self.accuracy:.1%} are: give its order with --classes, or reorder its outputs"
        )
        return Verdict(SUSPECT, (reason,))


def find_other_order(predicted: Classes, labels: Classes, names: Sequence[str]) -> OtherOrder | None:
    """Find an order of the classes that fits predictions (N,) of clean images clearly better than the given one.

    An order π renames output k to class π(k). Tried are the best π on every second image, judged on the others and
    vice versa; outputs one too high or too low; and the ``names`` sorted as text or as numbers. An order must gain
    :data:`LEAST_GAIN` and :data:`LEAST_RATIO` images for one lost, with p ≤ :data:`SIGNIFICANCE` in McNemar's test.

    Returns:
        The order with the largest gain; None if there is none.
    """
    right = predicted == labels
    counts = np.zeros((len(names), len(names)), np.int64)
    np.add.at(counts, (predicted, labels), 1)
    if (counts.diagonal() == counts.max(axis=0)).all():
        return None  # every class is predicted as itself most often
    best: OtherOrder | None = None
    for renamed, order in _list_orders(predicted, labels, names):
        hit = renamed == labels
        gain, *_, p = paired_answers(hit, right)
        is_ratio = (hit & ~right).sum() >= LEAST_RATIO * (right & ~hit).sum()
        if gain >= LEAST_GAIN and is_ratio and p <= SIGNIFICANCE and (best is None or hit.mean() > best.reordered):
            used = [k for k in np.unique(predicted).tolist() if order[k] != k]
            moves = tuple(f"output {k} for {names[order[k]]}" for k in used[:_SHOWN])
            best = OtherOrder(float(right.mean()), float(hit.mean()), moves + ("…",) * (len(used) > _SHOWN))
    return best


def _list_orders(predicted: Classes, labels: Classes, names: Sequence[str]) -> Iterator[tuple[Classes, Classes]]:
    """Yield renamed predictions (N,) and the order π (C,) that renames them."""
    renamed = np.empty_like(predicted)
    for half in (0, 1):
        renamed[half::2] = _fit_order(predicted[1 - half :: 2], labels[1 - half :: 2], len(names))[predicted[half::2]]
    yield renamed, _fit_order(predicted, labels, len(names))
    classes = range(len(names))
    orders = [np.roll(classes, 1), np.roll(classes, -1), np.array(sorted(classes, key=lambda k: names[k]))]
    if all(name.isdecimal() for name in names):
        orders.append(np.array(sorted(classes, key=lambda k: int(names[k]))))
    yield from ((order[predicted], order) for order in orders)


def _fit_order(predicted: Classes, labels: Classes, count: int) -> Classes:
    """Return the order π (C,) with the most images right; among equal ones the one that moves the fewest outputs."""
    from scipy.optimize import linear_sum_assignment  # only here: most models never come this far

    counts = np.zeros((count, count))
    np.add.at(counts, (predicted, labels), 1)
    np.fill_diagonal(counts, counts.diagonal() + 0.5 / count)
    order: Classes = linear_sum_assignment(counts, maximize=True)[1]
    return order
