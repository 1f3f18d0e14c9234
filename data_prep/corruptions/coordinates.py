"""Coordinates of the pixels of an image, and interpolation between them."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from data_prep.corruptions.levels import Pixels, planes, truncate_planes
from data_prep.corruptions.random import Streams

Field = Float[Tensor, "n h w"]
Scalar = Float[Tensor, "n 1 1"]


def pixel_grid(pixels: Pixels) -> tuple[Float[Tensor, "h 1"], Float[Tensor, " w"]]:
    """Return the rows and columns of the pixels, from 0, float64."""
    rows, columns = (torch.arange(size, dtype=torch.float64, device=pixels.device) for size in pixels.shape[1:3])
    return rows[:, None], columns


def shorter_side(pixels: Pixels) -> int:
    """Return the shorter side in pixels, the unit of relative lengths."""
    return min(pixels.shape[1:3])


def draw(streams: Streams, low: float = 0.0, high: float = 1.0) -> Scalar:
    """Draw one number per image, uniform in [low, high), float64, in a shape that broadcasts with fields."""
    return streams.uniform(1, 1).to(torch.float64).mul_(high - low).add_(low)


def warp(pixels: Pixels, rows: Field, columns: Field) -> Pixels:
    """Move the content at (rows, columns) to every pixel, linearly interpolated; black beyond the border pixels."""
    return truncate_planes(sample_black(planes(pixels, torch.float64), rows, columns))


def sample_black(values: Float[Tensor, "n c h w"], rows: Field, columns: Field) -> Float[Tensor, "n c h w"]:
    """Interpolate linearly at (rows, columns), in pixels; values beyond the border pixels are 0."""
    height, width = values.shape[-2:]
    grid = torch.stack((columns * (2 / (width - 1)) - 1, rows * (2 / (height - 1)) - 1), dim=-1)
    return functional.grid_sample(values, grid, mode="bilinear", padding_mode="zeros", align_corners=True)
