"""Noise that acts on every value of an image by itself, as a discrete memoryless channel.

An 8-bit value v ∈ {0, …, 255} becomes the 8-bit value w with a probability P[v, w] that has a closed form, so nothing
continuous has to be sampled: 32 random bits and one look-up in an alias table draw w. This is integer arithmetic: a CPU
and a GPU give the same image.

Source: Walker, "An Efficient Method for Generating Discrete Random Variables with General Distributions", 1977.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Int, UInt8
from numpy.typing import NDArray
from torch import Tensor

from data_prep.corruptions.random import Streams

LEVELS = 256
FRACTION_BITS = 24


def alias_table(channel: NDArray[np.float64]) -> Int[Tensor, " 65536"]:
    """Turn P[v, w], (256, 256) with rows that sum to 1, into packed alias entries, int32 (65536,).

    Entry 256 v + column holds, from the high bits down, 24 bits of threshold and 8 bits of alias. A draw picks one of
    256 columns of row v and gives the column itself where a random fraction is below the threshold, else its alias.
    Probabilities come out within 2⁻³² of P.
    """
    rows = np.arange(LEVELS)
    load = channel * LEVELS
    threshold = np.ones_like(load)
    alias = np.tile(rows, (LEVELS, 1))
    for _ in range(LEVELS - 1):  # the emptiest open column of each row is filled up from the fullest, and closed
        emptiest, fullest = np.nanargmin(load, axis=1), np.nanargmax(load, axis=1)
        need = 1.0 - load[rows, emptiest]
        threshold[rows, emptiest], alias[rows, emptiest] = 1.0 - need, fullest
        load[rows, fullest] -= need
        load[rows, emptiest] = np.nan
    steps = np.rint(threshold * 2**FRACTION_BITS).astype(np.int64).clip(0, 2**FRACTION_BITS)
    alias = np.where(steps == 2**FRACTION_BITS, rows, alias)  # a full column gives itself either way
    packed = (np.minimum(steps, 2**FRACTION_BITS - 1) << 8 | alias).astype(np.uint32)
    return torch.from_numpy(packed.view(np.int32).reshape(-1))


def transmit(
    pixels: UInt8[Tensor, "n h w 3"], table: Int[Tensor, " 65536"], streams: Streams
) -> UInt8[Tensor, "n h w 3"]:
    """Send every value through the channel of ``table``, on the device of ``pixels``."""
    bits = streams.bits(*pixels.shape[1:])
    column = bits & 0xFF
    entries = table.index_select(0, (pixels.to(torch.int32) << 8).bitwise_or_(column).reshape(-1)).view_as(bits)
    keep = (bits >> 8).bitwise_and_(0xFFFFFF) < (entries >> 8).bitwise_and_(0xFFFFFF)
    return torch.where(keep, column.to(torch.uint8), entries.to(torch.uint8))
