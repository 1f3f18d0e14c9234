"""Check that models get images as they expect them: are many more clean images right after another preprocessing?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress

import numpy as np
import torch
from torch import Tensor

from data_prep import ImageSet
from robustness.measure.subjects import Subject
from robustness.measure.time_limit import time_limit
from robustness.statistics import paired_answers
from sdnet_core.augment import to_images
from sdnet_core.config import CIFAR_MEAN, CIFAR_STD, IMAGENET_MEAN, IMAGENET_STD

IMAGES = (128, 512)
"""Numbers of clean images that a model classifies: first of the first number, then, where a preprocessing seems to
help, of the second; fewer if the data set has fewer."""
SIGNIFICANCE = 1e-4
"""Largest p of McNemar's test of the accuracies with and without a preprocessing: at least 15 images gained, none
lost."""
_PROMISING = 0.2
"""Largest p with which a preprocessing is tried on more images."""
_ENOUGH = 0.9
"""Accuracy from which on no preprocessing is tried: there is too little to gain."""
_LEAST = 0.2
"""Smallest accuracy above chance after a preprocessing that a model may have been trained with."""


def _normalise(mean: tuple[float, ...], std: tuple[float, ...]) -> Callable[[Tensor], Tensor]:
    """Return x ↦ (x − mean)/std, by channel."""
    return lambda x: (x - x.new_tensor(mean).view(3, 1, 1)) / x.new_tensor(std).view(3, 1, 1)


PREPROCESSINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "with the channels blue, green, red": lambda x: x.flip(1),
    "with values from 0 to 255": lambda x: 255 * x,
    "with values from −1 to 1": lambda x: 2 * x - 1,
    "normalised by ImageNet's mean and standard deviation": _normalise(IMAGENET_MEAN, IMAGENET_STD),
    "normalised by CIFAR-10's mean and standard deviation": _normalise(CIFAR_MEAN, CIFAR_STD),
}
"""Maps of images (N, 3, H, W) in [0, 1], RGB, that models are often trained with, by their description."""


def note_preprocessing(
    subject: Subject, images: ImageSet, *, device: torch.device, batch_size: int, timeout: float | None = None
) -> Iterator[str]:
    """Write a note if a foreign model gets clearly more clean images right after one of :data:`PREPROCESSINGS`.

    Every image is classified at the model's own λ as it is and after each of them. A model that fails is left to the
    grid.

    Args:
        subject: the model, on ``device``. Networks of this project are skipped.
        images: the clean images; a random part of them is shown.
        device: device of the model.
        batch_size: images per forward pass.
        timeout: seconds after which the check is given up; None for no limit.
    """
    if subject.network.is_known:
        return
    order = np.random.default_rng(0).permutation(len(images))

    def classify(change: Callable[[Tensor], Tensor], count: int) -> np.ndarray:
        """Return correct predictions of the first ``count`` images."""
        chosen = images.take(np.sort(order[:count]))
        subject.reset()
        batches = torch.split(torch.from_numpy(np.array(chosen.pixels)), batch_size)
        logits = [subject.network(change(to_images(batch.to(device)))) for batch in batches]
        right: np.ndarray = torch.cat(logits).argmax(1).cpu().numpy() == chosen.labels
        return right

    best, how, tried = None, "", list(PREPROCESSINGS)
    # whatever the model raises, the grid raises again and records
    with suppress(Exception), time_limit(timeout), torch.no_grad():
        for count in IMAGES:
            right = best = classify(lambda x: x, count)
            if right.mean() >= _ENOUGH:
                break
            promising = []
            for name in tried:
                other = classify(PREPROCESSINGS[name], count)
                gain, *_, p = paired_answers(other, right)
                if gain > 0 and p <= _PROMISING and other.mean() >= _LEAST + 1 / subject.network.num_classes:
                    promising.append(name)
                    if p <= SIGNIFICANCE and other.sum() > best.sum():
                        best, how = other, name
            tried = promising
            if how or not tried or count >= len(images):
                break
    subject.reset()
    if best is not None and how:
        yield (
            f"{subject.name}: {best.mean():.0%} of {len(best)} clean images are right {how}, and {right.mean():.0%} "
            "as models get them, RGB in [0, 1]: it seems to be trained on the former, so let its forward convert them"
        )
