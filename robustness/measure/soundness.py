"""Before the grid: are a model's answers its own, or do they depend on chance, on what was asked before, on the batch?

An accuracy of such a model is true of one order and one batch size only. The cells are measured all the same, and
marked (:mod:`robustness.analysis.soundness`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from data_prep import ImageSet
from data_prep.errors import describe_error
from robustness.measure.foreign import ForeignClassifier
from robustness.measure.subjects import Subject
from sdnet_core.augment import to_images

IMAGES = 16
"""That a model is asked about; fewer where the data set has fewer."""
SAME_BATCH, OTHER_BATCH = 1e-4, 1e-2
"""Logits are other ones if they differ by more than this share of the range of all logits; another batch size rounds
otherwise, in half precision by half a percent."""
_NEARBY = 0.5 / 255
CHANCE, HISTORY, BATCH, INSTANCE = "chance", "history", "batch", "instance"


@dataclass(frozen=True)
class Change:
    """Answers that became others, for one ``kind`` of reason.

    logits: share of the images whose logits changed. classes: share of those that are put into another class.
    """

    kind: str
    logits: float
    classes: float


@dataclass(frozen=True)
class Soundness:
    """What asking a model at one λ has shown.

    Args:
        model: its name.
        lam: λ; None for a model without.
        n: images that it was asked about.
        changes: none for a sound model.
        has_weights: torch knows of weights in it.
        error: why it could not be asked; empty where it could.
    """

    model: str
    lam: float | None
    n: int
    changes: tuple[Change, ...] = ()
    has_weights: bool = True
    error: str = ""


def examine(subject: Subject, lam: float | None, images: ImageSet, device: torch.device, *, seed: int) -> Soundness:
    """Ask a model about a few images: twice, after others, and in other company.

    - *chance*: the second answer is another one, and with the model's state put back (not its random numbers) still.
    - *history*: the answers to x + δ, |δ| = 0.5/255, are others after 1 − x and x were asked than from the start. A
      buffer that grows and a memory of similar images both show.
    - *batch*: the same images in another order, in batches of 1, 2, 3, ….
    - *instance*: what the function of the user makes when it is called once more answers otherwise.

    Where chance decides, the others cannot be told and are not looked at. The model is left as it was.
    """
    order = np.random.default_rng(seed).permutation(len(images))[:IMAGES]
    x = to_images(torch.from_numpy(np.array(images.pixels[np.sort(order)]))).contiguous().to(device)
    has_weights = not isinstance(subject.network, ForeignClassifier) or bool(subject.network.state_dict())
    try:
        with torch.no_grad():
            changes = tuple(_find_changes(subject, lam, x))
        error = ""
    except Exception as failure:  # its cells fail, too, and say so
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
    span = float(first.max() - first.min())
    least = SAME_BATCH * span
    again = _compare(CHANCE, first, second, least)
    if again is not None:
        subject.reset(chance=False)
        if _compare(CHANCE, first, ask(x), least) is not None:
            yield again
            return
    near = (x + _NEARBY * torch.sign(0.5 - x)).clamp(0, 1)
    subject.reset()
    fresh = ask(near)
    subject.reset()
    ask(1 - x)
    ask(x)
    history = _compare(HISTORY, fresh, ask(near), least) or (again and Change(HISTORY, again.logits, again.classes))
    if history is not None:
        yield history
    backwards, parts = torch.arange(len(x)).flip(0), []
    for part in torch.split(backwards, _split_up(len(x))):
        subject.reset()
        parts.append(ask(x[part.to(x.device)]))
    batch = _compare(BATCH, first[backwards], torch.cat(parts), OTHER_BATCH * span)
    if batch is not None:
        yield batch
    if subject.again is not None and (instance := _compare(INSTANCE, first, _ask_another(subject, lam, x), least)):
        yield instance


def _ask_another(subject: Subject, lam: float | None, x: Tensor) -> Tensor:
    """The answers of another instance of the model; NaN, which is no change, where it cannot be made twice."""
    assert subject.again is not None
    try:
        logits: Tensor = subject.again().to(x.device)(x, lam)
    except Exception:  # it may register something that exists once
        return x.new_full((len(x), subject.network.num_classes), torch.nan).cpu()
    return logits.float().cpu()


def _split_up(n: int) -> list[int]:
    """1, 2, 3, … and what is left."""
    sizes: list[int] = []
    while (left := n - sum(sizes)) > 0:
        sizes.append(min(len(sizes) + 1, left))
    return sizes


def _compare(kind: str, before: Tensor, after: Tensor, least: float) -> Change | None:
    """How many rows of logits differ by more than ``least``; None for none. NaN is left to the measurement."""
    differ = (before - after).abs().amax(1) > least
    if not bool(differ.any()):
        return None
    classes = (before.argmax(1) != after.argmax(1)) & differ
    return Change(kind, float(differ.float().mean()), float(classes.float().mean()))
