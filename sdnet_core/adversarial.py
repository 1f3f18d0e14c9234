"""Adversarial training: every batch is replaced by adversarial images against the current model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from sdnet_core.networks import Network


def random_start(
    images: Float[Tensor, "n 3 h w"], *, eps: float, generator: torch.Generator
) -> Float[Tensor, "n 3 h w"]:
    """Move ``images`` to uniform points of the L∞ ball of radius ``eps``, clipped to [0, 1]."""
    return (images + torch.empty_like(images).uniform_(-eps, eps, generator=generator)).clamp(0, 1)


def craft_batch(
    model: Network,
    images: Float[Tensor, "n 3 h w"],
    labels: Int[Tensor, " n"],
    *,
    start: Float[Tensor, "n 3 h w"],
    eps: float,
    steps: int,
    step_size: float,
) -> Float[Tensor, "n 3 h w"]:
    """Raise the cross-entropy by projected gradient ascent in the L∞ ball: x ← Π(x + α sign ∇ₓ loss).

    Args:
        model: the network in training. It is frozen during the attack, so that only the training step changes its
            batch statistics.
        images: clean images in [0, 1].
        labels: their classes.
        start: first point of the ascent, in the ball around ``images`` (:func:`random_start`).
        eps: ε, radius of the ball, in [0, 1] pixel units.
        steps: number of gradient steps, at least 1.
        step_size: α, in [0, 1] pixel units.

    Returns:
        Images in [0, 1] with ‖x′ − x‖∞ ≤ ε.

    Source: Madry et al., ICLR 2018, section 2.1; eval mode: Pang et al., ICLR 2021, section 3.2.
    """
    crafted = start.clone()
    with frozen(model):
        for _ in range(steps):
            crafted.requires_grad_(True)
            loss = functional.cross_entropy(model(crafted), labels, reduction="sum")
            (gradient,) = torch.autograd.grad(loss, crafted)
            crafted = crafted.detach() + step_size * gradient.sign()
            crafted = torch.minimum(torch.maximum(crafted, images - eps), images + eps).clamp(0, 1)
    return crafted


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Switch to eval mode and turn off weight gradients within a ``with`` block; restore both after it."""
    was_training = network.training
    flags = [parameter.requires_grad for parameter in network.parameters()]
    network.eval().requires_grad_(False)
    try:
        yield
    finally:
        network.train(was_training)
        for parameter, flag in zip(network.parameters(), flags, strict=True):
            parameter.requires_grad_(flag)
