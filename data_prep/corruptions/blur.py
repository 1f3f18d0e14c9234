"""The blurs. Parameters are in pixels; the arithmetic of most is in ``filters`` and ``zoom``."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn import functional

from data_prep.corruptions import filters
from data_prep.corruptions.levels import Pixels, planes, truncate_planes
from data_prep.corruptions.random import Streams
from data_prep.corruptions.zoom import mean_zoom


def gaussian_blur(pixels: Pixels, sigma: float) -> Pixels:
    """Blur with a Gaussian of standard deviation ``sigma``, cut off at 4 sigma; the border pixel is repeated."""
    return truncate_planes(filters.gaussian(planes(pixels, filters.exact_dtype(pixels.device)), sigma))


def glass_blur(pixels: Pixels, strength: tuple[float, int, int], streams: Streams) -> Pixels:
    """Blur with a Gaussian, shuffle locally, blur with a Gaussian; ``strength`` is (sigma, reach, passes)."""
    sigma, reach, passes = strength
    count, height, width, _ = pixels.shape
    blurred = gaussian_blur(pixels, sigma)
    sources = shuffle_sources(height, width, reach, passes, streams)
    sources = sources + torch.arange(count, device=pixels.device)[:, None] * (height * width)
    shuffled = blurred.reshape(-1, 3).index_select(0, sources.view(-1)).view_as(pixels)
    return gaussian_blur(shuffled, sigma)


def defocus_blur(pixels: Pixels, lens: tuple[float, float]) -> Pixels:
    """Average over a disk; ``lens`` is (radius, sigma of the Gaussian that softens its rim)."""
    kernel = _disk(*lens, pixels.device)
    levels = planes(pixels, filters.exact_dtype(pixels.device))
    return truncate_planes(filters.correlate(levels, kernel).div_(filters.WEIGHT_ONE))


def motion_blur(pixels: Pixels, camera: tuple[int, float], streams: Streams) -> Pixels:
    """Blur along a line at an angle uniform in [−45°, 45°); ``camera`` is (radius, sigma).

    The fraction of the result is dropped, as in ImageMagick, which made the official files.
    """
    degrees = streams.uniform(low=-45.0, high=45.0)
    levels = planes(pixels, filters.exact_dtype(pixels.device))
    return truncate_planes(filters.motion_blur_levels(levels, *camera, degrees))


def zoom_blur(pixels: Pixels, factors: tuple[float, float]) -> Pixels:
    """Average the image and its centre enlarged by 1, 1 + step, …; ``factors`` is (stop, step), without stop itself."""
    count, height, width, _ = pixels.shape
    columns, weights, starts = mean_zoom(height, width, *factors, pixels.device)
    table = pixels.permute(1, 2, 0, 3).reshape(height * width, count * 3).to(weights.dtype)
    mean = functional.embedding_bag(columns, table, starts, mode="sum", per_sample_weights=weights)
    return truncate_planes(mean.div_(filters.WEIGHT_ONE).view(height, width, count, 3).permute(2, 3, 0, 1))


@lru_cache(maxsize=32)
def _disk(radius: float, rim: float, device: torch.device) -> Int[Tensor, "k k"]:
    """Make the fixed-point kernel of ``defocus_blur``: a disk on a grid of at least 17 × 17, under a small Gaussian.

    The Gaussian has 3 taps, 5 for radii above 8, and mirrors at the centre of the grid's border pixels.
    """
    reach, half = max(8, int(radius)), 1 if radius <= 8 else 2
    grid = np.arange(-reach, reach + 1)
    disk = (grid[:, None] ** 2 + grid**2 <= radius**2).astype(np.float64)
    disk /= disk.sum()
    taps = np.exp(-(np.arange(-half, half + 1) ** 2) / (2 * rim**2))
    taps /= taps.sum()
    for axis in (0, 1):
        padded = np.pad(disk, [(half, half) if axis == it else (0, 0) for it in (0, 1)], mode="reflect")
        disk = sum(tap * np.take(padded, np.arange(len(grid)) + k, axis=axis) for k, tap in enumerate(taps))
    return torch.from_numpy(filters.trim(filters.fixed_point(disk))).to(device)


def shuffle_sources(height: int, width: int, reach: int, passes: int, streams: Streams) -> Int[Tensor, "n p"]:
    """Compute the source of the colour of each of the p = h w pixels, (N, p), after ``passes`` walks of glass blur.

    The original generator walks over the pixels p from the bottom right to the top left and gives each the colour of a
    random neighbour s(p). (It is meant to swap the two, but its two NumPy views share their memory, so the neighbour
    keeps its colour.) A pixel thus gets the original colour of s(p), or, if s(p) was visited before p, the new colour
    of s(p). These links form a forest, whose chains pointer doubling resolves in a few steps, for all pixels at once.

    A walk visits the rows and columns from side − reach down to reach + 1; a neighbour is −reach to reach − 1 away.
    """
    everywhere = torch.arange(height * width, device=streams.device).expand(len(streams), -1)
    sources = everywhere
    for _ in range(passes):
        step = _one_pass(height, width, reach, streams)
        sources = sources.gather(1, step)
    return sources


def _one_pass(height: int, width: int, reach: int, streams: Streams) -> Int[Tensor, "n p"]:
    """Compute the source of each pixel's colour after one walk."""
    device = streams.device
    rows = torch.arange(reach + 1, height - reach + 1, device=device)[:, None]
    columns = torch.arange(reach + 1, width - reach + 1, device=device)
    right, down = streams.integers(2, len(rows), len(columns), low=-reach, high=reach).unbind(1)
    neighbour = (rows + down) * width + (columns + right)
    visited = torch.zeros(height, width, dtype=torch.bool, device=device)
    visited[reach + 1 : height - reach + 1, reach + 1 : width - reach + 1] = True

    everywhere = torch.arange(height * width, device=device)
    source = everywhere.expand(len(streams), -1).clone()
    source.view(-1, height, width)[:, reach + 1 : height - reach + 1, reach + 1 : width - reach + 1] = neighbour
    follows = (source > everywhere) & visited.view(-1)[source]
    chain = (source - everywhere).mul_(follows).add_(everywhere)
    while not torch.equal(chain, further := chain.gather(1, chain)):
        chain = further
    return source.gather(1, chain)
