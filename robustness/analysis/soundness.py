"""Marks of a model itself, on every row of it: its answers depend on chance, on earlier calls, or on the batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from robustness.analysis.trust import INVALID, OK, SUSPECT, Verdict

CLASSES = 0.1
"""Share of the images whose class depends on earlier calls or the batch, above which a number is INVALID."""
_REASONS = {
    "chance": "answers change by chance: measure it several times, or switch the chance off",
    "outside": "answers change by chance or with what was asked before, and neither a seed nor the model's state holds "
    "it: switch chance and memory off",
    "history": "answers depend on what was asked before: the number holds for this order only, switch the memory off",
    "batch": "answers depend on the other images of the batch: the number holds for this batch size and order only, "
    "use fixed statistics",
    "instance": "answers are others from another instance of the model: it is drawn anew each time, so seed it",
}
_DECISIVE = ("outside", "history", "batch")
NO_WEIGHTS = "no weights that torch knows of: the model is told from others by its answers to a few images"


def judge_soundness(found: Mapping[str, Any]) -> Verdict:
    """Judge a model's numbers at its λ by an entry of the record's ``soundness``.

    Changing answers make a number SUSPECT, and INVALID if more than 10 % of the images change their class with the
    batch, with earlier calls, or with what may be either calls or chance. A random model's number is still right on
    average, and a number that another instance would change is still right for this one.
    """
    if found["error"]:
        return Verdict(SUSPECT, (f"not checked before the grid: {found['error']}",))
    reasons = tuple(f"{change['logits']:.0%} of {found['n']} {_REASONS[change['kind']]}" for change in found["changes"])
    decides = any(change["kind"] in _DECISIVE and change["classes"] > CLASSES for change in found["changes"])
    mark = INVALID if decides else SUSPECT if reasons else OK
    return Verdict(mark, reasons if found["has_weights"] else (*reasons, NO_WEIGHTS))
