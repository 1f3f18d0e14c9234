"""The noises: every value x of an image, in [0, 1], changes independently of all others.

The result is clipped to [0, 1], multiplied by 255 and truncated. A noise is defined by its channel (see ``channel``).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from scipy import special
from torch import Tensor

from data_prep.corruptions.channel import LEVELS, alias_table, transmit
from data_prep.corruptions.levels import Pixels
from data_prep.corruptions.random import Streams

Channel = Callable[[float], NDArray[np.float64]]


def gaussian_noise(pixels: Pixels, sigma: float, streams: Streams) -> Pixels:
    """Add Gaussian noise: x + n with n ~ N(0, sigma²)."""
    return transmit(pixels, _table(gaussian_channel, sigma, pixels.device), streams)


def speckle_noise(pixels: Pixels, sigma: float, streams: Streams) -> Pixels:
    """Add Gaussian noise in proportion to the value: x + x n with n ~ N(0, sigma²)."""
    return transmit(pixels, _table(speckle_channel, sigma, pixels.device), streams)


def shot_noise(pixels: Pixels, photons: float, streams: Streams) -> Pixels:
    """Count photons: k / photons with k ~ Poisson(x photons)."""
    return transmit(pixels, _table(shot_channel, photons, pixels.device), streams)


def impulse_noise(pixels: Pixels, amount: float, streams: Streams) -> Pixels:
    """Add salt and pepper: with probability ``amount`` a value is replaced by 0 or 1 with even odds."""
    return transmit(pixels, _table(impulse_channel, amount, pixels.device), streams)


def gaussian_channel(sigma: float) -> NDArray[np.float64]:
    """Compute P[v, w] of ``gaussian_noise``."""
    return _normal_channel(np.full(LEVELS, 255 * sigma, dtype=np.float64))


def speckle_channel(sigma: float) -> NDArray[np.float64]:
    """Compute P[v, w] of ``speckle_noise``."""
    return _normal_channel(np.arange(LEVELS, dtype=np.float64) * sigma)


def shot_channel(photons: float) -> NDArray[np.float64]:
    """Compute P[v, w] of ``shot_noise``; the image is clipped, so all counts beyond x = 1 give w = 255."""
    counts = np.arange(int(np.ceil(photons)) + 1)
    below = special.pdtr(counts[:-1], (np.arange(LEVELS) / 255.0 * photons)[:, None])  # P(k ≤ count)
    probability = np.diff(below, axis=1, prepend=0.0, append=1.0)
    outputs = (np.minimum(counts / float(photons), 1.0) * 255).astype(np.int64)
    channel = np.zeros((LEVELS, LEVELS))
    for output, column in zip(outputs, probability.T, strict=True):
        channel[:, output] += column
    return channel


def impulse_channel(amount: float) -> NDArray[np.float64]:
    """Compute P[v, w] of ``impulse_noise``."""
    channel = np.eye(LEVELS) * (1.0 - amount)
    channel[:, [0, LEVELS - 1]] += amount / 2
    return channel


def _normal_channel(spread: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute P[v, w] = P(w ≤ v + spread[v] n < w + 1) for n ~ N(0, 1); the two end values take the tails."""
    levels = np.arange(LEVELS)
    with np.errstate(divide="ignore"):  # without spread the edges are at ±∞ standard deviations, as they should be
        edges = (np.arange(1, LEVELS) - levels[:, None] - np.where(spread == 0, 0.5, 0)[:, None]) / spread[:, None]
    return np.diff(special.ndtr(edges), axis=1, prepend=0.0, append=1.0)


@lru_cache(maxsize=64)
def _table(channel: Channel, parameter: float, device: torch.device) -> Int[Tensor, " 65536"]:
    return alias_table(channel(parameter)).to(device)
