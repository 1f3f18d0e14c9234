"""The corruptions of C-bar that draw over an image: sparkles, the squares of a chessboard, lines.

``level`` is the strength that the generator of C-bar uses; it is not the severity. Lengths are relative to the shorter
side.

Source: Mintun, Kirillov & Xie, "On Interaction Between Augmentations and Corruptions in Natural Corruption Robustness",
NeurIPS 2021.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from data_prep.corruptions.coordinates import Field, Scalar, draw, pixel_grid, shorter_side
from data_prep.corruptions.levels import NUDGE, Pixels, truncate
from data_prep.corruptions.random import Streams

SPARKLES = 5
MOST_RAYS = 200
SPREAD = 0.25
"""Standard deviation of the length of a ray, relative to its mean."""
GREY = 128
SQUARES = 64


def sparkles(pixels: Pixels, level: float, streams: Streams) -> Pixels:
    """Draw five white stars with rays of level / 100 of a side on average, at least one pixel."""
    side, (height, width) = shorter_side(pixels), pixels.shape[1:3]
    dark = 255.0 - pixels.to(torch.float64)
    for _ in range(SPARKLES):
        row, column = draw(streams, 0.0, height), draw(streams, 0.0, width)
        lengths = _ray_lengths(streams, level / 100 * side).clamp_(min=1.0)
        dark.mul_(1 - _glow(pixels, row, column, lengths, 1.0, streams)[..., None])
    return truncate(255.0 - dark, NUDGE)


def inverse_sparkles(pixels: Pixels, level: float, streams: Streams) -> Pixels:
    """Whiten the image except for one star with rays of a quarter of a side on average."""
    side, (height, width) = shorter_side(pixels), pixels.shape[1:3]
    row, column = draw(streams, 0.25, 0.75) * height, draw(streams, 0.25, 0.75) * width
    lengths = _ray_lengths(streams, side / 4)
    glow = _glow(pixels, row, column, lengths, 0.13 * level, streams)[..., None]
    return truncate(255.0 - glow * (255.0 - pixels.to(torch.float64)), NUDGE)


def checkerboard_cutout(pixels: Pixels, level: float, streams: Streams) -> Pixels:
    """Draw black squares of a turned chessboard in grey, each with probability level / 10."""
    rows, columns = pixel_grid(pixels)
    angle = draw(streams, 0.0, 2 * math.pi)
    scale = (draw(streams, 0.1, 0.25) * shorter_side(pixels)).clamp_(min=1.0)
    cosine, sine = angle.cos(), angle.sin()
    first, second = (cosine * rows + sine * columns) / scale, (cosine * columns - sine * rows) / scale
    cut = (streams.uniform(SQUARES, SQUARES) < level / 10).flatten(1)
    cell = first.trunc().remainder(SQUARES) * SQUARES + second.trunc().remainder(SQUARES)
    black = first.floor().remainder(2) == second.floor().remainder(2)
    covered = black & cut.gather(1, cell.to(torch.int64).flatten(1)).view_as(black)
    return pixels.masked_fill(covered[..., None], GREY)


def lines(pixels: Pixels, level: float, streams: Streams) -> Pixels:
    """Draw level / 10 grey lines per pixel of a side, twice a side long and two pixels wide at the base."""
    rows, columns = pixel_grid(pixels)
    side, (height, width) = shorter_side(pixels), pixels.shape[1:3]
    mean, spread = draw(streams, 0.0, 2 * math.pi), draw(streams, 0.1, 1.0)
    values = pixels.to(torch.float64)
    for _ in range(int(level / 10 * side)):
        row, column = draw(streams, 0.0, height), draw(streams, 0.0, width)
        angle = mean + 2 * math.pi * spread * draw(streams, -0.5, 0.5)
        down, right = angle.cos() * side, angle.sin() * side
        ends = [(row + k * down).trunc() for k in (-1, 1)], [(column + k * right).trunc() for k in (-1, 1)]
        share = _coverage(rows, columns, *ends)[..., None]
        values = values.mul_(1 - share).add_(GREY * share).add_(NUDGE).floor_()
    return truncate(values)


def _ray_lengths(streams: Streams, mean: float) -> Tensor:
    """Draw (N, 200) normally distributed lengths of rays."""
    return streams.normal(MOST_RAYS).to(torch.float64).mul_(SPREAD * mean).add_(mean)


def _glow(pixels: Pixels, row: Scalar, column: Scalar, lengths: Tensor, power: float, streams: Streams) -> Field:
    """Compute the brightness of a star with 50 to 199 rays at each pixel, from 0 to 1.

    It is (1 − (f − ½)²) (length² / distance²)^power, where f is the position of a pixel between its two nearest rays,
    and the length is interpolated between theirs.
    """
    rows, columns = pixel_grid(pixels)
    count = streams.integers(1, 1, low=50, high=MOST_RAYS)
    down, right = rows - row, columns - column
    place = (torch.atan2(right, down) + math.pi) / (2 * math.pi) * count
    ray = place.to(torch.int64)
    between = place - ray
    here, following = (lengths.gather(1, ((ray + k) % count).flatten(1)).view_as(place) for k in (0, 1))
    length = torch.lerp(here, following, between)
    glow = (length**2 / (down**2 + right**2 + 1e-4)) ** power
    return glow.mul_(1 - (between - 0.5) ** 2).clamp_(0.0, 1.0)


def _coverage(rows: Tensor, columns: Tensor, ends_down: list[Tensor], ends_right: list[Tensor]) -> Field:
    """Compute 1 − distance to a line, 0 from one pixel away and beyond the ends of the line along its main axis."""
    (top, bottom), (left, right) = ends_down, ends_right
    tall, wide = bottom - top, right - left
    length = torch.hypot(tall, wide).clamp_(min=1.0)
    share = (1 - ((rows - top) * wide - (columns - left) * tall).abs() / length).clamp_(min=0.0)
    along = torch.where(tall.abs() > wide.abs(), (rows - top) / tall, (columns - left) / wide)
    return share * ((along >= 0) & (along <= 1))
