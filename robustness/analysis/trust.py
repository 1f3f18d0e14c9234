"""Trust marks: can an adversarial accuracy be believed, and if not, why not?

A defence that hides its gradients looks robust because the attack fails, not because adversarial images do not exist. A
large λ has this effect: it silences every code and with it every gradient.

Source: Athalye, Carlini & Wagner, ICML 2018, section 3.1; Carlini et al., *On Evaluating Adversarial Robustness*, 2019,
section 5; Croce & Hein, ICML 2020, section 6. The thresholds are this project's.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from robustness.analysis.columns import read_stages
from robustness.attack import allowed_distance
from robustness.attack_kinds import has_margin_loss
from robustness.statistics import wilson_interval
from robustness.verdicts import INVALID, MARKS, NOT_CHECKED, OK, OKAY, SUSPECT, Verdict, grade, unite

ZERO_GRADIENT = (0.1, 0.5)
"""Mean share of exact zeros in the input gradient, above which a number is doubted. INVALID needs further evidence,
namely that the attack lacks power or another attack breaks more: a median filter has no gradient for most values, yet
hides nothing."""
SQUARE = (0.01, 0.1)
"""Decrease in robust accuracy when Square, which needs no gradient, attacks the images that withstood the white-box
attack."""
LOSSES = (0.05, 0.2)
"""Decrease in robust accuracy when APGD with other losses attacks images that withstood the attack, drawn at random."""
WEAKEST = (0.03, 0.1)
"""Decrease in robust accuracy when survivors with the smallest margins are attacked until most withstand. Broken images
are counted, not scaled to all survivors; they are about half of the images that the attacks would break, hence the
smaller limits."""
TRANSFER = (0.02, 0.2)
"""Decrease in accuracy, below the attack's, caused by images crafted elsewhere (at another λ, on other networks)."""
RISE = (0.01, 0.1)
"""Increase in accuracy when ε grows."""
LARGER = (0.1, 0.5)
"""Accuracy under PGD at eight times ε; SUSPECT once its interval lies above the first limit, or above chance if that is
lower."""
REBATCH = (0.01, 0.1)
"""Share of images whose prediction changes at another batch size, or between the attack and afterwards."""
FRESH = (0.01, 0.1)
"""Decrease in accuracy when a fresh instance is shown the images that withstood."""
DROPPED = (0.01, 0.1)
"""Share of images that withstood an attack in which an attempt left its budget and did not count."""
UNSTABLE = (0.01, 0.1)
"""Share of images whose logits change in a second evaluation."""
DISTRIBUTION = (0.5, 1.0)
"""Share of images whose logits are a probability distribution."""
SLOPE, SLOPE_INVALID = 2.0, 10.0
"""Median factor between finite differences and the gradient, in either direction: limits of SUSPECT and INVALID."""
POWER, POWER_INVALID = 0.95, 0.5
"""Share of planted adversarial examples that an attack must find."""
JUMP, JUMPING = 0.1, (0.1, 0.5)
"""A jump is a change that the gradient does not explain and that exceeds this share of all change on the way to where
an attack left a survivor (honest networks: a hundredth); JUMPING limits the share of survivors with a jump on their
way."""
MARGIN = 0.95
"""Median share of its clean margin that a survivor keeps."""
STUCK = (0.25, 0.75)
"""Share of survivors that PGD left within half of the budget, or at a point without a gradient."""


