"""Projected gradient descent with steps of a fixed length, independent of the scale of the gradient."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

Loss = Callable[[Float[Tensor, "m k"], Int[Tensor, " m"], Int[Tensor, " m"]], Float[Tensor, " m"]]
"""Function of logits, labels and target classes; the larger, the closer an image is to a misclassification."""
DLR_CLASSES, TARGETED_DLR_CLASSES = 3, 4
"""Fewest classes for the DLR loss, which takes the third largest logit, and for the targeted DLR loss, which takes the
fourth."""
_ORDERS = {"linf": torch.inf, "l2": 2.0, "l1": 1.0}
_L1_SLACK = 1e-4
"""Share of ε reserved for the rounding of all values, which adds up in L1."""
_L1_SHARE = 0.01
"""Share of an image's values that a step in L1 moves."""


def log_odds(logits: Tensor, labels: Tensor, _targets: Tensor) -> Tensor:
    """Compute log Σ_{j≠y} exp z_j − z_y, which rises with the cross-entropy log(1 + exp ·); the directions agree.

    Unlike the gradient of the cross-entropy in float32, its gradient does not vanish where the model is confident.
    """
    return torch.logsumexp(_others(logits, labels), 1) - _own(logits, labels)


def margin(logits: Tensor, labels: Tensor, _targets: Tensor) -> Tensor:
    """Compute max_{j≠y} z_j − z_y. Source: Carlini & Wagner, S&P 2017."""
    return _others(logits, labels).amax(1) - _own(logits, labels)


