"""Checks before the grid: do a model's predictions depend on chance, on earlier calls, or on the batch?

The accuracy of such a model holds for one order and one batch size only. The cells are measured anyway, and marked
(:mod:`robustness.verdicts`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from data_prep import ImageSet
from data_prep.errors import describe_error
from robustness.measure.answers import find_lowest
from robustness.measure.subjects import Subject
from sdnet_core.augment import to_images

IMAGES = 16
"""Number of images that a model is checked on; fewer if the data set has fewer."""
SAME_BATCH, OTHER_BATCH = 1e-4, 1e-2
"""Changes of logits beyond this share of the range of all logits count as different; another batch size rounds
differently, in half precision by half a percent."""
_NEARBY = 0.5 / 255
CHANCE, OUTSIDE, HISTORY, BATCH, INSTANCE = "chance", "outside", "history", "batch", "instance"


@dataclass(frozen=True)
class Change:
    """Changed predictions, for one ``kind`` of reason.

    logits: share of the images whose logits changed. classes: share of the images whose predicted class changed.
    """

    kind: str
    logits: float
    classes: float


@dataclass(frozen=True)
class Soundness:
    """The result of the checks of a model at one λ.

    Args:
        model: name of the model.
        lam: λ; None for a model without λ.
        n: number of images that it was checked on.
        changes: changed predictions; empty for a sound model.
        has_weights: true if torch finds weights in the model.
        error: reason why the model could not be checked; empty if it could.
    """

    model: str
    lam: float | None
    n: int
    changes: tuple[Change, ...] = ()
    has_weights: bool = True
    error: str = ""


def examine(subject: Subject, lam: float | None, images: ImageSet, device: torch.device, *, seed: int) -> Soundness:
    """Evaluate a model on a few images: twice, after other images, and in other batches.

    - *chance*: the logits of the second evaluation differ, even with the model's state (except its random numbers)
      restored.
    - *outside*: it differs even with the random numbers restored: chance that no seed controls, or a memory in a
      file, in native code or in an installed package.
    - *history*: the logits of x + δ, |δ| = 0.5/255, differ after 1 − x and x were evaluated first. This reveals both a
      growing buffer and a memory of similar images.
    - *batch*: the logits of the same images differ in another order, in batches of 1, 2, 3, ….
    - *instance*: the logits of a second instance made by the user's function differ.

    If *chance* or *outside* is found, the other checks mean nothing and are skipped. The model is left unchanged.
    """
    order = np.random.default_rng(seed).permutation(len(images))[:IMAGES]
    x = to_images(torch.from_numpy(np.array(images.pixels[np.sort(order)]))).contiguous().to(device)
    has_weights = bool(subject.network.state_dict())
    try:
        with torch.no_grad():
            changes = tuple(_find_changes(subject, lam, x))
        error = ""
    except Exception as failure:  # its cells also fail, with this reason
        changes, error = (), describe_error(failure)
    finally:
        subject.reset()
    return Soundness(subject.name, lam, len(x), changes, has_weights, error)


def _find_changes(subject: Subject, lam: float | None, x: Tensor) -> Iterator[Change]:
    def ask(images: Tensor) -> Tensor:
        logits: Tensor = subject.network(images, lam)
        return logits.float().cpu()

    subject.reset()
    first, second = ask(x), ask(x)
    low = find_lowest(first)
    span = float(first.max()) - low

    def compare(kind: str, before: Tensor, after: Tensor, share: float = SAME_BATCH) -> Change | None:
        lowest = low - span  # a class that is ruled out stays so, by −∞ or by −10⁹
        return _compare(kind, before.clamp(min=lowest), after.clamp(min=lowest), share * span)

    again = compare(CHANCE, first, second)
    if again is not None:
        subject.reset(chance=False)
        if compare(CHANCE, first, ask(x)) is not None:
            subject.reset()
            yield compare(OUTSIDE, first, ask(x)) or again
            return
    near = (x + _NEARBY * torch.sign(0.5 - x)).clamp(0, 1)
    subject.reset()
    fresh = ask(near)
    subject.reset()
    ask(1 - x)
    ask(x)
    history = compare(HISTORY, fresh, ask(near)) or (again and Change(HISTORY, again.logits, again.classes))
    if history is not None:
        yield history
    backwards, parts = torch.arange(len(x)).flip(0), []
    for part in torch.split(backwards, _split_up(len(x))):
        subject.reset()
        parts.append(ask(x[part.to(x.device)]))
    batch = compare(BATCH, first[backwards], torch.cat(parts), OTHER_BATCH)
    if batch is not None:
        yield batch
    if subject.again is not None and (instance := compare(INSTANCE, first, _ask_another(subject, lam, x))):
        yield instance


def _ask_another(subject: Subject, lam: float | None, x: Tensor) -> Tensor:
    """Return the logits of another instance of the model; NaN, which counts as no change, if there is no other."""
    assert subject.again is not None
    subject.reset()
    try:
        logits: Tensor = subject.again().to(x.device)(x, lam)
    except Exception:  # it may register something that can exist only once
        return x.new_full((len(x), subject.network.num_classes), torch.nan).cpu()
    return logits.float().cpu()


def _split_up(n: int) -> list[int]:
    """Return 1, 2, 3, … and the rest."""
    sizes: list[int] = []
    while (left := n - sum(sizes)) > 0:
        sizes.append(min(len(sizes) + 1, left))
    return sizes


def _compare(kind: str, before: Tensor, after: Tensor, least: float) -> Change | None:
    """Count the rows of logits that differ by more than ``least``; None for none. NaN is left to the measurement."""
    differ = (before - after).abs().amax(1) > least
    if not bool(differ.any()):
        return None
    classes = (before.argmax(1) != after.argmax(1)) & differ
    return Change(kind, float(differ.float().mean()), float(classes.float().mean()))
