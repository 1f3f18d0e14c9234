"""Edges of 8-bit pictures and the distance to them, batched, exactly as OpenCV defines them."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn import functional

TAN_22_5 = 13573  # tan 22.5° in units of 2⁻¹⁵
KNIGHT, DIAGONAL = 2.1969, 1.4  # lengths of the steps (2, 1) and (1, 1) of the chamfer metric; (1, 0) has length 1


def canny(picture: UInt8[Tensor, "n h w"], low: int, high: int) -> Bool[Tensor, "n h w"]:
    """Detect edges by Canny's method, with strength |dx| + |dy| from 3 × 3 Sobel derivatives.

    A pixel is on an edge if it is stronger than ``low``, its two neighbours across the edge are not stronger, and a
    chain of such pixels connects it to a pixel stronger than ``high``.

    Source: Canny, "A Computational Approach to Edge Detection", PAMI 1986.
    """
    across, down = _sobel(picture)
    strength = across.abs() + down.abs()
    thin = _is_ridge(strength, across, down) & (strength > low)
    edges = thin & (strength > high)
    while not torch.equal(edges, grown := _dilate(edges) & thin):
        edges = grown
    return edges


def distance_to(edges: Bool[Tensor, "n h w"], limit: int) -> Float[Tensor, "n h w"]:
    """Compute each pixel's distance to the nearest edge in the 5 × 5 chamfer metric, float32, at most ``limit``.

    Source: Borgefors, "Distance Transformations in Digital Images", CVGIP 1986.
    """
    beside = (~edges).to(torch.int32).mul_(limit + 1)  # distance to the nearest edge in the same row
    stride = 1
    while stride <= limit:  # after strides 1, 2, …, s every edge up to 2 s − 1 pixels away has been seen
        beside[..., stride:] = torch.minimum(beside[..., stride:], beside[..., :-stride] + stride)
        beside[..., :-stride] = torch.minimum(beside[..., :-stride], beside[..., stride:] + stride)
        stride *= 2
    lengths = _chamfer(limit, edges.device)
    nearest = lengths[0].index_select(0, beside.view(-1)).view(beside.shape)
    for rows in range(1, min(limit + 1, edges.shape[1])):
        slanted = lengths[rows].index_select(0, beside.view(-1)).view(beside.shape)
        nearest[:, rows:] = torch.minimum(nearest[:, rows:], slanted[:, :-rows])
        nearest[:, :-rows] = torch.minimum(nearest[:, :-rows], slanted[:, rows:])
    return nearest


@lru_cache(maxsize=8)
def _chamfer(limit: int, device: torch.device) -> Float[Tensor, "rows columns"]:
    """Compute the chamfer norm of (rows, columns), 0 to limit + 1 each, cut off at limit; its ball is a hexadecagon."""
    side = np.arange(limit + 2.0)
    short, long = np.minimum(side[:, None], side), np.maximum(side[:, None], side)
    flat = long + (KNIGHT - 2) * short
    steep = (KNIGHT - DIAGONAL) * long + (2 * DIAGONAL - KNIGHT) * short
    return torch.from_numpy(np.minimum(np.maximum(flat, steep), limit).astype(np.float32)).to(device)


def _sobel(picture: UInt8[Tensor, "n h w"]) -> tuple[Tensor, Tensor]:
    """Compute the derivatives to the right and down, int32; the border pixel is repeated."""
    padded = functional.pad(picture[:, None].to(torch.float32), (1, 1, 1, 1), mode="replicate")[:, 0].to(torch.int32)
    smooth_down = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    smooth_across = padded[..., :-2] + 2 * padded[..., 1:-1] + padded[..., 2:]
    return smooth_down[..., 2:] - smooth_down[..., :-2], smooth_across[:, 2:] - smooth_across[:, :-2]


def _is_ridge(strength: Tensor, across: Tensor, down: Tensor) -> Bool[Tensor, "n h w"]:
    """Find pixels stronger than one neighbour across the edge and at least as strong as the other neighbour."""
    height, width = strength.shape[1:]
    padded = functional.pad(strength, (1, 1, 1, 1))

    def neighbour(rows: int, columns: int) -> Tensor:
        return padded[:, 1 + rows : 1 + rows + height, 1 + columns : 1 + columns + width]

    run, rise = across.abs(), down.abs() << 15
    flat = rise < run * TAN_22_5
    steep = rise > run * (TAN_22_5 + (1 << 16))
    opposite = (across ^ down) < 0
    rising = opposite & (strength > neighbour(-1, 1)) & (strength > neighbour(1, -1))
    falling = ~opposite & (strength > neighbour(-1, -1)) & (strength > neighbour(1, 1))
    horizontal = flat & (strength > neighbour(0, -1)) & (strength >= neighbour(0, 1))
    vertical = steep & (strength > neighbour(-1, 0)) & (strength >= neighbour(1, 0))
    return horizontal | vertical | (~(flat | steep) & (rising | falling))


def _dilate(mask: Bool[Tensor, "n h w"]) -> Bool[Tensor, "n h w"]:
    """Add the eight neighbours of every pixel."""
    wide = mask.clone()
    wide[..., 1:] |= mask[..., :-1]
    wide[..., :-1] |= mask[..., 1:]
    grown = wide.clone()
    grown[:, 1:] |= wide[:, :-1]
    grown[:, :-1] |= wide[:, 1:]
    return grown
