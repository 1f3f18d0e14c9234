"""Motion blur like ImageMagick's: a one-sided Gaussian along a line, one pixel per step, at an angle per image."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from data_prep.corruptions.filters import WEIGHT_ONE, fixed_point


def motion_blur_levels(
    levels: Float[Tensor, "n c h w"], radius: int, sigma: float, degrees: Float[Tensor, " n"]
) -> Float[Tensor, "n c h w"]:
    """Blur 8-bit levels along a line per image: Σ_i w_i x(p + round(i (cos, sin) θ)), i = 0, …, 2 radius.

    The weights are w_i ∝ exp(−i² / (2 σ²)), sum 1; the border pixel is repeated.

    levels: whole numbers from 0 to 255. radius, sigma: in pixels. degrees: θ of each image, clockwise from the right.
    Returns: in grey levels, exact multiples of 2⁻¹⁵.
    """
    steps = np.arange(2 * radius + 1)
    bell = np.exp(-(steps**2) / (2.0 * sigma**2))
    weights = fixed_point(bell / bell.sum())
    paths, members, counts = torch.unique(_paths(degrees, len(steps)), dim=0, return_inverse=True, return_counts=True)
    result = torch.zeros_like(levels)
    for path, group in zip(paths.tolist(), members.argsort().split(counts.tolist()), strict=True):
        down, right = zip(*path)
        top, left = max(0, -min(down)), max(0, -min(right))
        margins = (left, max(0, *right), top, max(0, *down))
        padded = functional.pad(levels[group], margins, mode="replicate")
        total = torch.zeros_like(levels[group])
        for weight, (dy, dx) in zip(weights.tolist(), path, strict=True):
            corner = (top + dy) * padded.stride(2) + left + dx
            total.add_(padded.as_strided(total.shape, padded.stride(), corner), alpha=weight)
        result[group] = total
    return result.div_(WEIGHT_ONE)


def _paths(degrees: Float[Tensor, " n"], steps: int) -> Int[Tensor, "n steps 2"]:
    """Compute the offset (down, right) of every step, rounded half down: ⌈i sin θ − ½⌉ and ⌈i cos θ − ½⌉."""
    angle = degrees.to(torch.float64)[:, None] * (math.pi / 180)
    step = torch.arange(steps, dtype=torch.float64, device=degrees.device)
    return torch.stack((step * angle.sin(), step * angle.cos()), dim=-1).sub_(0.5).ceil_().to(torch.int64)
