"""Trust marks: whether an adversarial accuracy can be believed, and if not, why.

A defence that hides its gradients looks robust because the attack fails, not because no adversarial image exists. A
large λ does just that: it silences every code and with them every gradient.

Source: Athalye, Carlini & Wagner, ICML 2018, section 3.1; Carlini et al., *On Evaluating Adversarial Robustness*, 2019,
section 5; Croce & Hein, ICML 2020, section 6. The thresholds are this project's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from robustness.analysis.statistics import wilson_interval
from robustness.attack import allowed_distance

OK, SUSPECT, INVALID = "OK", "SUSPECT", "INVALID"
_ORDER = (OK, SUSPECT, INVALID)

ZERO_GRADIENT = (0.1, 0.5)
"""Mean share of exact zeros in the input gradient, above which a number is SUSPECT, and above which it is INVALID."""
SQUARE = (0.01, 0.1)
"""Robust accuracy that Square, which needs no gradient, takes off what withstood the white-box attack."""
LONG = (0.05, 0.2)
"""Robust accuracy that PGD with 100 steps takes off what withstood the attack."""
TRANSFER = (0.02, 0.2)
"""By how much images crafted at another λ lower the accuracy below the white-box attack's."""
RISE = (0.01, 0.1)
"""By how much the accuracy rises when ε grows."""
UNBOUNDED_SUSPECT, UNBOUNDED_INVALID = 0.1, 0.5
"""Accuracy under PGD with ε = 1; SUSPECT once its interval lies above the first, or above chance if that is less."""
REBATCH = (0.01, 0.1)
"""Share of images that are answered otherwise at another batch size, or by the attack and afterwards."""
DROPPED = (0.01, 0.1)
"""Share of images that withstood an attack of which an attempt left the budget that it was given, and did not count."""
UNSTABLE = (0.01, 0.1)
"""Share of images that give other logits the second time."""
DISTRIBUTION = (0.5, 1.0)
"""Share of images whose logits are a probability distribution."""
NOT_CHECKED = "not checked:"
"""Begins what is said of a comparison that the run does not hold; it marks nothing."""


@dataclass(frozen=True)
class Verdict:
    """A mark and what speaks against the number."""

    mark: str
    reasons: tuple[str, ...] = ()

    @property
    def reason(self) -> str:
        """All reasons in one text."""
        return "; ".join(self.reasons)


def unite(verdicts: Iterable[Verdict]) -> Verdict:
    """The worst mark and every reason, each once."""
    verdicts = list(verdicts)
    mark = max((verdict.mark for verdict in verdicts), key=_ORDER.index, default=OK)
    reasons = dict.fromkeys(reason for verdict in verdicts for reason in verdict.reasons)
    return Verdict(mark, tuple(reasons))


def grade(value: float, limits: tuple[float, float], reason: str) -> Verdict:
    """OK up to the first limit, SUSPECT above it, INVALID above the second."""
    if not value > limits[0]:
        return Verdict(OK)
    return Verdict(INVALID if value > limits[1] else SUSPECT, (reason,))


def judge(frame: pd.DataFrame, *, eps: float, num_classes: int, standing: np.ndarray | None = None) -> Verdict:
    """Judge a white-box cell by what was measured beside it.

    Whether a further attack breaks more is asked of the images that nothing broke; whether the gradients, the budget
    and the answers are sound, of all of them.

    Args:
        frame: its outcomes, with the columns of :meth:`robustness.measure.attacker.Attacker._verify`.
        eps: budget of the attack.
        num_classes: chance is one in so many.
        standing: (N,) the images that withstand everything else that counts for the number; None for all of them.
    """
    n = len(frame)
    left = np.ones(n, bool) if standing is None else standing
    zeros = float(frame["zero_gradient"].mean())
    stages = str(frame["stages"].iloc[0]).split(",")
    verdicts = [
        grade(zeros, ZERO_GRADIENT, f"{zeros:.0%} of the input gradient is exactly zero"),
        _judge_square(frame, stages, left),
        _judge_unbounded(frame, num_classes),
    ]
    if not any(stage.startswith("apgd") for stage in stages):
        verdicts.append(_judge_probe(frame, left, "long", LONG, "PGD-100"))
    shares = {name: float(frame[name].mean()) for name in ("unstable", "distribution")}
    dropped = float((frame["dropped"] & frame["correct"] & left).mean())
    lost = float(((frame["broken_by"] != "") & frame["correct"]).mean())
    verdicts += [
        grade(
            shares["unstable"], UNSTABLE, f"{shares['unstable']:.1%} of the images give other logits the second time"
        ),
        grade(shares["distribution"], DISTRIBUTION, "the model returns probabilities: attacks need logits"),
        grade(dropped, DROPPED, f"attempts on {dropped:.1%} of the images left the budget or [0, 1] and do not count"),
        grade(lost, REBATCH, f"{lost:.1%} of the images that the attack turned are answered rightly afterwards"),
    ]
    outside = int((frame["distance"] > allowed_distance(eps)).sum())
    if outside:
        verdicts.append(Verdict(INVALID, (f"{outside} of {n} images are farther than ε from their original",)))
    if out_of_range := int((~frame["in_range"]).sum()):
        verdicts.append(Verdict(INVALID, (f"{out_of_range} of {n} images leave [0, 1]",)))
    flips = float((frame["predicted"] != frame["predicted_again"]).mean())
    verdicts.append(grade(flips, REBATCH, f"{flips:.1%} of the answers change with the batch size"))
    return unite(verdicts)