def judge(frame: pd.DataFrame, *, eps: float, num_classes: int, standing: np.ndarray | None = None) -> Verdict:
    """Judge a white-box cell by the measurements made alongside it.

    A further attack is judged on the images that no attack broke; gradients, budget and predictions are judged on all
    images. If no image withstood, only the predictions can be doubted.

    Args:
        frame: outcomes of the cell, with the columns of :meth:`robustness.measure.attacker.Attacker._verify`.
        eps: budget of the attack.
        num_classes: number of classes; chance is one over it.
        standing: (N,) the images that withstand all other attacks that count for the number; None for all images.
    """
    left = np.ones(len(frame), bool) if standing is None else standing
    withstood = frame["correct"].to_numpy() & left
    verdicts = [_judge_answers(frame, left, eps), _judge_square(frame, left)]
    beaten = [
        _judge_losses(frame, left),
        _judge_earlier(frame, left),
        _judge_probe(frame, left, "transfer", TRANSFER, "images of other networks", "attack through one of those"),
        _judge_larger(frame, withstood, num_classes),
        _judge_power(frame, withstood),
        _judge_slope(frame, withstood),
    ]
    fresh = _judge_probe(frame, left, "fresh", FRESH, "a fresh instance of the model", "measure it without memory")
    verdicts += [*beaten, fresh, _judge_survivors(frame, withstood)]
    return unite([*verdicts, _judge_zeros(frame, beaten)])


def attack_power(frame: pd.DataFrame) -> tuple[int, int]:
    """Return how many planted adversarial examples the attack found, and how many were planted: the active test."""
    planted = _tried(frame, "planted")
    return int((planted == 1).sum()), int((planted >= 0).sum())


def _tried(frame: pd.DataFrame, column: str) -> np.ndarray:
    """Return a probe's result for each image, (N,), −1 if it was not tried; runs of older versions lack some probes."""
    if column not in frame:
        return np.full(len(frame), -1)
    values: np.ndarray = frame[column].to_numpy().astype(int)
    return values


def _measured(frame: pd.DataFrame, column: str) -> np.ndarray:
    """Return a probe's values without NaN; empty if runs of older versions lack it."""
    return frame[column].dropna().to_numpy() if column in frame else np.empty(0)


def _judge_answers(frame: pd.DataFrame, left: np.ndarray, eps: float) -> Verdict:
    """Judge whether predictions are reproducible, outputs are logits, and images lie within the budget."""
    n = len(frame)
    unstable, distribution = (_share(_tried(frame, name)) for name in ("unstable", "distribution"))
    dropped = float((frame["dropped"] & frame["correct"] & left).mean())
    lost = float(((frame["broken_by"] != "") & frame["correct"]).mean())
    flips = float((frame["predicted"] != frame["predicted_again"]).mean())
    averaged = _tried(frame, "averaged")
    said = ""
    if (averaged >= 0).any():
        left_over = _share(averaged) * float((frame["correct"] & left).mean())
        said = f" (averaged over its randomness, APGD leaves about {left_over:.0%})"
    judged = [
        (
            unstable,
            UNSTABLE,
            f"{unstable:.1%} of the images give other logits the second time{said}: attack the mean of many answers",
        ),
        (distribution, DISTRIBUTION, "the model returns probabilities: take the softmax off, attacks need logits"),
        (
            dropped,
            DROPPED,
            f"attempts on {dropped:.1%} of the images left the budget or [0, 1] and do not count: mend the attack",
        ),
        (
            lost,
            REBATCH,
            f"{lost:.1%} of the images that the attack turned are answered rightly afterwards: the answers depend on "
            "more than the image",
        ),
        (flips, REBATCH, f"{flips:.1%} of the answers change with the batch size: answer every image by itself"),
    ]
    verdicts = [grade(*one) for one in judged]
    if outside := int((frame["distance"] > allowed_distance(eps)).sum()):
        verdicts.append(Verdict(INVALID, (f"{outside} of {n} images are farther than ε from their original",)))
    if out_of_range := int((~frame["in_range"]).sum()):
        verdicts.append(Verdict(INVALID, (f"{out_of_range} of {n} images leave [0, 1]",)))
    return unite(verdicts)


def _share(tried: np.ndarray) -> float:
    """Return the share of 1 among the images that a probe looked at."""
    looked = tried[tried >= 0]
    return float(looked.mean()) if len(looked) else 0.0


