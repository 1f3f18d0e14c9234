"""The corruptions of C-bar that move pixels: refraction, ripples, twirls, turns and colours that are out of register.

``level`` is the strength that the generator of C-bar uses; it is not the severity. Lengths are relative to the shorter
side.

Source: Mintun, Kirillov & Xie, "On Interaction Between Augmentations and Corruptions in Natural Corruption Robustness",
NeurIPS 2021.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy import ndimage, sparse
from torch import Tensor
from torch.nn import functional

from data_prep.corruptions.coordinates import Field, draw, pixel_grid, sample_black, shorter_side, warp
from data_prep.corruptions.filters import gaussian_matrix
from data_prep.corruptions.levels import Pixels, planes, truncate, truncate_planes
from data_prep.corruptions.random import Streams

TURNS = 21
SQUARES_PER_SIDE = 3
CUBIC_TAPS = 4
REFRACTION = 4.0
STRAIGHT = 1 - 1e-3
"""Cosine of the water's tilt above which light passes straight through."""


def ripple(pixels: Pixels, level: float, streams: Streams) -> Pixels:
    """Shift rows and columns by level / 400 of a side, in waves of 0.1 to 0.3 sides."""
    side = shorter_side(pixels)
    wavelengths = [draw(streams, 0.1, 0.3) * side for _ in range(2)]
    phases = [draw(streams, 0.0, 2 * math.pi) for _ in range(2)]
    rows, columns = (
        place + level / 400 * side * (2 * math.pi * place / wavelength + phase).sin()
        for place, wavelength, phase in zip(pixel_grid(pixels), wavelengths, phases, strict=True)
    )
    nowhere = torch.zeros_like(rows * columns)
    return warp(pixels, rows + nowhere, columns + nowhere)


def pinch_and_twirl(pixels: Pixels, level: float, streams: Streams) -> Pixels:
    """Pinch and twirl the image in the circles that fill the squares of a grid, three along the shorter side.

    A point at the fraction d of the radius takes its colour from d sin(π d / 2)^−(0.04 level + 0.1), turned by the
    angle ±(1 − d)² level π / 20; the sign is random for each circle.
    """
    cell = shorter_side(pixels) // SQUARES_PER_SIDE
    rows, columns = pixel_grid(pixels)
    height, width = pixels.shape[1:3]
    shape = height // cell, width // cell
    signs = torch.where(streams.uniform(*shape) < 0.5, -1.0, 1.0).to(torch.float64)
    rest = (0, width - shape[1] * cell, 0, height - shape[0] * cell)
    signs = functional.pad(signs.repeat_interleave(cell, 1).repeat_interleave(cell, 2), rest)
    down, right = (place % cell - cell / 2 for place in (rows, columns))
    share = torch.hypot(down, right) / (cell / 2)
    inside = (share <= 1) & (share * (cell / 2) >= 5e-4) & (rows < shape[0] * cell) & (columns < shape[1] * cell)
    stretch = torch.where(inside, (math.pi / 2 * share).sin(), 1.0) ** -(0.04 * level + 0.1)
    angle = signs * inside * (1 - share) ** 2 * (level * math.pi / 20)
    turned_down = stretch * (down * angle.cos() - right * angle.sin())
    turned_right = stretch * (down * angle.sin() + right * angle.cos())
    return warp(pixels, rows - down + turned_down, columns - right + turned_right)


def caustic_refraction(pixels: Pixels, level: float, streams: Streams) -> Pixels:
    """Show the image through water, and lit by it; the water's surface is a pattern of caustics.

    Vertical light is refracted at the slope of the pattern, with index 4, and shows the image level / 20 sides below.
    The sum of the two slopes, times 0.2 level, is added as light.
    """
    water = functional.pad(_caustics(pixels, streams), (1, 1, 1, 1))
    down = water[:, 2:, 1:-1] - water[:, :-2, 1:-1]
    right = water[:, 1:-1, 2:] - water[:, 1:-1, :-2]
    slope = torch.hypot(down, right)
    tilt = slope.atan()
    bend = (tilt - (tilt.sin() / REFRACTION).asin()).sin() / slope.clamp(min=1e-300)
    bend = torch.where(tilt.cos() >= STRAIGHT, 0.0, bend) * (level / 20 * shorter_side(pixels))
    rows, columns = pixel_grid(pixels)
    places = [place + (bend * part).mul_(1000).round_().div_(1000) for place, part in ((rows, down), (columns, right))]
    seen = sample_black(planes(pixels, torch.float64), *places)
    light = (down - right).mul_(255 * 0.2 * level)
    return truncate_planes(seen.add_(light[:, None]).clamp_(0.0, 255.0))


def _caustics(pixels: Pixels, streams: Streams) -> Field:
    """Draw a pattern like light on the floor of a pool, from 0 to 1, under a Gaussian of one pixel."""
    time, size = draw(streams, 0.5, 2.0), draw(streams, 0.75, 1.25) * shorter_side(pixels)
    x, y = ((place / size) % 1 * 6.28318530718 - 250 for place in pixel_grid(pixels))
    u, v, brightness = x, y, torch.ones_like(x * y)
    for turn in range(1, 6):
        t = time * (1 - 3.5 / turn)
        u, v = x + (t - u).cos() + (t + v).sin(), y + (t - v).sin() + (t + u).cos()
        brightness = brightness + 1 / torch.hypot(x * 0.005 / (u + t).sin(), y * 0.005 / (v + t).cos())
    light = (1.17 - (brightness / 5) ** 1.4).abs() ** 8
    down, across = (gaussian_matrix(length, 1.0, 4.0, pixels.device) for length in pixels.shape[1:3])
    return down @ light.clamp_(0.0, 1.0) @ across.T


