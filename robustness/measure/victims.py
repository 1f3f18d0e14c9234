"""A network as an attack sees it: images in, logits out, at a fixed λ or through a policy that chooses λ per image.

Attack libraries see it with gradients that neither vanish in float32 nor depend on their scale.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from robustness.measure.evaluate import choose_lam
from robustness.which_lam import LamGiven, WhichLam
from sdnet_core.classifier import Classifier

_ROUNDING = 1e-3
"""Share of |g| by which rounding may move the sum of a loss's gradient g at the logits away from 0."""


def _change_gradient(values: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the same values; the gradient that comes back to them is passed through ``change``."""
    values = values.view_as(values)
    if values.requires_grad:
        values.register_hook(change)  # type: ignore[no-untyped-call]
    return values


class _Connected(torch.autograd.Function):
    """Logits whose gradient is zero where the model cuts it off, so that the attack fails without an error."""

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
        images = _change_gradient(images, Tensor.contiguous)  # libraries view it; channels-last networks return another
        logits: Tensor = self.network(images, choose_lam(self.network, images, self.choice))
        self.passes += len(images)
        connected: Tensor = _Connected.apply(logits, images, self)
        return connected


class ScaleFree(nn.Module):
    """A model whose logits are the logits of ``model(images)``, with modified gradients.

    - The rounding of the softmax is repaired. The gradient g of a loss that stays the same when a constant is added to
      all logits sums to zero; float32 rounds 1 − p to 0 where a model is confident. The component of the largest logit
      is then replaced by minus the sum of the others.
    - With ``unit`` the gradient of each image is multiplied by a power of two, at the logits and at the image, so that
      its largest component lies in [1, 2). Signs and directions stay as they are, bit for bit; constants that a library
      adds to a norm, the batch size in a mean and underflow no longer matter. Only for attacks that use each gradient
      by its sign or its direction.

    Args:
        model: images in [0, 1] to logits, in eval mode.
        unit: bring the gradient of each image to one scale.
    """

    def __init__(self, model: nn.Module, *, unit: bool = True) -> None:
        super().__init__()
        self.model, self.unit = model, unit
        self.training = False

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n k"]:
        """Compute the logits of images in [0, 1]."""
        if not (torch.is_grad_enabled() and images.requires_grad):
            logits: Tensor = self.model(images)
            return logits
        shown = _change_gradient(images, _to_unit) if self.unit else images
        answered: Tensor = self.model(shown)
        logits = _change_gradient(answered, lambda gradient: _repair(gradient, answered.detach()))
        return _change_gradient(logits, _to_unit) if self.unit else logits


def _to_unit(gradient: Tensor) -> Tensor:
    """Multiply each row by the power of two that brings its largest component into [1, 2); zeros stay zeros."""
    largest = gradient.abs().flatten(1).amax(1)
    usable = torch.isfinite(largest) & (largest > 0)
    exponent = torch.frexp(torch.where(usable, largest, torch.ones_like(largest)))[1] - 1
    exponent = exponent.view(-1, *[1] * (gradient.ndim - 1))
    half = exponent // 2  # in two factors: 2^-exponent alone overflows for the smallest numbers
    return torch.ldexp(torch.ldexp(gradient, -half), half - exponent)


def _repair(gradient: Tensor, logits: Tensor) -> Tensor:
    """Make a gradient at ``logits`` sum to zero."""
    top = logits.argmax(1, keepdim=True)
    others = gradient.scatter(1, top, 0.0)
    exact = -others.sum(1, keepdim=True)
    is_spoilt = (gradient.gather(1, top) - exact).abs() > _ROUNDING * others.abs().sum(1, keepdim=True)
    return torch.where(is_spoilt, others.scatter(1, top, exact), gradient)
