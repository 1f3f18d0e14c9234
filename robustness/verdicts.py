"""Verdicts: a trust mark with the evidence behind it, how several are combined, and the verdict on a model itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

OK, SUSPECT, INVALID = "OK", "SUSPECT", "INVALID"
MARKS = (OK, SUSPECT, INVALID)
"""The marks, from best to worst."""
NOT_CHECKED = "not checked:"
"""Start of the reason for a check that could not be made; a number that lacks a check is SUSPECT."""
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


@dataclass(frozen=True)
class Verdict:
    """A trust mark and the evidence against the number."""

    mark: str
    reasons: tuple[str, ...] = ()

    @property
    def reason(self) -> str:
        """All reasons as one text."""
        return "; ".join(self.reasons)


OKAY = Verdict(OK)


def unite(verdicts: Iterable[Verdict]) -> Verdict:
    """Combine the worst mark and every reason, each once."""
    verdicts = list(verdicts)
    mark = max((verdict.mark for verdict in verdicts), key=MARKS.index, default=OK)
    reasons = dict.fromkeys(reason for verdict in verdicts for reason in verdict.reasons)
    return Verdict(mark, tuple(reasons))


def unite_attempts(verdicts: Iterable[Verdict]) -> Verdict:
    """Combine several attacks on the same images as :func:`unite` does; a check made for one attack counts for all."""
    verdicts = list(verdicts)
    unchecked = [{reason for reason in verdict.reasons if reason.startswith(NOT_CHECKED)} for verdict in verdicts]
    by_all = unchecked[0].intersection(*unchecked) if unchecked else set()
    kept = []
    for verdict in verdicts:
        reasons = tuple(reason for reason in verdict.reasons if reason in by_all or not reason.startswith(NOT_CHECKED))
        kept.append(Verdict(verdict.mark if reasons else OK, reasons))
    return unite(kept)


def grade(value: float, limits: tuple[float, float], reason: str) -> Verdict:
    """Return OK up to the first limit, SUSPECT above it, INVALID above the second."""
    if not value > limits[0]:
        return OKAY
    return Verdict(INVALID if value > limits[1] else SUSPECT, (reason,))


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
