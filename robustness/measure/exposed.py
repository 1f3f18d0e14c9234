"""A victim as attacks need it: any model, with gradients that neither vanish in float32 nor depend on their scale."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

_ROUNDING = 1e-3
"""Share of |g| by which the sum of a loss's gradient g at the logits may miss 0 through rounding."""


class Exposed(nn.Module):
    """``exposed(images)`` are the logits of ``model(images)`` in float32, ready for gradient attacks.

    - The model gets a copy of the images: one that works in place cannot change what the attack goes on with.
    - The gradient always exists and is contiguous. A model that cuts it off has a gradient of zeros.
    - The model draws random numbers from a generator of its own, so that neither seeds the other's.
    - ``exact`` repairs the rounding of the softmax. The gradient g of a loss that stays the same when a constant is
      added to all logits sums to zero; float32 rounds 1 − p to 0 where a model is confident. The component of the
      largest logit is then replaced by minus the sum of the others.
    - ``scale_free`` multiplies the gradient of each image by a power of two, at the logits and at the image, so that
      its largest component lies in [1, 2). Signs and directions stay as they are, bit for bit; constants that a
      library adds to a norm, the batch size in a mean and underflow no longer matter. Only for attacks that use each
      gradient by its sign or its direction.

    Args:
        model: images in [0, 1] to logits, in eval mode.
        exact: repair the gradient at the logits.
        scale_free: bring the gradient of each image to one scale.
    """

    def __init__(self, model: nn.Module, *, exact: bool = False, scale_free: bool = False) -> None:
        super().__init__()
        self.model, self.exact, self.scale_free = model, exact, scale_free
        self.training = False
        self._states: list[Tensor] | None = None

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n k"]:
        """Logits of images in [0, 1]."""
        shown = _Image.apply(images, self.scale_free)
        with self._own_generator(images):
            logits: Tensor = self.model(shown.clone()).float()
        if torch.is_grad_enabled() and images.requires_grad:
            logits = _Logits.apply(logits, shown, self.exact, self.scale_free)
        return logits

    def restart(self) -> None:
        """Let the model draw from where the global generator is now: the same numbers whenever a batch is repeated."""
        self._states = None

    @contextmanager
    def _own_generator(self, images: Tensor) -> Iterator[None]:
        before = _get_states(images)
        if self._states is not None:
            _set_states(self._states)
        try:
            yield
        finally:
            self._states = _get_states(images)
            _set_states(before)


def _get_states(images: Tensor) -> list[Tensor]:
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(images.device)] if images.is_cuda else [])]


def _set_states(states: list[Tensor]) -> None:
    torch.set_rng_state(states[0])
    for state in states[1:]:
        torch.cuda.set_rng_state(state)


def _to_unit(gradient: Tensor) -> Tensor:
    """Multiply each row's numbers by the power of two that brings the largest into [1, 2); zeros stay zeros."""
    largest = gradient.abs().flatten(1).amax(1)
    usable = torch.isfinite(largest) & (largest > 0)
    exponent = torch.frexp(torch.where(usable, largest, torch.ones_like(largest)))[1] - 1
    shape = [-1, *[1] * (gradient.ndim - 1)]
    # in two factors: 2^-e alone overflows for the smallest numbers
    half = exponent // 2
    return torch.ldexp(torch.ldexp(gradient, -half.view(shape)), -(exponent - half).view(shape))


class _Image(torch.autograd.Function):
    """Identity; the gradient is contiguous and, where asked for, of one scale."""

    @staticmethod
    def forward(context: Any, images: Tensor, scale_free: bool) -> Tensor:
        context.scale_free = scale_free
        return images.view_as(images)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        gradient = gradient.contiguous()
        return _to_unit(gradient) if context.scale_free else gradient, None


class _Logits(torch.autograd.Function):
    """Identity in the logits; connects them with the images, whatever the model did, and mends their gradient."""

    @staticmethod
    def forward(context: Any, logits: Tensor, images: Tensor, exact: bool, scale_free: bool) -> Tensor:
        context.save_for_backward(logits)
        context.shape, context.exact, context.scale_free = images.shape, exact, scale_free
        return logits.view_as(logits)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        (logits,) = context.saved_tensors
        if context.exact:
            gradient = _repair(gradient, logits)
        if context.scale_free:
            gradient = _to_unit(gradient)
        return gradient, gradient.new_zeros(()).expand(context.shape), None, None


def _repair(gradient: Tensor, logits: Tensor) -> Tensor:
    """Replace the component of the largest logit by minus the sum of the others where rounding has spoilt it."""
    top = logits.argmax(1, keepdim=True)
    others = gradient.scatter(1, top, 0.0)
    exact = -others.sum(1, keepdim=True)
    is_spoilt = (gradient.gather(1, top) - exact).abs() > _ROUNDING * others.abs().sum(1, keepdim=True)
    return torch.where(is_spoilt, others.scatter(1, top, exact), gradient)
