"""Noises of C-bar with long-range structure: waves, plasma, Perlin noise and noises of a given spectrum.

All of them are sampled on the pixel grid in float64. ``level`` is the strength that the generator of C-bar uses; it is
not the severity. Lengths are relative to the shorter side.

Source: Mintun, Kirillov & Xie, "On Interaction Between Augmentations and Corruptions in Natural Corruption Robustness",
NeurIPS 2021.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from data_prep.corruptions.coordinates import Field, draw, pixel_grid, shorter_side
from data_prep.corruptions.levels import NUDGE, Pixels, truncate
from data_prep.corruptions.random import Streams

PERLIN_PERIOD = 256
PERLIN_OCTAVES = (1, 2, 4, 8, 16)
PERLIN_CELLS = 7
"""Number of cells along a side in the coarsest octave of Perlin noise."""


def single_frequency_greyscale(pixels: Pixels, level: float, streams: Streams) -> Pixels:
    """Add a plane wave: x + 19.6 level sin(u · (column, row) + φ) on levels.

    One component of u is uniform in [−π, π), the other is smaller in magnitude; their order is random.
    """
    rows, columns = pixel_grid(pixels)
    major = draw(streams, -math.pi, math.pi)
    minor = draw(streams, -1.0, 1.0) * major.abs()
    phase = draw(streams, 0.0, 2 * math.pi)
    swap = draw(streams) < 0.5
    across, down = torch.where(swap, minor, major), torch.where(swap, major, minor)
    return _add(pixels, (across * columns + down * rows + phase).sin_().mul_(19.6 * level)[..., None])


def cocentric_sine_waves(pixels: Pixels, level: float, streams: Streams) -> Pixels:
    """Add wavy rings around a centre: x + 12.8 level (frac(ρ / width) − ½) on levels.

    Here ρ = distance to the centre + amplitude sin(frequency · angle). The centre is uniform in the image, the
    frequency in [0, 10), width and amplitude in [0, a tenth of a side).
    """
    rows, columns = pixel_grid(pixels)
    side, (height, width) = shorter_side(pixels), pixels.shape[1:3]
    across, down = columns - draw(streams, 0.0, width), rows - draw(streams, 0.0, height)
    frequency, amplitude = draw(streams, 0.0, 10.0), draw(streams, 0.0, side / 10)
    ring = draw(streams, 0.0, side / 10).clamp_(min=side * 2.0**-30)
    radius = torch.hypot(across, down) + (torch.atan2(across, down) * frequency).sin_() * amplitude
    return _add(pixels, ((radius % ring) / ring).sub_(0.5).mul_(12.8 * level)[..., None])


def plasma_noise(pixels: Pixels, level: float, streams: Streams) -> Pixels:
    """Mix in plasma: (1 − s) x + 255 s plasma on levels, s = 6.4 level / 255, in local colours, folded 4 to 6 times."""
    rows, columns = pixel_grid(pixels)
    time = draw(streams, 0.0, 6 * math.pi)
    folds = streams.integers(1, 1, low=4, high=7)
    sharpness = draw(streams, 0.5, 1.0)
    scale = draw(streams, 0.075, 0.2) * shorter_side(pixels)
    x, y = columns / scale, rows / scale
    for fold in range(6):
        frequency, drift, damping = 1.93**fold, 1.15**fold, (2.25 - sharpness) ** fold
        right = (y * frequency + time / drift).cos_() / damping
        down = (x * frequency + time / drift).sin_() / damping
        active = fold < folds
        x, y = x + active * (right - 0.3 * down), y + active * (down + 0.3 * right)
    colours = (x - time).sin(), ((x + y + time.sin()) * 0.5).sin(), (y + time).sin()
    strength = 6.4 * level
    values = pixels.to(torch.float64).mul_(1 - strength / 255)
    return truncate(values.add_(torch.stack(colours, dim=-1).mul_(strength)), NUDGE)


def perlin_noise(pixels: Pixels, level: float, streams: Streams) -> Pixels:
    """Mix in Perlin noise: (1 − α) x + 255 α (½ + ½ Σ |noise(f place)| / f), with α = level / 20.

    The sum is over f = 1, 2, 4, 8, 16 and is cut off at 1.

    Source of the noise: Perlin, "An Image Synthesizer", SIGGRAPH 1985.
    """
    order = streams.bits(PERLIN_PERIOD).argsort(dim=1)
    slopes = streams.integers(PERLIN_PERIOD, 2, low=-256, high=256).to(torch.float64)
    slopes = slopes / slopes.norm(dim=-1, keepdim=True).clamp_(min=1.0)
    rows, columns = (axis.flatten() * (PERLIN_CELLS / shorter_side(pixels)) for axis in pixel_grid(pixels))
    octaves = (_lattice_noise(order, slopes, rows * f, columns * f).abs_().div_(f) for f in PERLIN_OCTAVES)
    cloud = torch.stack(list(octaves)).sum(dim=0).mul_(0.5).add_(0.5).clamp_(0.0, 1.0)
    alpha = level / 20
    return truncate(pixels.to(torch.float64).mul_(1 - alpha).add_(cloud.mul_(255 * alpha)[..., None]), NUDGE)


def blue_noise_sample(pixels: Pixels, level: float, streams: Streams) -> Pixels:
    """Blacken pixels whose noise, with amplitude ∝ frequency, is at most 0.3 level − 2.5 standard deviations."""
    height, width = pixels.shape[1:3]
    noise = _spectral_noise(_distance(height, width, pixels.device), 1, streams)[:, 0]
    return pixels * (noise > 0.3 * level - 2.5)[..., None]


def brownish_noise(pixels: Pixels, level: float, streams: Streams) -> Pixels:
    """Add noise of its own to each colour: x + 6.4 level noise on levels, with amplitude ∝ 1 / (frequency² + 1)."""
    height, width = pixels.shape[1:3]
    spectrum = 1 / (_distance(height, width, pixels.device) ** 2 + 1)
    return _add(pixels, _spectral_noise(spectrum, 3, streams).mul_(6.4 * level).permute(0, 2, 3, 1))


def _add(pixels: Pixels, noise: Float[Tensor, "n h w c"]) -> Pixels:
    return truncate(pixels + noise, NUDGE)


def _lattice_noise(order: Tensor, slopes: Tensor, rows: Float[Tensor, " h"], columns: Float[Tensor, " w"]) -> Field:
    """Compute gradient noise at (rows, columns), in cells: 1.5 times the smooth blend of the four corners' slopes."""
    (top, down), (left, right) = ((axis.floor().to(torch.int64), axis % 1) for axis in (rows, columns))
    blend_rows, blend_columns = (part**2 * (3 - 2 * part) for part in (down, right))

    def corner(below: int, beside: int) -> Field:
        first = order[:, (top + below) % PERLIN_PERIOD]
        places = (first[:, :, None] + ((left + beside) % PERLIN_PERIOD)) % PERLIN_PERIOD
        cell = order.gather(1, places.flatten(1))
        slope = slopes.gather(1, cell[..., None].expand(-1, -1, 2)).view(*places.shape, 2)
        return (down - below)[:, None] * slope[..., 0] + (right - beside) * slope[..., 1]

    upper = torch.lerp(corner(0, 0), corner(1, 0), blend_rows[:, None])
    lower = torch.lerp(corner(0, 1), corner(1, 1), blend_rows[:, None])
    return torch.lerp(upper, lower, blend_columns.expand_as(upper)).mul_(1.5)


@lru_cache(maxsize=8)
def _distance(height: int, width: int, device: torch.device) -> Float[Tensor, "h w"]:
    """Compute the frequency of every point of a centred spectrum, in cycles along its side, float64."""
    rows, columns = (torch.arange(size, dtype=torch.float64) - size / 2 for size in (height, width))
    return torch.hypot(rows[:, None], columns).to(device)


def _spectral_noise(spectrum: Float[Tensor, "h w"], channels: int, streams: Streams) -> Float[Tensor, "n c h w"]:
    """Compute the real part of the transform of ``spectrum`` with random phases, scaled to standard deviation 1.

    The phases of the right half are the phases of the left half, turned by 180°.
    """
    height, width = spectrum.shape
    left = streams.uniform(channels, height, (width + 1) // 2, high=2 * math.pi).to(torch.float64)
    phases = torch.cat((left, left[..., : width // 2].flip(-2, -1)), dim=-1)
    waves = torch.fft.ifftshift(torch.polar(spectrum.expand_as(phases), phases), dim=(-2, -1))
    noise: Tensor = torch.fft.ifft2(waves).real
    return noise / noise.std(dim=(-2, -1), keepdim=True, correction=0)
