"""Conversion, resizing, random crop and flip of a whole batch on its device."""

from __future__ import annotations

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional


def to_images(pixels: UInt8[Tensor, "n h w c"] | Float[Tensor, "n h w c"]) -> Float[Tensor, "n c h w"]:
    """Convert (N, H, W, C), uint8 or floats in [0, 1], to float32 (N, C, H, W) in [0, 1], channels last in memory."""
    if pixels.is_floating_point():
        return pixels.permute(0, 3, 1, 2)
    return pixels.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.channels_last).div_(255.0)


def resize(images: Float[Tensor, "n c h w"], side: int | None) -> Float[Tensor, "n c s s"]:
    """Scale images to ``side`` × ``side`` pixels, antialiased bilinear; None or their own side changes nothing."""
    if side in (None, images.shape[-1]):
        return images
    return functional.interpolate(images, size=(side, side), mode="bilinear", antialias=True, align_corners=False)


def crop_and_flip(
    pixels: UInt8[Tensor, "n h w c"], *, padding: int, flip: bool, generator: torch.Generator
) -> UInt8[Tensor, "n h w c"]:
    """Pad each image by ``padding`` black pixels, crop it back at a uniform offset, mirror it with probability ½."""
    n, height, width, _ = pixels.shape
    device = pixels.device
    top, left = torch.randint(0, 2 * padding + 1, (2, n, 1), generator=generator, device=device)
    columns = torch.arange(width, device=device).expand(n, width)
    if flip:
        mirrored = torch.rand((n, 1), generator=generator, device=device) < 0.5
        columns = torch.where(mirrored, width - 1 - columns, columns)
    rows = top + torch.arange(height, device=device)
    padded = functional.pad(pixels, (0, 0, padding, padding, padding, padding))
    image = torch.arange(n, device=device)[:, None, None]
    return padded[image, rows[:, :, None], (left + columns)[:, None, :]]
