"""A network as an attack sees it: images in, logits out, at a fixed λ or through a policy that chooses λ per image."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from robustness.measure.evaluate import choose_lam
from robustness.measure.subjects import Classifier
from robustness.which_lam import LamGiven, WhichLam


class _ContiguousGradient(torch.autograd.Function):
    """Identity with a contiguous gradient, for libraries that view it; channels-last networks return another."""

    @staticmethod
    def forward(_: Any, images: Tensor) -> Tensor:
        return images.view_as(images)

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        return gradient.contiguous()


class _Connected(torch.autograd.Function):
    """Logits whose gradient reaches the images; where the model cuts it off, it is zero, and only the attack fails."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, images: Tensor, victim: Victim) -> Tensor:
        ctx.images, ctx.victim = images, victim
        return logits.view_as(logits)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        ctx.victim.passes += 2 * len(ctx.images)
        return gradient, torch.zeros_like(ctx.images), None


class Victim(nn.Module):
    """Computes a network's logits at one choice of λ; gradients flow through the choice itself.

    Args:
        network: the network in eval mode.
        choice: λ, or the policy that chooses it.

    ``passes`` counts forward passes of one image each; a backward pass counts as two.
    """

    def __init__(self, network: Classifier, choice: LamGiven) -> None:
        super().__init__()
        self.network, self.choice = network, WhichLam.of(choice)
        self.training = False
        self.passes = 0

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n k"]:
        """Compute the logits of images in [0, 1]."""
        images = _ContiguousGradient.apply(images)
        logits: Tensor = self.network(images, choose_lam(self.network, images, self.choice))
        self.passes += len(images)
        connected: Tensor = _Connected.apply(logits, images, self)
        return connected
