"""Conversion between 8-bit images and the arithmetic on them."""

from __future__ import annotations

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

Pixels = UInt8[Tensor, "n h w 3"]

NUDGE = 2.0**-12
"""Grey levels added before truncation if sums are taken in a different order than in the reference: a value that is a
whole level except for rounding keeps that level, on every device and at every batch size."""


def truncate(values: Float[Tensor, "*shape"], nudge: float = 0.0) -> UInt8[Tensor, "*shape"]:
    """Clip ``values``, in grey levels, to [0, 255] and drop the fraction, as the original generators do. In place."""
    if nudge:
        values = values.add_(nudge)
    return values.clamp_(0.0, 255.0).to(torch.uint8)


def planes(pixels: Pixels, dtype: torch.dtype) -> Float[Tensor, "n 3 h w"]:
    """Convert pixels to contiguous colour planes, in grey levels 0 to 255."""
    return pixels.permute(0, 3, 1, 2).to(dtype, memory_format=torch.contiguous_format)


def truncate_planes(values: Float[Tensor, "n 3 h w"]) -> Pixels:
    """Convert planes back to pixels by ``truncate`` with the nudge."""
    return truncate(values, NUDGE).permute(0, 2, 3, 1)