def _judge_zeros(frame: pd.DataFrame, beaten: list[Verdict]) -> Verdict:
    """Judge a gradient of zeros or non-numbers; a few zeros count only together with other evidence."""
    if undefined := _share(_tried(frame, "undefined")):
        return Verdict(INVALID, (f"the gradient of {undefined:.0%} of the images is not a number: mend the model",))
    zeros = float(frame["zero_gradient"].mean()) if frame["zero_gradient"].notna().any() else 0.0
    reason = f"{zeros:.0%} of the input gradient is exactly zero: attack a differentiable stand-in (BPDA)"
    verdict = grade(zeros, ZERO_GRADIENT, reason)
    is_silent = zeros > 0.99
    return verdict if is_silent or unite(beaten).mark != OK else OKAY


def _judge_square(frame: pd.DataFrame, left: np.ndarray) -> Verdict:
    """Judge Square: in an ensemble it counts after a white-box part; tried apart, it counts like any further attack."""
    stages = read_stages(frame)
    verdicts = []
    if (_tried(frame, "square") >= 0).any():
        verdicts.append(_judge_probe(frame, left, "square", SQUARE, "Square", "run AutoAttack"))
    if "square" in stages[1:]:
        share = float(((frame["broken_by"] == "square") & left).mean())
        reason = f"Square breaks {share:.1%} that the parts before it did not: the gradient misleads them"
        verdicts.append(grade(share, SQUARE, reason))
    return unite(verdicts)


def _judge_probe(
    frame: pd.DataFrame, left: np.ndarray, column: str, limits: tuple[float, float], name: str, advice: str
) -> Verdict:
    """Judge a further attack on some of the images that withstood; its success is scaled to all of them."""
    withstood = frame["correct"].to_numpy() & left
    answers = _tried(frame, column)
    tried = answers[(answers >= 0) & left]
    if withstood.any() and not len(tried):
        some = " any image that still stands" if (answers >= 0).any() else ""
        return _miss(frame, column, f"{name}{' on' * bool(some)}{some}")
    broken = int((tried == 0).sum())
    if broken < 2:
        return OKAY
    drop = broken / len(tried) * float(withstood.mean())
    reason = f"{name}: {broken} of {len(tried)} images that withstood the attack are answered wrongly, {advice}"
    return grade(drop, limits, reason)


def _miss(frame: pd.DataFrame, column: str, name: str) -> Verdict:
    """Doubt a number that lacks a check, and say how to make the check."""
    advice = "raise probe_images" if column in frame else "measured by an earlier version, measure again with --fresh"
    return Verdict(SUSPECT, (f"{NOT_CHECKED} {name}: {advice}",))


def _judge_earlier(frame: pd.DataFrame, left: np.ndarray) -> Verdict:
    """Judge PGD-100, which earlier versions tried on survivors."""
    if not (_tried(frame, "long") >= 0).any():
        return OKAY
    return _judge_probe(frame, left, "long", LOSSES, "PGD-100", "attack with more steps")


def _judge_losses(frame: pd.DataFrame, left: np.ndarray) -> Verdict:
    """Judge other losses on survivors drawn at random and on those with the smallest margins: the worse verdict."""
    name, advice = "APGD with other losses", "run AutoAttack"
    if has_margin_loss(read_stages(frame)):
        name, advice = "PGD with the plain margin", "attack with it, too"
        if not (_tried(frame, "losses") >= 0).any():  # outcomes of older versions
            return OKAY
    drawn = _judge_probe(frame, left, "losses", LOSSES, name, advice)
    fell = ((_tried(frame, "weakest") == 0) | (_tried(frame, "losses") == 0)) & frame["correct"].to_numpy() & left
    if (broken := int(fell.sum())) < 2:
        return drawn
    reason = f"{name} breaks {broken} more of the {len(frame)} images: {advice}"
    return max(drawn, grade(broken / len(frame), WEAKEST, reason), key=lambda verdict: MARKS.index(verdict.mark))


