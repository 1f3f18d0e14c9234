"""Models that watch what an attack finds, so that the attack can end before its last step.

Attacks of libraries cannot be ended early; they are left by an exception, which their caller catches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from robustness.measure.craft import Stage, distance


class EveryImageFooledError(Exception):
    """All images of the batch fool the model."""


class _Watching(nn.Module):
    """Passes images to ``model`` and, within :meth:`watching`, keeps the first wrong version of each image."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.training = False
        self._labels: Tensor | None = None
        self.found, self.fooled = torch.empty(0), torch.empty(0, dtype=torch.bool)

    @contextmanager
    def watching(self, images: Tensor, labels: Tensor) -> Iterator[None]:
        """Watch the predictions for versions of ``images``, whose classes are ``labels``."""
        self.found, self.fooled = images.detach().clone(), torch.zeros_like(labels, dtype=torch.bool)
        self._labels = labels
        try:
            yield
        finally:
            self._labels = None

    def _find_watched(self, images: Tensor) -> Tensor | None:
        """Return the classes of ``images`` if they are versions of the watched ones."""
        return self._labels if self._labels is not None and len(images) == len(self._labels) else None


class Impatient(_Watching):
    """Ends an attack once its result is final: for a probe, which only needs to know whether an image can be broken.

    Args:
        model: images to logits.
    """

    def forward(self, images: Tensor) -> Tensor:
        """Compute the logits of ``images``; end the attack once every image was classified wrongly twice."""
        logits: Tensor = self.model(images)
        if (labels := self._find_watched(images)) is not None:
            wrong = (logits.detach().max(1)[1] != labels) & ~self.fooled
            self.found = torch.where(wrong[:, None, None, None], images.detach(), self.found)
            self.fooled = self.fooled | wrong
            if bool(self.fooled.all()):
                with torch.no_grad():
                    again = self.model(self.found).max(1)[1] != labels  # a stochastic model may differ
                self.fooled &= again
                if bool(again.all()):
                    raise EveryImageFooledError
        return logits

    def cut_short(self, stage: Stage) -> Stage:
        """Return ``stage``, which attacks this model, changed to end as soon as its result is final."""

        def perturb(images: Tensor, labels: Tensor) -> Tensor:
            with self.watching(images, labels):
                try:
                    return stage.perturb(images, labels)
                except EveryImageFooledError:
                    return self.found

        return Stage(stage.name, perturb, stage.knows_budget)


class Watcher(_Watching):
    """Stops evaluating an image that was classified wrongly twice: its logits stay, without a gradient.

    Args:
        model: images to logits.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self._is_within: Callable[[Tensor], Tensor] = lambda images: torch.ones(len(images), dtype=torch.bool)
        self._logits = torch.empty(0)

    @contextmanager
    def watching_within(self, images: Tensor, labels: Tensor, norm: str, eps: float) -> Iterator[None]:
        """Watch as :meth:`watching` does; a wrong version counts only within ε."""
        with self.watching(images, labels):
            clean = images.detach().clone()
            self._is_within = lambda moved: distance(moved, clean, norm) <= eps
            yield

    def forward(self, images: Tensor) -> Tensor:
        """Compute the logits of ``images``; end the attack once every watched image was classified wrongly twice."""
        labels = self._find_watched(images)
        if labels is None:
            logits: Tensor = self.model(images)
            return logits
        if not self.fooled.any():
            logits = self.model(images)
            self._logits = logits.detach().clone()
        else:
            asked = ~self.fooled
            logits = self._logits.clone()
            logits[asked] = self.model(images[asked])
        wrong = (logits.detach().argmax(1) != labels) & ~self.fooled
        wrong &= self._is_within(images.detach())
        if wrong.any():
            self._keep(images.detach(), logits.detach(), wrong, labels)
        if self.fooled.all():
            raise EveryImageFooledError
        return logits

    def _keep(self, images: Tensor, logits: Tensor, wrong: Tensor, labels: Tensor) -> None:
        with torch.no_grad():
            again = self.model(images[wrong]).argmax(1) != labels[wrong]  # a stochastic model may differ
        wrong = wrong.clone()
        wrong[wrong.clone()] = again
        self.fooled = self.fooled | wrong
        self.found[wrong], self._logits[wrong] = images[wrong], logits[wrong]
