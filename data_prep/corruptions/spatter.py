"""Spatter: drops of water or splashes of mud on the lens."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.nn import functional

from data_prep.corruptions.edges import canny, distance_to
from data_prep.corruptions.filters import exact_dtype, gaussian, mirror_pad
from data_prep.corruptions.levels import Pixels, truncate
from data_prep.corruptions.random import Streams

WATER = (175, 238, 238)
MUD = (63, 42, 20)
CANNY_LIMITS = (50, 150)
FARTHEST = 20
EMBOSS = ((-2, -1, 0), (-1, 1, 1), (0, 1, 2))
MUD_THRESHOLD = 0.8
NOISE_SCALE = 100.0
"""Factor of the noise while it is filtered, to use the range of ``gaussian``."""


def spatter(pixels: Pixels, liquid: tuple[float, float, float, float, float, int], streams: Streams) -> Pixels:
    """Cover an image with liquid wherever normal noise under a Gaussian exceeds a threshold.

    Mud: x (1 − m) + m colour, with m the blurred mask of the liquid, set to 0 below 0.8.
    Water: x + m colour, with m = strength · relief · liquid / max, where the relief is the distance to the edges of the
    liquid, equalised, embossed and smoothed.

    Deviation: an image without water is not changed; the original divides by the maximum 0 and blackens it.

    liquid: (mean and std of the noise, sigma of the Gaussian, threshold, strength of the water or sigma of the mud's
        own Gaussian, 0 for water or 1 for mud).
    """
    mean, std, sigma, threshold, strength, is_mud = liquid
    _, height, width, _ = pixels.shape
    noise = streams.normal(1, height, width, mean=mean * NOISE_SCALE, std=std * NOISE_SCALE)
    layer = gaussian(noise.to(exact_dtype(pixels.device)), sigma).div_(NOISE_SCALE)
    values = pixels.to(torch.float32)
    if is_mud:
        mask = gaussian((layer > threshold).to(layer.dtype).mul_(255.0), strength)[:, 0, ..., None].div_(255.0)
        mask = mask.mul_(mask >= MUD_THRESHOLD).to(torch.float32)
        colour = torch.tensor(MUD, dtype=torch.float32, device=pixels.device)
        return truncate(values.mul_(1 - mask).add_(mask * colour))
    depth = layer.mul_(layer >= threshold)[:, 0].mul_(255.0).clamp_(0.0, 255.0).to(torch.uint8)
    water = depth * _relief(depth)
    deepest = water.amax(dim=(1, 2), keepdim=True).clamp_(min=1.0)
    colour = torch.tensor(WATER, dtype=torch.float32, device=pixels.device)
    return truncate(values.add_(water.div_(deepest).mul_(strength)[..., None] * colour))


def _relief(depth: UInt8[Tensor, "n h w"]) -> Float[Tensor, "n h w"]:
    """Compute the relief of light on water of this depth, in whole grey levels, float32."""
    distance = distance_to(canny(depth, *CANNY_LIMITS), FARTHEST)
    levels = (_box_sum(distance) / 9).floor_().to(torch.int64)
    equalised = _equalise(levels, FARTHEST + 1).to(torch.float32)
    emboss = torch.tensor(EMBOSS, dtype=torch.float32, device=depth.device)[None, None]
    embossed = functional.conv2d(mirror_pad(equalised[:, None], 1), emboss)[:, 0].clamp_(0.0, 255.0)
    return (_box_sum(embossed) / 9).round_()


def _box_sum(values: Float[Tensor, "n h w"]) -> Float[Tensor, "n h w"]:
    """Sum over 3 × 3 pixels; the image is mirrored at the centre of its border pixels."""
    padded = mirror_pad(values[:, None], 1)[:, 0]
    tall = padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]
    return tall[..., :-2] + tall[..., 1:-1] + tall[..., 2:]


def _equalise(levels: Int[Tensor, "n h w"], count: int) -> Int[Tensor, "n h w"]:
    """Equalise the histogram of levels below ``count`` to 0 … 255: (pixels up to the level but above the lowest) / all.

    A picture with only one level is not changed.
    """
    flat = levels.flatten(1)
    histogram = torch.zeros(len(flat), count, dtype=torch.int64, device=levels.device)
    histogram.scatter_add_(1, flat, torch.ones_like(flat))
    up_to = histogram.cumsum(1)
    lowest = flat.amin(dim=1, keepdim=True)
    others = (up_to - histogram.gather(1, lowest)).clamp_(min=0)
    total = others[:, -1:]
    identity = torch.arange(count, device=levels.device).expand_as(others)
    table = torch.where(total > 0, (others.to(torch.float32) * (255.0 / total)).round_().to(torch.int64), identity)
    return table.gather(1, flat).view_as(levels)
