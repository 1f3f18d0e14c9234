"""Elastic transform: the image on a rubber sheet."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from data_prep.corruptions.coordinates import Field, pixel_grid
from data_prep.corruptions.filters import exact_dtype, gaussian, gaussian_matrix
from data_prep.corruptions.levels import Pixels, planes, truncate_planes
from data_prep.corruptions.random import Streams

NOISE_SCALE = 256.0
"""Factor of the noise while it is filtered, to use the range of ``gaussian``."""
TRUNCATE = 3.0
"""Standard deviations at which the Gaussian of the random field is cut off."""
SMOOTH_STEPS = 1 << 16
"""Steps per unit of the noise under a wide Gaussian: coarser than the rounding of its sums."""


def elastic_transform(pixels: Pixels, rubber: tuple[float, float, float], streams: Streams) -> Pixels:
    """Apply a random affine map, then shift every pixel by a smooth random field.

    The affine map shifts each of three points around the centre by a vector uniform in [−jitter, jitter)². The field is
    white noise, uniform in [−amplitude, amplitude), under a Gaussian of standard deviation sigma that is cut off at
    3 sigma. Both steps interpolate linearly.

    rubber: (amplitude, sigma, jitter) as fractions of a side of the image: the height for the amplitude, the side along
        each axis for sigma, the shorter side for the jitter.
    """
    amplitude, sigma, jitter = rubber
    values = planes(pixels, torch.float32)
    if jitter:
        values = _sample(values, *_affine_map(pixels, jitter * min(pixels.shape[1:3]), streams), mirror="centre")
    if amplitude:
        values = _sample(values, *_displacement(pixels, amplitude, sigma, streams), mirror="edge")
    return truncate_planes(values)


def _affine_map(pixels: Pixels, jitter: float, streams: Streams) -> tuple[Field, Field]:
    """Compute each pixel's source (rows, columns) under the map from the jittered points back to the points."""
    height, width = pixels.shape[1:3]
    middle, third = torch.tensor([height // 2, width // 2]), min(height, width) // 3
    corners = middle + third * torch.tensor([[1, 1], [-1, 1], [-1, -1]])
    fixed = corners.to(pixels.device, torch.float64)
    moved = fixed + streams.uniform(3, 2, low=-jitter, high=jitter)
    ones = torch.ones_like(moved[..., :1])
    back = torch.linalg.solve(torch.cat((moved, ones), dim=-1), fixed.expand_as(moved))[..., None, None]
    rows, columns = pixel_grid(pixels)
    row, column = (back[:, 0, k] * rows + back[:, 1, k] * columns + back[:, 2, k] for k in (0, 1))
    return row, column


def _displacement(pixels: Pixels, amplitude: float, sigma: float, streams: Streams) -> tuple[Field, Field]:
    """Compute each pixel's source (rows, columns) under the smooth random field."""
    height, width = pixels.shape[1:3]
    noise = streams.uniform(2, height, width, low=-NOISE_SCALE, high=NOISE_SCALE).to(exact_dtype(pixels.device))
    if TRUNCATE * sigma > 1:
        down, across = (gaussian_matrix(size, sigma * size, TRUNCATE, noise.device) for size in (height, width))
        smooth = (down @ noise.to(torch.float64) @ across.T).mul_(SMOOTH_STEPS).round_().div_(SMOOTH_STEPS)
    else:
        smooth = gaussian(noise, (sigma * height, sigma * width), border="reflect", truncate=TRUNCATE)
    shift = smooth.to(torch.float64).mul_(amplitude * height / NOISE_SCALE)
    rows, columns = pixel_grid(pixels)
    return rows + shift[:, 0], columns + shift[:, 1]


def _sample(
    values: Float[Tensor, "n c h w"],
    rows: Float[Tensor, "n oh ow"],
    columns: Float[Tensor, "n oh ow"],
    *,
    mirror: Literal["centre", "edge"],
) -> Float[Tensor, "n c oh ow"]:
    """Interpolate linearly at (rows, columns), in pixels; the image is mirrored at its border pixels."""
    at_centre = mirror == "centre"  # centre of the border pixels, "2 1 0 1 2", or their outer edge, "1 0 0 1"
    height, width = values.shape[-2:]
    if at_centre:
        places = [rows * (2 / (height - 1)) - 1, columns * (2 / (width - 1)) - 1]
    else:
        places = [(2 * rows + 1) / height - 1, (2 * columns + 1) / width - 1]
    grid = torch.stack(places[::-1], dim=-1).to(values.dtype)
    return functional.grid_sample(values, grid, mode="bilinear", padding_mode="reflection", align_corners=at_centre)
