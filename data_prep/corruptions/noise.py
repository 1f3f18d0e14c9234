"""The noises: every value x of an image, in [0, 1], changes independently of all others.

The result is clipped to [0, 1], multiplied by 255 and truncated. A noise is defined by its channel: an 8-bit value v
becomes the 8-bit value w with a probability P[v, w] that has a closed form, so nothing continuous has to be sampled.
32 random bits and one look-up in an alias table draw w, in integers: a CPU and a GPU give the same image.

Source: Walker, "An Efficient Method for Generating Discrete Random Variables with General Distributions", 1977.
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

from data_prep.corruptions.levels import Pixels
from data_prep.corruptions.random import Streams

LEVELS = 256
FRACTION_ONE = 1 << 24
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


def alias_table(channel: NDArray[np.float64]) -> Int[Tensor, " 65536"]:
    """Turn P[v, w], (256, 256) with rows that sum to 1, into packed alias entries, int32 (65536,).

    Entry 256 v + column holds a threshold in its upper 24 bits, as a signed number, and an alias in its lower 8. A draw
    picks one of the 256 columns of row v; it returns the column itself if 24 random bits are below the threshold, and
    the alias otherwise. Every column errs by at most 2⁻³³.
    """
    rows = np.arange(LEVELS)
    load = channel * LEVELS
    threshold = np.ones_like(load)
    alias = np.tile(rows, (LEVELS, 1))
    for _ in range(LEVELS - 1):  # fill up the emptiest open column of each row from the fullest, and close it
        emptiest, fullest = np.nanargmin(load, axis=1), np.nanargmax(load, axis=1)
        need = 1.0 - load[rows, emptiest]
        threshold[rows, emptiest], alias[rows, emptiest] = 1.0 - need, fullest
        load[rows, fullest] -= need
        load[rows, emptiest] = np.nan
    steps = np.rint(threshold * FRACTION_ONE).astype(np.int64).clip(0, FRACTION_ONE)
    alias = np.where(steps == FRACTION_ONE, rows, alias)  # a full column returns itself either way
    signed = np.minimum(steps, FRACTION_ONE - 1) - FRACTION_ONE // 2
    return torch.from_numpy((signed * LEVELS + alias).astype(np.int32).reshape(-1))


def transmit(pixels: Pixels, table: Int[Tensor, " 65536"], streams: Streams) -> Pixels:
    """Send every value through the channel of ``table``, on the device of ``pixels``.

    The lower 8 of the 32 bits of a draw are the column; all 32 are compared with the entry's threshold, without the
    alias.
    """
    bits = streams.bits(*pixels.shape[1:])
    places = pixels.to(torch.int32).mul_(LEVELS).add_(bits & (LEVELS - 1))
    entries = table.index_select(0, places.view(-1)).view_as(bits)
    alias = entries.to(torch.uint8)
    return bits.to(torch.uint8).sub_(alias).mul_((bits < (entries & -LEVELS)).view(torch.uint8)).add_(alias)
