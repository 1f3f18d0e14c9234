"""Plasma fractals, the clouds of fog: height maps by the diamond-square algorithm on a torus."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from data_prep.corruptions.random import Streams

WIBBLE = 100.0


def plasma(size: int, decay: float, streams: Streams) -> Float[Tensor, "n size size"]:
    """Draw one height map per image, float32, scaled to [0, 1].

    From coarse to fine, every new point is the mean of its four neighbours plus w² U(−1, 1); w is 100 at first and is
    divided by ``decay`` from one scale to the next.

    size: a power of two. decay: at least 1; the higher, the smoother.
    Source: Fournier, Fussell & Carpenter, "Computer Rendering of Stochastic Models", CACM 1982.
    """
    heights = torch.zeros(len(streams), size, size, device=streams.device)
    step, wibble = size, WIBBLE
    while step >= 2:
        half, cells = step // 2, size // step
        noise = streams.uniform(3, cells, cells, low=-(wibble**2), high=wibble**2)
        corners = heights[:, ::step, ::step]
        below, right = corners.roll(-1, 1), corners.roll(-1, 2)
        centres = (corners + below + right + below.roll(-1, 2)).div_(4).add_(noise[:, 0])
        heights[:, half::step, half::step] = centres
        heights[:, ::step, half::step] = (corners + right + centres + centres.roll(1, 1)).div_(4).add_(noise[:, 1])
        heights[:, half::step, ::step] = (corners + below + centres + centres.roll(1, 2)).div_(4).add_(noise[:, 2])
        step, wibble = half, wibble / decay
    lowest = heights.amin(dim=(1, 2), keepdim=True)
    return heights.sub_(lowest).div_(heights.amax(dim=(1, 2), keepdim=True))