def dlr(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """Compute the margin over the largest less the third largest logit. Source: Croce & Hein, ICML 2020.

    Deviation: nothing is added to the denominator.
    """
    largest = logits.topk(3, dim=1).values
    return margin(logits, labels, targets) / (largest[:, 0] - largest[:, 2]).clamp_min(torch.finfo(logits.dtype).tiny)


def targeted(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """Compute z_t − z_y for a target class t."""
    return _own(logits, targets) - _own(logits, labels)


LOSSES: dict[str, Loss] = {"ce": log_odds, "margin": margin, "dlr": dlr, "targeted": targeted}


def pgd(
    model: nn.Module,
    images: Float[Tensor, "n 3 h w"],
    labels: Int[Tensor, " n"],
    *,
    norm: str,
    eps: float,
    steps: int = 20,
    step_size: float | None = None,
    loss: str = "ce",
    rank: int = 1,
    random_start: bool = True,
    leave_early: bool = False,
) -> Float[Tensor, "n 3 h w"]:
    """Craft adversarial versions of ``images``: ascend a loss within ‖x′ − x‖ ≤ ε and [0, 1].

    Each step moves every image by ``step_size`` along the steepest direction of its own loss in the norm: the sign of
    the gradient (L∞), the gradient over its length (L2), the sign of the hundredth of its values where it is steepest
    and the image can still move (L1). So neither the scale of a gradient nor the other images of a batch matter. An
    image with a zero gradient stays; an image whose gradient is not a number becomes NaN.

    Args:
        model: images to logits, with gradients.
        images: clean images in [0, 1].
        labels: classes of the images.
        norm: ``linf``, ``l2`` or ``l1``.
        eps: budget ε.
        steps: number of gradient steps.
        step_size: step size in the norm; default 2.5 ε / steps.
        loss: ``ce``, ``margin``, ``dlr`` or ``targeted``.
        rank: rank of the target class among the wrong ones, 1 for the most likely on the clean image.
        random_start: start uniformly in the L∞ ball, or in a random direction at a uniform share of ε (L2, L1);
            otherwise at the image. Drawn from the global generator for the whole batch.
        leave_early: stop on an image as soon as it is classified wrongly twice. Otherwise take all steps and return the
            last version that is classified wrongly.

    Returns:
        The last wrong version of an image, or its last version if none was wrong.

    Source: Madry et al., ICLR 2018; in L1 Tramèr & Boneh, NeurIPS 2019.
    """
    alpha = 2.5 * eps / steps if step_size is None else step_size
    if norm == "l1":
        eps *= 1 - _L1_SLACK
    criterion = LOSSES[loss]
    labels = labels.to(images.device)
    targets = find_targets(model, images, labels, rank) if loss == "targeted" else labels
    moved = _start(images, norm, eps) if random_start else images.clone()
    active = torch.arange(len(images), device=images.device)
    found, is_found = moved.clone(), torch.zeros_like(labels, dtype=torch.bool)
    for step in range(steps + 1):
        x = moved[active].requires_grad_(step < steps)
        with torch.set_grad_enabled(step < steps):
            logits = model(x)
            value = criterion(logits, labels[active], targets[active]).sum() if step < steps else None
        wrong = logits.detach().argmax(1) != labels[active]
        found[active[wrong]], is_found[active[wrong]] = x.detach()[wrong], True
        if value is None:
            break
        (gradient,) = torch.autograd.grad(value, x)
        moved[active] = _step(x.detach(), images[active], gradient, norm, eps, alpha)
        if leave_early and wrong.any():
            with torch.no_grad():
                again = model(found[active[wrong]]).argmax(1) != labels[active[wrong]]  # a stochastic model may differ
            left = wrong.clone()
            left[wrong] = again
            active = active[~left]
            if not len(active):
                break
    return torch.where(is_found[:, None, None, None], found, moved)


def find_targets(model: nn.Module, images: Tensor, labels: Tensor, rank: int) -> Tensor:
    """Find the wrong classes (N,) that are the ``rank``-th most likely on ``images``."""
    with torch.no_grad():
        return _others(model(images), labels).argsort(1, descending=True)[:, rank - 1]


def _own(logits: Tensor, labels: Tensor) -> Tensor:
    return logits.gather(1, labels[:, None])[:, 0]


def _others(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the logits with −∞ in place of the label's logit."""
    return logits.scatter(1, labels[:, None], -torch.inf)


def _start(images: Tensor, norm: str, eps: float) -> Tensor:
    if norm == "linf":
        return (images + torch.empty_like(images).uniform_(-eps, eps)).clamp(0, 1)
    direction = torch.empty_like(images).normal_()
    radius = torch.empty_like(images[:, :1, :1, :1]).uniform_(0, 1) * eps
    return (images + direction * (radius / measure_norm(direction, norm))).clamp(0, 1)


def _step(x: Tensor, images: Tensor, gradient: Tensor, norm: str, eps: float, alpha: float) -> Tensor:
    """Take one step of length α from ``x``, projected back onto the ball around ``images`` and onto [0, 1]."""
    if norm == "linf":
        x = x + alpha * gradient.sign()
        return torch.clamp(images + (x - images).clamp(-eps, eps), 0, 1)
    if norm == "l1":
        gradient = _steepest(gradient, x)
    delta = x - images + alpha * normalise(gradient, norm)
    return torch.clamp(images + project(delta, images, norm, eps), 0, 1)


def normalise(gradient: Tensor, norm: str) -> Tensor:
    """Scale each row to length 1 in ``l2`` or ``l1``, however small; zeros stay zeros."""
    largest = gradient.abs().flatten(1).amax(1)[:, None, None, None]
    unit = gradient / torch.where(largest == 0, torch.ones_like(largest), largest)  # squares of the smallest underflow
    length = measure_norm(unit, norm)
    return unit / torch.where(length == 0, torch.ones_like(length), length)


def _steepest(gradient: Tensor, x: Tensor) -> Tensor:
    """Return the signs of the steepest values that can still move that way within [0, 1], 0 elsewhere."""
    blocked = ((gradient > 0) & (x >= 1)) | ((gradient < 0) & (x <= 0))
    free = gradient.masked_fill(blocked, 0.0).flatten(1)
    count = max(round(_L1_SHARE * free.shape[1]), 1)
    chosen = free.abs().topk(count, dim=1).indices
    return torch.zeros_like(free).scatter(1, chosen, free.gather(1, chosen).sign()).view_as(gradient)


def project(delta: Tensor, images: Tensor, norm: str, eps: float | Tensor) -> Tensor:
    """Bring perturbations (N, 3, H, W) back to ‖δ‖ ≤ ε, in ``l2`` along their direction, in ``l1`` within [0, 1].

    The projection onto the L1 ball subtracts one threshold from all |δ|: the largest (Σ of the k largest − ε) / k.

    Source: Duchi et al., ICML 2008.

    Args:
        delta: the perturbations.
        images: the clean images.
        norm: ``linf``, ``l2`` or ``l1``.
        eps: budget ε, one for all images or (N, 1, 1, 1) one for each.
    """
    if norm == "linf":
        return torch.maximum(
            torch.minimum(delta, torch.as_tensor(eps, device=delta.device)), -torch.as_tensor(eps, device=delta.device)
        )
    if norm == "l1":
        delta = (images + delta).clamp(0, 1) - images
        size = delta.abs()
        ordered = size.flatten(1).sort(1, descending=True).values
        counts = torch.arange(1, ordered.shape[1] + 1, device=delta.device)
        excess = ordered.cumsum(1)[:, None, None] - eps  # (N, 1, 1, 3HW)
        threshold = (excess / counts).amax(3, keepdim=True).clamp_min(0)
        delta = delta.sign() * (size - threshold).clamp_min(0)
    length = measure_norm(delta, norm)
    return delta * torch.where(length > eps, eps / length, torch.ones_like(length))


def measure_norm(values: Tensor, norm: str) -> Tensor:
    """Compute ‖·‖ of each row, (N, 1, 1, 1)."""
    lengths: Tensor = torch.linalg.vector_norm(values.flatten(1), ord=_ORDERS[norm], dim=1)
    return lengths[:, None, None, None]
