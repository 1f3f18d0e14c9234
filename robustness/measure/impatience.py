"""Early exit of a probe: once every image of its batch was classified wrongly, nothing can change its result."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robustness.measure.stages import Stage


class _EveryImageFooled(Exception):
    """No image of the batch is left to fool."""


class Impatient(nn.Module):
    """Passes images to a model and, within :meth:`cut_short`, keeps the first wrong version of each image.

    Args:
        model: images to logits.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.training = False
        self._labels: Tensor | None = None
        self._found = self._fooled = torch.empty(0)

    def forward(self, images: Tensor) -> Tensor:
        """Compute the logits of ``images``; end the attack once every image was classified wrongly twice."""
        logits: Tensor = self.model(images)
        if self._labels is not None and len(images) == len(self._labels):
            wrong = (logits.detach().max(1)[1] != self._labels) & ~self._fooled
            self._found = torch.where(wrong[:, None, None, None], images.detach(), self._found)
            self._fooled = self._fooled | wrong
            if bool(self._fooled.all()):
                with torch.no_grad():
                    again = self.model(self._found).max(1)[1] != self._labels  # a stochastic model may differ
                self._fooled &= again
                if bool(again.all()):
                    raise _EveryImageFooled
        return logits

    def cut_short(self, stage: Stage) -> Stage:
        """Return ``stage``, which attacks this model, ended as soon as nothing is left to do."""

        def perturb(images: Tensor, labels: Tensor) -> Tensor:
            self._found, self._fooled = images.detach().clone(), torch.zeros_like(labels, dtype=torch.bool)
            self._labels = labels
            try:
                return stage.perturb(images, labels)
            except _EveryImageFooled:
                return self._found
            finally:
                self._labels = None

        return Stage(stage.name, perturb, stage.knows_budget)
