"""The smallest adversarial perturbation of each image: one search in place of one attack for every ε."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from robustness.measure.pgd import LOSSES, find_targets, measure_norm, normalise, project

_FIRST_STEP, _LAST_STEP = 1.0, 0.01
_FIRST_CHANGE, _LAST_CHANGE = 0.05, 0.001
_HALVINGS, _OVERSHOOT = 10, 1e-3
_DUAL = {"linf": 1.0, "l2": 2.0, "l1": math.inf}


def find_smallest(
    model: nn.Module,
    images: Float[Tensor, "n 3 h w"],
    labels: Int[Tensor, " n"],
    *,
    norm: str,
    steps: int = 100,
    loss: str = "margin",
    rank: int = 1,
) -> Float[Tensor, "n 3 h w"]:
    """Find wrong versions of ``images`` with the smallest ‖x′ − x‖; the image itself if none was found.

    A perturbation δ ascends the loss by L2 steps that shrink along a cosine, and is projected onto a ball whose radius
    ε adapts to each image. Until the first misclassification, ε is a little beyond the boundary of a linear
    approximation. After that, ε shrinks by a share if δ fools the model, and grows by the same share if it does not. In
    the end, the shortest perturbation that fools the model is shortened as far as it still does.

    Args:
        model: images to logits, with gradients.
        images: clean images in [0, 1].
        labels: classes of the images.
        norm: norm to minimise: ``linf``, ``l2`` or ``l1``.
        steps: number of gradient steps.
        loss: ``margin``, ``dlr``, ``ce`` or ``targeted``.
        rank: rank of the target class among the wrong ones, 1 for the most likely on the clean image.

    Source: Pintor et al., *Fast Minimum-norm Adversarial Attacks through Adaptive Norm Constraints*, NeurIPS 2021.
    Deviation: the last search, which ends a thousandth beyond the boundary, where predictions no longer change with
        rounding.
    """
    labels = labels.to(images.device)
    targets = find_targets(model, images, labels, rank) if loss == "targeted" else labels
    delta, best = torch.zeros_like(images), images.clone()
    smallest = torch.full_like(images[:, :1, :1, :1], torch.inf)
    for step in range(steps + 1):
        x = (images + delta).requires_grad_(step < steps)
        with torch.set_grad_enabled(step < steps):
            logits = model(x)
            value = LOSSES[loss](logits, labels, targets)
        wrong = (logits.detach().argmax(1) != labels)[:, None, None, None]
        size = measure_norm(delta, norm)
        is_better = wrong & (size < smallest)
        best, smallest = torch.where(is_better, x.detach(), best), torch.where(is_better, size, smallest)
        if step == steps:
            break
        (gradient,) = torch.autograd.grad(value.sum(), x)
        if step == 0:
            eps = torch.full_like(size, torch.inf)
        cosine = (1 + math.cos(math.pi * step / steps)) / 2
        change = _LAST_CHANGE + (_FIRST_CHANGE - _LAST_CHANGE) * cosine
        nearer, farther = torch.minimum(eps * (1 - change), smallest), eps * (1 + change)
        boundary = (1 + change) * (size + _linear_distance(value.detach(), gradient, norm))
        eps = torch.where(wrong, nearer, torch.where(smallest.isfinite(), farther, boundary))
        moved = delta + (_LAST_STEP + (_FIRST_STEP - _LAST_STEP) * cosine) * normalise(gradient, "l2")
        delta = (images + project(moved, images, norm, eps)).clamp(0, 1) - images
    return _approach(model, images, labels, best, smallest.isfinite())


def _linear_distance(value: Tensor, gradient: Tensor, norm: str) -> Tensor:
    """Compute |value| / ‖gradient‖ in the dual norm (N, 1, 1, 1), a linear model's distance to 0; 0 if it is flat."""
    largest = gradient.abs().flatten(1).amax(1)[:, None, None, None]
    is_flat = ~(largest > 0)
    unit = gradient / torch.where(is_flat, torch.ones_like(largest), largest)
    length = torch.linalg.vector_norm(unit.flatten(1), ord=_DUAL[norm], dim=1)[:, None, None, None]
    distance = value[:, None, None, None].abs() / largest / length
    return torch.where(is_flat, torch.zeros_like(distance), distance)


@torch.no_grad()
def _approach(model: nn.Module, images: Tensor, labels: Tensor, found: Tensor, is_found: Tensor) -> Tensor:
    """Find, by bisection on the line to each image, the misclassified point nearest to the image."""
    low, high = torch.zeros_like(images[:, :1, :1, :1]), torch.ones_like(images[:, :1, :1, :1])
    way, nearest = found - images, found
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        x = images + middle * way
        wrong = (model(x).argmax(1) != labels)[:, None, None, None] & is_found
        nearest = torch.where(wrong, x, nearest)
        low, high = torch.where(wrong, low, middle), torch.where(wrong, middle, high)
    beyond = (images + (1 + _OVERSHOOT) * (nearest - images)).clamp(0, 1)
    return torch.where((model(beyond).argmax(1) != labels)[:, None, None, None], beyond, nearest)