def _judge_square(frame: pd.DataFrame, stages: list[str], left: np.ndarray) -> Verdict:
    """Square in an ensemble counts after a white-box part; elsewhere, and after a short one, it was tried apart."""
    verdicts = []
    if "square" not in stages or (frame["square"] >= 0).any():
        verdicts.append(_judge_probe(frame, left, "square", SQUARE, "Square"))
    if "square" in stages[1:]:
        share = float(((frame["broken_by"] == "square") & left).mean())
        verdicts.append(grade(share, SQUARE, f"Square breaks {share:.1%} that the parts before it did not"))
    return unite(verdicts)


def _judge_probe(frame: pd.DataFrame, left: np.ndarray, column: str, limits: tuple[float, float], name: str) -> Verdict:
    """A further attack on some of the images that withstood; its success is scaled to all of them."""
    withstood = frame["correct"].to_numpy() & left
    was_tried = (frame[column] >= 0).to_numpy()
    tried = frame.loc[was_tried & left, column]
    if withstood.any() and not was_tried.any():
        return Verdict(SUSPECT, (f"not checked by {name}",))
    if withstood.any() and not len(tried):
        return Verdict(OK, (f"{NOT_CHECKED} {name} on any image that still stands",))
    broken = int((tried == 0).sum())
    if broken < 2:
        return Verdict(OK)
    drop = broken / len(tried) * float(withstood.mean())
    return grade(drop, limits, f"{name} breaks {broken} of {len(tried)} images that withstood the attack")


def _judge_unbounded(frame: pd.DataFrame, num_classes: int) -> Verdict:
    tried = frame.loc[frame["unbounded"] >= 0, "unbounded"]
    if not len(tried):
        return Verdict(SUSPECT, ("not checked by PGD at ε = 1",)) if frame["attacked"].any() else Verdict(OK)
    right = int(tried.sum())
    low, _ = wilson_interval(right, len(tried))
    most_by_chance = min(1 / num_classes, UNBOUNDED_SUSPECT)
    reason = f"{right} of {len(tried)} images withstand PGD without a bound (ε = 1)"
    if right / len(tried) > UNBOUNDED_INVALID:
        return Verdict(INVALID, (reason,))
    return Verdict(SUSPECT, (reason,)) if low > most_by_chance else Verdict(OK)


def judge_transfer(these: np.ndarray, others: dict[str, np.ndarray]) -> Verdict:
    """Whether images crafted at other λs fool a model more often than these.

    Args:
        these: (N,) bool, right answers to the images of the row that is judged.
        others: the same for images crafted at other λs, by the name of the λ; if there are none, that is said.
    """
    if not others:
        return Verdict(OK, (f"{NOT_CHECKED} images crafted at another λ",))
    own = float(these.mean())
    verdicts = [
        grade(
            own - float(right.mean()),
            TRANSFER,
            f"images crafted at {name} leave {right.mean():.1%}, these {own:.1%}",
        )
        for name, right in others.items()
    ]
    return unite(verdicts)


def judge_rise(accuracy: float, smaller: dict[str, float]) -> Verdict:
    """Whether the accuracy is higher than at a smaller budget, whose images are allowed here, too.

    Args:
        accuracy: at this budget.
        smaller: accuracy at smaller budgets, by the name of the budget; if there are none, that is said.
    """
    if not smaller:
        return Verdict(OK, (f"{NOT_CHECKED} a smaller ε",))
    return unite(
        grade(accuracy - value, RISE, f"{accuracy:.1%} is more than the {value:.1%} at ε = {name}")
        for name, value in smaller.items()
    )
