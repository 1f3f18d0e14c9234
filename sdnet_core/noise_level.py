"""The noise level of an image, estimated from the image alone."""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor

_MEDIAN_OF_NORMAL = 0.674489750196082
"""Median of |t| for a standard normal t."""


def estimate_noise_level(x: Float[Tensor, "n c h w"]) -> Float[Tensor, " n"]:
    """Estimate the standard deviation σ of white noise in every image: ``σ̂ = median |d| / 0.6745``.

    d = (x[i, j] − x[i, j+1] − x[i+1, j] + x[i+1, j+1]) / 2 are the diagonal Haar details at every place of every
    channel. White noise of standard deviation σ has details of the same σ. Flat parts, ramps and straight edges along
    an axis have none, and the median ignores a minority of other details. Texture raises σ̂, and blur lowers it.

    The gradient of σ̂ is the gradient of ``√(π/2) · mean |d|``, which also estimates σ: the median's own gradient
    reaches a single place, and would hide from an attack how to change σ̂.

    Args:
        x: images of at least 2 × 2 pixels, in any unit.

    Returns:
        (N,) σ̂ ≥ 0 in the unit of ``x``.

    Source: Donoho & Johnstone, *Ideal spatial adaptation by wavelet shrinkage*, Biometrika 81, 1994. Deviation: the
        Haar wavelet, undecimated, and one median over all channels.
    """
    details = (x[..., :-1, :-1] - x[..., :-1, 1:] - x[..., 1:, :-1] + x[..., 1:, 1:]) / 2
    sizes = details.abs().flatten(1)
    level = sizes.median(1).values / _MEDIAN_OF_NORMAL
    if not sizes.requires_grad:
        return level
    smooth = math.sqrt(math.pi / 2) * sizes.mean(1)
    return level.detach() + smooth - smooth.detach()
