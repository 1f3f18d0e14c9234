"""Noise that acts on every value of an image independently, as a discrete memoryless channel.

An 8-bit value v ∈ {0, …, 255} becomes the 8-bit value w with a probability P[v, w] that has a closed form, so nothing
continuous has to be sampled: 32 random bits and one look-up in an alias table draw w. This is integer arithmetic: a CPU
and a GPU give the same image.

Source: Walker, "An Efficient Method for Generating Discrete Random Variables with General Distributions", 1977.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

from data_prep.corruptions.levels import Pixels
from data_prep.corruptions.random import Streams

LEVELS = 256
FRACTION_ONE = 1 << 24


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
