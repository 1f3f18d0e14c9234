"""Do the logits change as their gradient predicts, around an image and on the way to its attacked version?

Source: Carlini et al., *On Evaluating Adversarial Robustness*, 2019; Pintor et al., *Indicators of Attack Failure*,
NeurIPS 2022.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

STEPS = (0.1 / 255, 0.4 / 255, 1 / 255)
"""Distances that each value of the image moves along the gradient, to either side."""
RANDOM_STEPS = (0.4 / 255, 4 / 255)
"""Distances along random directions."""
_DIRECTIONS = 2
INTERVALS = 8
"""Number of steps on the way to an attacked image."""


def compare_slopes(
    victim: nn.Module, images: Float[Tensor, "n 3 h w"], labels: Int[Tensor, " n"], *, seed: int
) -> tuple[Float[Tensor, "n s"], Float[Tensor, " r"]]:
    """Divide central differences by the gradient's prediction, for every image, step and random direction.

    With f = z_y − z_j, where j is the best other class at the clean image, and g = ∇f: along d = sign(g) the ratio
    (f(x + h d) − f(x − h d)) / (2 h ⟨g, d⟩), and over all images and random d of ±1 together the root of
    Σ (f(x + h d) − f(x − h d))² / Σ (2 h ⟨g, d⟩)² for every step of ``RANDOM_STEPS``. d is 0 where x ± h leaves [0, 1].
    Both are 1 if f is linear. A gradient that is zero or not finite gives NaN.

    The first reveals a gradient that points in a wrong direction; the second reveals a gradient that is only part of
    the true gradient, or too faint for the change of the logits.

    Args:
        victim: images to logits, frozen and in eval mode.
        images: clean images in [0, 1], on the victim's device.
        labels: classes of the images.
        seed: seed of the random directions.
    """
    x = images.detach().clone().requires_grad_(True)
    with torch.enable_grad():
        logits = victim(x)
        rivals = logits.detach().scatter(1, labels[:, None], -torch.inf).argmax(1)
        margin = _margin(logits, labels, rivals)
        found = torch.autograd.grad(margin.sum(), x, allow_unused=True)[0] if margin.requires_grad else None
    gradient = torch.zeros_like(images) if found is None else found

    def change(direction: Tensor, step: float) -> tuple[Tensor, Tensor]:
        has_room = (images >= step) & (images <= 1 - step)
        shift = torch.where(has_room, step * direction, 0)
        ahead, behind = (_margin(victim(images + s * shift), labels, rivals) for s in (1, -1))
        return ahead - behind, 2 * (gradient * shift).flatten(1).sum(1)

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        along = [torch.div(*change(gradient.sign(), step)) for step in STEPS]
        spreads = []
        for step in RANDOM_STEPS:
            draws = [torch.randint(2, images.shape, generator=generator) * 2.0 - 1 for _ in range(_DIRECTIONS)]
            changed, expected = zip(*(change(draw.to(images.device), step) for draw in draws), strict=True)
            spreads.append((torch.stack(changed).square().sum() / torch.stack(expected).square().sum()).sqrt())
    ratio, spread = torch.stack(along, 1), torch.stack(spreads)
    return torch.where(ratio.isfinite(), ratio, torch.nan), torch.where(spread.isfinite(), spread, torch.nan)


def measure_jumps(
    victim: nn.Module, images: Float[Tensor, "n 3 h w"], moved: Float[Tensor, "n 3 h w"], labels: Int[Tensor, " n"]
) -> Float[Tensor, " n"]:
    """Compute the largest unexplained change on the way, as a share of all change.

    With f = z_y − z_j, where j is the best other class of the moved image, and x_i = x + (i / 8)(x′ − x): the change
    f(x_{i+1}) − f(x_i), less the mean of ⟨∇f, x_{i+1} − x_i⟩ at both ends (trapezoidal rule), the largest of them over
    Σ |f(x_{i+1}) − f(x_i)|. It is near 0 where f is continuous and its gradient true, and near 1 where another network
    takes over on the way. An image that was not moved has NaN.

    Args:
        victim: images to logits, frozen and in eval mode.
        images: clean images in [0, 1], on the victim's device.
        moved: the images as an attack left them.
        labels: classes of the images.
    """
    step = (moved - images) / INTERVALS
    with torch.no_grad():
        rivals = victim(moved).scatter(1, labels[:, None], -torch.inf).argmax(1)
    values, slopes = [], []
    for i in range(INTERVALS + 1):
        x = (images + i * step).detach().requires_grad_(True)
        with torch.enable_grad():
            logits = victim(x)
            margin = _margin(logits, labels, rivals)
            found = torch.autograd.grad(margin.sum(), x, allow_unused=True)[0] if margin.requires_grad else None
        values.append(margin.detach())
        slopes.append(torch.zeros_like(margin) if found is None else (found * step).flatten(1).sum(1))
    change, slope = torch.stack(values, 1).diff(dim=1), torch.stack(slopes, 1)
    unexplained = (change - (slope[:, 1:] + slope[:, :-1]) / 2).abs().amax(1)
    share = unexplained / change.abs().sum(1)
    return torch.where(share.isfinite(), share, torch.nan)


def _margin(logits: Tensor, labels: Tensor, rivals: Tensor) -> Tensor:
    return (logits.gather(1, labels[:, None]) - logits.gather(1, rivals[:, None]))[:, 0]