def _judge_larger(frame: pd.DataFrame, withstood: np.ndarray, num_classes: int) -> Verdict:
    column, budget = ("larger", "eight times ε") if "larger" in frame else ("unbounded", "ε = 1")  # earlier versions
    answers = _tried(frame, column)
    tried = int((answers >= 0).sum())
    if not tried:
        return _miss(frame, column, "PGD at a larger ε") if withstood.any() else OKAY
    right = int((answers == 1).sum())
    low, _ = wilson_interval(right, tried)
    reason = f"{right} of {tried} images withstand PGD at {budget}: the gradient leads nowhere, attack without it"
    if right / tried > LARGER[1]:
        return Verdict(INVALID, (reason,))
    return Verdict(SUSPECT, (reason,)) if low > min(1 / num_classes, LARGER[0]) else OKAY


def _judge_power(frame: pd.DataFrame, withstood: np.ndarray) -> Verdict:
    found, planted = attack_power(frame)
    if not withstood.any():
        return OKAY
    if not planted:
        return _miss(frame, "planted", "the active test")
    if found >= POWER * planted:
        return OKAY
    low, high = wilson_interval(found, planted)
    reason = (
        f"the attack finds {found} of {planted} planted adversarial examples (power {low:.0%} to {high:.0%}): "
        "that it fails shows nothing, attack otherwise"
    )
    return Verdict(INVALID if found / planted < POWER_INVALID else SUSPECT, (reason,))


def _judge_slope(frame: pd.DataFrame, withstood: np.ndarray) -> Verdict:
    """Judge the slopes; a zero gradient is left to another check."""
    slopes = _measured(frame, "slope")
    if not len(slopes) or not withstood.any():
        return OKAY
    shares = {"": float(np.median(slopes))}
    for name, where in ("near", " along random directions"), ("far", " a few grey levels away"):
        values = _measured(frame, name)
        shares |= {where: float(values[0])} if len(values) else {}
    factors = {where: max(share, 1 / share) if share > 0 else np.inf for where, share in shares.items()}
    worst = max(factors, key=lambda where: factors[where])
    reason = (
        f"finite differences{worst} are {shares[worst]:.2g} of what the gradient says: attack through a true gradient"
    )
    return grade(factors[worst], (SLOPE, SLOPE_INVALID), reason)


def _judge_survivors(frame: pd.DataFrame, withstood: np.ndarray) -> Verdict:
    """Judge where PGD left the images that withstood it."""
    if not withstood.any():
        return OKAY
    inside, flat = (_share(_tried(frame, name)) for name in ("inside", "flat"))
    more = "attack with scale-free steps and another loss"
    verdicts = [
        grade(inside, STUCK, f"{inside:.0%} of the survivors lie within half of the budget: {more}"),
        grade(flat, STUCK, f"{flat:.0%} of the survivors have no gradient left: {more}"),
    ]
    is_jump = _measured(frame, "jump") > JUMP
    if is_jump.sum() >= 2:
        share = float(is_jump.mean())
        reason = f"the logits jump on the way to {share:.0%} of the survivors: attack what answers on either side, too"
        verdicts.append(grade(share, JUMPING, reason))
    if len(kept := _measured(frame, "margin")):
        typical = float(np.median(kept))
        reason = f"survivors keep {typical:.0%} of their clean margin: the attack hardly moves the logits, try another"
        verdicts.append(grade(typical, (MARGIN, np.inf), reason))
    return unite(verdicts)


def judge_transfer(these: np.ndarray, others: dict[str, np.ndarray]) -> Verdict:
    """Judge whether images crafted at other λs fool a model more often than these.

    Args:
        these: (N,) bool, correct predictions on the images of the row that is judged.
        others: (N,) correct predictions on images crafted at other λs, by the name of the λ.
    """
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
    """Judge whether the accuracy is higher than at a smaller budget, whose images are also allowed here.

    Args:
        accuracy: accuracy at this budget, in [0, 1].
        smaller: accuracies at smaller budgets, by the name of the budget.
    """
    return unite(
        grade(accuracy - value, RISE, f"{accuracy:.1%} is more than the {value:.1%} at ε = {name}")
        for name, value in smaller.items()
    )
