"""A network as an attack sees it: images in, logits out, at a fixed λ or through a policy that chooses λ per image."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from robustness.measure.subjects import Classifier
from robustness.which_lam import LamGiven, WhichLam
from sdnet_core import Network
from sdnet_core.sparse_coding import Lambda


def choose_lam(network: Classifier, images: Float[Tensor, "n 3 h w"], which: LamGiven) -> Lambda | None:
    """Compute λ of a call: the fixed number, or the policy's choice for each image, shape (N,).

    The law is λ = clip(a r(x) + b, lowest, highest), r the residual at the training λ. If gradients are recorded, the
    clip passes them unchanged (straight-through), so that an attack can push λ back from its bounds.

    Source: Bengio, Léonard & Courville, 2013 (straight-through estimator); Athalye, Carlini & Wagner, ICML 2018
        (backward pass differentiable approximation).
    """
    chooser = WhichLam.of(which)
    law = chooser.law
    if law is None:
        return chooser.value
    assert isinstance(network, Network), "a residual law is fitted to a sparse code"
    residual = network.residual(images, network.encode(images))
    chosen = law.lam(residual)
    if not (torch.is_grad_enabled() and residual.requires_grad):
        return chosen
    smooth = law.slope * residual + law.intercept
    return chosen.detach() + smooth - smooth.detach()


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