def transverse_chromatic_abberation(pixels: Pixels, level: float, streams: Streams) -> Pixels:
    """Enlarge the colours by 1, 1 + level / 40 and 1 + level / 20, in random order.

    All three are smoothed by the cubic B-spline that interpolates them, and rounded.
    """
    values = planes(pixels, torch.float64)
    order = streams.uniform(3).argsort(dim=1)
    result = torch.zeros_like(values)
    for number, factor in enumerate((1.0, 1.0 + level / 40, 1.0 + level / 20)):
        down, across = (_spline_zoom(size, factor, pixels.device) for size in values.shape[2:])
        result += (down @ values @ across.T) * (order == number)[..., None, None]
    return truncate(result.add_(0.5 + 1e-9)).permute(0, 2, 3, 1)


def circular_motion_blur(pixels: Pixels, level: float) -> Pixels:
    """Average 21 turns of the image by up to ±1.5 level degrees, with weight exp(−2 s²) at s times the largest."""
    values = planes(pixels, torch.float64)
    count, channels, height, width = values.shape
    filters = [torch.from_numpy(_spline_filter(size)).to(values.device) for size in (height, width)]
    table = (filters[0] @ values @ filters[1].T).view(count * channels, -1).T.contiguous()
    sources, weights, starts = _mean_turn(height, width, 1.5 * level, values.device)
    turned = functional.embedding_bag(sources, table, starts, mode="sum", per_sample_weights=weights)
    return truncate_planes(turned.T.reshape(values.shape))


def _spline_filter(size: int) -> NDArray[np.float64]:
    """Make the matrix from values to the coefficients of the cubic spline through them."""
    return np.asarray(ndimage.spline_filter1d(np.eye(size), order=3, axis=0, mode="mirror"))


def _cubic(places: NDArray[np.floating], size: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Find the coefficients of a cubic spline at ``places`` and their weights, (*, 4); it is mirrored at its ends."""
    first = np.floor(places).astype(np.int64) - 1
    taps = first[..., None] + np.arange(CUBIC_TAPS)
    away = np.abs(places[..., None] - taps)
    weights = np.where(away < 1, 2 / 3 - away**2 + away**3 / 2, np.maximum(2 - away, 0) ** 3 / 6)
    taps = np.abs(taps)
    return np.minimum(taps, 2 * (size - 1) - taps), weights


@lru_cache(maxsize=32)
def _spline_zoom(size: int, factor: float, device: torch.device) -> Float[Tensor, "size size"]:
    """Make the matrix, float64, that enlarges an axis, end pixels onto end pixels, and cuts out the middle."""
    enlarged = round(size * factor)
    places = ((enlarged - size) // 2 + np.arange(size)) * ((size - 1) / (enlarged - 1))
    taps, weights = _cubic(places, size)
    matrix = np.zeros((size, size))
    np.add.at(matrix, (np.arange(size)[:, None], taps), weights)
    return torch.from_numpy(matrix).to(device)


@lru_cache(maxsize=8)
def _mean_turn(height: int, width: int, degrees: float, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Make the sparse matrix from coefficients to the weighted mean of the turns, filled with black.

    Returns: (sources, weights, starts), as in ``mean_zoom``; the weights are float64.
    """
    rows, columns = (axis.ravel() for axis in np.indices((height, width)))
    middle = (height - 1) / 2, (width - 1) / 2
    shares = np.linspace(-1, 1, TURNS)
    importance = np.exp(-2 * shares**2)
    total = sparse.csr_array((height * width, height * width))
    for share, weight in zip(shares, importance / importance.sum(), strict=True):
        cosine, sine = math.cos(math.radians(share * degrees)), math.sin(math.radians(share * degrees))
        down, right = rows - middle[0], columns - middle[1]
        from_rows = np.round(cosine * down + sine * right + middle[0], 9)
        from_columns = np.round(cosine * right - sine * down + middle[1], 9)
        inside = (from_rows >= 0) & (from_rows <= height - 1) & (from_columns >= 0) & (from_columns <= width - 1)
        (taps_down, weights_down), (taps_right, weights_right) = (
            _cubic(places[inside], size) for places, size in ((from_rows, height), (from_columns, width))
        )
        taps = taps_down[:, :, None] * width + taps_right[:, None, :]
        weights = weight * weights_down[:, :, None] * weights_right[:, None, :]
        targets = np.broadcast_to(np.flatnonzero(inside)[:, None, None], taps.shape)
        places = (targets.ravel(), taps.ravel())
        total = total + sparse.coo_array((weights.ravel(), places), shape=total.shape).tocsr()
    sources, starts = (torch.from_numpy(it.astype(np.int64)).to(device) for it in (total.indices, total.indptr[:-1]))
    return sources, torch.from_numpy(total.data).to(device), starts
