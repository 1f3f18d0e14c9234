"""The effect of a network's fast form: its predictions on clean images compared with predictions of the exact form."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from data_prep import ImageSet
from robustness.measure.subjects import Subject
from sdnet_core.augment import to_images

_LEAST_AGREEMENT, _LARGEST_SHIFT = 0.998, 0.001
"""Least share of equal predictions, and largest difference in accuracy, for the fast form to replace the exact form."""


@dataclass(frozen=True)
class Agreement:
    """Predictions of the fast and the exact form of one model at one λ.

    Args:
        model: name of the model.
        n: number of images compared.
        same: number of images that both forms put into the same class.
        correct_exact: number of images that the exact form gets right.
        correct_fast: number of images that the fast form gets right.
    """

    model: str
    n: int
    same: int
    correct_exact: int
    correct_fast: int

    @property
    def is_close(self) -> bool:
        """True if at least 99.8 % of the predictions agree and the accuracies lie within 0.1 points."""
        shift = abs(self.correct_fast - self.correct_exact) / self.n
        return self.same / self.n >= _LEAST_AGREEMENT and shift <= _LARGEST_SHIFT

    def __str__(self) -> str:
        text = (
            f"{self.model}: fast and exact agree on {self.same} of {self.n} clean images ({self.same / self.n:.2%}); "
            f"accuracy {self.correct_fast / self.n:.2%} and {self.correct_exact / self.n:.2%}"
        )
        return text if self.is_close else f"{text}; leave --speed fast out for results that count"


@torch.inference_mode()
def measure_agreement(
    fast: Subject, exact: Subject, images: ImageSet, *, device: torch.device, batch_size: int, lam: float | None = None
) -> Agreement:
    """Classify the images with both forms, at the training λ if ``lam`` is None."""
    same = torch.zeros((), dtype=torch.int64, device=device)
    correct = torch.zeros(2, dtype=torch.int64, device=device)
    for start in range(0, len(images), batch_size):
        batch = slice(start, start + batch_size)
        x = to_images(torch.from_numpy(np.array(images.pixels[batch])).to(device))
        labels = torch.from_numpy(np.array(images.labels[batch])).to(device)
        predicted = [subject.network(x, lam=lam).argmax(1).clone() for subject in (exact, fast)]
        same += (predicted[0] == predicted[1]).sum()
        correct += torch.stack([(classes == labels).sum() for classes in predicted])
    by_exact, by_fast = correct.tolist()
    return Agreement(fast.name, len(images), int(same), by_exact, by_fast)
