"""Linear filters on planes: Gaussians as matrices, small kernels as sums without rounding.

A separable filter along an axis, its border rule included, is one matrix; applied in double precision its rounding
errors cannot be seen in an 8-bit result. Kernels in two dimensions have 15-bit integer weights: with 8-bit images every
partial sum is an integer below 2²⁴, exact in float32 in any order of summation.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

WEIGHT_ONE = 1 << 15
"""The sum of the weights of a kernel in fixed point."""


@lru_cache(maxsize=64)
def gaussian_matrix(
    size: int, sigma: float, device: torch.device, *, border: str = "nearest", truncate: float = 4.0
) -> Float[Tensor, "size size"]:
    """The Gaussian filter along an axis of ``size`` pixels, float64: y = G x.

    G[i, j] sums exp(−k² / (2 σ²)) / Z over the taps k = −r, …, r, r = int(truncate σ + 0.5), that the border rule takes
    from i + k to j.

    sigma: in pixels; 0 leaves everything as it is.
    border: "nearest" repeats the border pixel; "reflect" mirrors at its outer edge (… 1 0 | 0 1 …).
    """
    radius = int(truncate * sigma + 0.5)
    taps = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (taps / sigma) ** 2) if radius else np.ones(1)
    position = np.arange(size)[:, None] + taps
    source = np.clip(position, 0, size - 1) if border == "nearest" else _mirror(position, size)
    matrix = np.zeros((size, size))
    np.add.at(matrix, (np.arange(size)[:, None], source), weights / weights.sum())
    return torch.from_numpy(matrix).to(device)


def separable(
    values: Float[Tensor, "*n h w"], rows: Float[Tensor, "i h"], columns: Float[Tensor, "j w"]
) -> Float[Tensor, "*n i j"]:
    """Apply one matrix along the height and one along the width: rows · values · columnsᵀ."""
    across = values @ columns.T
    return (across.transpose(-1, -2) @ rows.T).transpose(-1, -2)


def gaussian(
    values: Float[Tensor, "*n h w"],
    sigma: float | tuple[float, float],
    *,
    border: str = "nearest",
    truncate: float = 4.0,
) -> Float[Tensor, "*n h w"]:
    """Gaussian blur of float64 planes; ``sigma`` in pixels, for both axes or as (height, width)."""
    along_height, along_width = sigma if isinstance(sigma, tuple) else (sigma, sigma)
    height, width = values.shape[-2:]
    rows = gaussian_matrix(height, along_height, values.device, border=border, truncate=truncate)
    columns = gaussian_matrix(width, along_width, values.device, border=border, truncate=truncate)
    return separable(values, rows, columns)


def fixed_point(weights: NDArray[np.float64], group: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
    """Round weights to multiples of 2⁻¹⁵, given as integers that keep the sum: the largest remainders go up.

    group: for each weight, the number of the sum that it belongs to; all belong to one if left out.
    """
    scaled = weights.ravel() * WEIGHT_ONE
    group = np.zeros(len(scaled), dtype=np.int64) if group is None else group
    whole = np.floor(scaled)
    missing = np.rint(np.bincount(group, scaled)) - np.bincount(group, whole)
    order = np.lexsort((whole - scaled, group))
    sizes = np.bincount(group)
    rank = np.arange(len(scaled)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    whole[order[rank < missing[group[order]]]] += 1
    return whole.astype(np.int64).reshape(weights.shape)


def correlate(levels: Float[Tensor, "n c h w"], kernel: Float[Tensor, "k k"]) -> Float[Tensor, "n c h w"]:
    """Correlate 8-bit levels with a fixed-point kernel of odd side; the border is mirrored at the centre of its pixels.

    Exact: every result is an integer, in units of 2⁻¹⁵ levels.
    """
    count, channels, height, width = levels.shape
    reach = kernel.shape[-1] // 2
    padded = mirror_pad(levels, reach).view(1, count * channels, height + 2 * reach, width + 2 * reach)
    weights = kernel.to(levels.dtype).expand(count * channels, 1, -1, -1).contiguous()
    return functional.conv2d(padded, weights, groups=count * channels).view(count, channels, height, width)


def exact_dtype(device: torch.device) -> torch.dtype:
    """The type for sums of integers below 2²⁴: float32, or float64 on a GPU, which may shorten float32 to TF32."""
    return torch.float64 if device.type == "cuda" else torch.float32


def mirror_pad(values: Float[Tensor, "n c h w"], reach: int) -> Float[Tensor, "n c y x"]:
    """Pad all four sides by ``reach`` pixels, mirrored at the centre of the border pixel (… 2 1 | 0 1 2 …)."""
    return functional.pad(values, (reach, reach, reach, reach), mode="reflect")


def trim(kernel: NDArray[np.int64]) -> NDArray[np.int64]:
    """Cut off the zeros around a square kernel of odd side."""
    used: Sequence[int] = np.abs(np.argwhere(kernel) - len(kernel) // 2).max(axis=0)
    cut = len(kernel) // 2 - int(max(used))
    return kernel[cut : len(kernel) - cut, cut : len(kernel) - cut]


def _mirror(position: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Fold positions into 0 … size − 1 by mirroring at the outer edges of the border pixels, as often as it takes."""
    folded = position % (2 * size)
    return np.minimum(folded, 2 * size - 1 - folded)
