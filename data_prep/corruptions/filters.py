"""Linear filters on planes, without rounding errors.

Values and weights are integers in fixed point, chosen so that every sum stays below 2²⁴. float32 then adds exactly, in
any order, and the result depends neither on the batch nor on the device.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

WEIGHT_ONE = 1 << 15
"""Sum of the weights of a kernel for 8-bit levels, in fixed point."""
GAUSSIAN_ONE = 1 << 12
"""Sum of the weights of a Gaussian, in fixed point."""
GAUSSIAN_STEPS = 16
"""Steps per grey level in the input of a Gaussian."""

Border = Literal["nearest", "reflect"]


def gaussian(
    values: Float[Tensor, "n c h w"],
    sigma: float | tuple[float, float],
    *,
    border: Border = "nearest",
    truncate: float = 4.0,
) -> Float[Tensor, "n c h w"]:
    """Blur with a Gaussian, rows first: weights ∝ exp(−k² / (2 σ²)) for |k| ≤ int(truncate σ + 0.5).

    Deviation: values are rounded to 1/16 before each of the two passes and weights to 2⁻¹², so that sums are exact; the
    result is off by about 0.02 on average.

    values: at most 256 in magnitude, of ``exact_dtype``.
    sigma: in pixels, for both axes or as (height, width); 0 leaves an axis unchanged.
    border: "nearest" repeats the border pixel, "reflect" mirrors at its outer edge (… 1 0 | 0 1 …).
    """
    for axis, spread in zip((2, 3), sigma if isinstance(sigma, tuple) else (sigma, sigma), strict=True):
        radius = int(truncate * spread + 0.5)
        if radius:
            steps = extend((values * GAUSSIAN_STEPS).round_(), axis, radius, border)
            kernel = _bell(spread, radius, values.device).to(values.dtype)
            values = _depthwise(steps, kernel.view(-1, 1) if axis == 2 else kernel.view(1, -1))
            values = values.div_(GAUSSIAN_ONE * GAUSSIAN_STEPS)
    return values


@lru_cache(maxsize=16)
def gaussian_matrix(size: int, sigma: float, truncate: float, device: torch.device) -> Float[Tensor, "size size"]:
    """Make the matrix of a Gaussian that is cut off at ``truncate`` sigmas, in float64 instead of fixed point.

    The image is mirrored at its border, repeatedly if it is narrower than the Gaussian.
    """
    return torch.from_numpy(ndimage.gaussian_filter1d(np.eye(size), sigma, axis=0, truncate=truncate)).to(device)


def extend(values: Float[Tensor, "n c h w"], axis: int, reach: int, border: Border) -> Float[Tensor, "n c y x"]:
    """Lengthen an axis by ``reach`` values at both ends, by the border rule of ``gaussian``."""
    size = values.shape[axis]
    position = torch.arange(-reach, size + reach, device=values.device)
    if border == "nearest":
        return values.index_select(axis, position.clamp_(0, size - 1))
    folded = position.remainder_(2 * size)
    return values.index_select(axis, torch.minimum(folded, 2 * size - 1 - folded))


def fixed_point(
    weights: NDArray[np.float64], one: int = WEIGHT_ONE, group: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """Round weights to integers in units of 1 / one that keep the sum, by rounding up the largest remainders.

    group: for each weight, the number of the sum that it belongs to; one sum for all weights if left out.
    """
    scaled = weights.ravel() * one
    group = np.zeros(len(scaled), dtype=np.int64) if group is None else group
    whole = np.floor(scaled)
    missing = np.rint(np.bincount(group, scaled)) - np.bincount(group, whole)
    order = np.lexsort((whole - scaled, group))
    sizes = np.bincount(group)
    rank = np.arange(len(scaled)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    whole[order[rank < missing[group[order]]]] += 1
    return whole.astype(np.int64).reshape(weights.shape)


def correlate(levels: Float[Tensor, "n c h w"], kernel: Int[Tensor, "k k"]) -> Float[Tensor, "n c h w"]:
    """Correlate 8-bit levels with a fixed-point kernel of odd side; the border is mirrored at the centre of its pixels.

    The result is exact: an integer in units of 2⁻¹⁵ levels.
    """
    return _depthwise(mirror_pad(levels, kernel.shape[-1] // 2), kernel.to(levels.dtype))


def exact_dtype(device: torch.device) -> torch.dtype:
    """Choose the type for exact sums below 2²⁴: float32, or float64 on a GPU, which may shorten float32 to TF32."""
    return torch.float64 if device.type == "cuda" else torch.float32


def mirror_pad(values: Float[Tensor, "n c h w"], reach: int) -> Float[Tensor, "n c y x"]:
    """Pad all four sides by ``reach`` pixels, mirrored at the centre of the border pixel (… 2 1 | 0 1 2 …)."""
    return functional.pad(values, (reach, reach, reach, reach), mode="reflect")


def trim(kernel: NDArray[np.int64]) -> NDArray[np.int64]:
    """Cut off the zeros around a square kernel of odd side."""
    cut = len(kernel) // 2 - int(np.abs(np.argwhere(kernel) - len(kernel) // 2).max())
    return kernel[cut : len(kernel) - cut, cut : len(kernel) - cut]


def _depthwise(padded: Float[Tensor, "n c y x"], kernel: Float[Tensor, "i j"]) -> Float[Tensor, "n c h w"]:
    """Correlate every plane with one kernel, without padding. All planes become channels of one image: fastest."""
    count, channels, height, width = padded.shape
    planes = padded.reshape(1, count * channels, height, width)
    weights = kernel.expand(count * channels, 1, -1, -1).contiguous()
    result = functional.conv2d(planes, weights, groups=count * channels)
    return result.view(count, channels, *result.shape[2:])


@lru_cache(maxsize=64)
def _bell(sigma: float, radius: int, device: torch.device) -> Float[Tensor, " k"]:
    """Compute the weights of a Gaussian in fixed point, float64."""
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return torch.from_numpy(fixed_point(weights / weights.sum(), GAUSSIAN_ONE).astype(np.float64)).to(device)


def motion_blur_levels(
    levels: Float[Tensor, "n c h w"], radius: int, sigma: float, degrees: Float[Tensor, " n"]
) -> Float[Tensor, "n c h w"]:
    """Blur 8-bit levels along a line per image: Σ_i w_i x(p + round(i (cos, sin) θ)), i = 0, …, 2 radius.

    This is ImageMagick's motion blur. The weights are w_i ∝ exp(−i² / (2 σ²)), sum 1; the border pixel is repeated.

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
