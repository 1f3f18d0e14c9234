"""The test for jumps: do the logits change as their gradient predicts, on the way from an image to its attacked
version?

Source: Pintor et al., *Indicators of Attack Failure*, NeurIPS 2022; Carlini et al., *On Evaluating Adversarial
Robustness*, 2019.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

INTERVALS = 8


def measure_jumps(
    victim: nn.Module,
    images: Float[Tensor, "n 3 h w"],
    moved: Float[Tensor, "n 3 h w"],
    labels: Int[Tensor, " n"],
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
            margin = (logits.gather(1, labels[:, None]) - logits.gather(1, rivals[:, None]))[:, 0]
            found = torch.autograd.grad(margin.sum(), x, allow_unused=True)[0] if margin.requires_grad else None
        values.append(margin.detach())
        slopes.append(torch.zeros_like(margin) if found is None else (found * step).flatten(1).sum(1))
    change, slope = torch.stack(values, 1).diff(dim=1), torch.stack(slopes, 1)
    unexplained = (change - (slope[:, 1:] + slope[:, :-1]) / 2).abs().amax(1)
    share = unexplained / change.abs().sum(1)
    return torch.where(share.isfinite(), share, torch.nan)
