"""Synthesis of images with few channels on the CPU: one matrix product and a sum of shifted planes."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

MOST_CHANNELS = 4
"""Largest number of channels; with more, PyTorch's transposed convolution is faster. (With 3, its vectors are mostly
empty.)"""


def suits(code: Tensor, channels: int) -> bool:
    """Tell whether :func:`synthesise_by_planes` is faster: for images on the CPU, without an autograd graph."""
    exact = code.dtype in (torch.float32, torch.float64)  # the convolution sums other types in float32
    return channels <= MOST_CHANNELS and code.device.type == "cpu" and exact and not torch.is_grad_enabled()


def synthesise_by_planes(
    code: Float[Tensor, "n d oh ow"],
    weight: Float[Tensor, "d c k k"],
    like: Float[Tensor, "n c h w"],
    *,
    stride: int,
    padding: int,
) -> Float[Tensor, "n c h w"]:
    """Compute conv_transpose2d(code, weight) in the height, width and memory layout of ``like``.

    Every tap (c, i, j) of the atoms gives a plane Σ_d W[d, c, i, j] z[d]; all planes are one matrix product. Each is
    added to the pixels of its phase (i mod stride, j mod stride), which lie together until the end.
    """
    height, width = like.shape[-2:]
    atoms, channels, kernel, _ = weight.shape
    images, _, rows, columns = code.shape
    pixels = code.permute(0, 2, 3, 1).reshape(-1, atoms)
    planes = torch.mm(weight.reshape(atoms, -1).t(), pixels.t()).view(channels, kernel, kernel, images, rows, columns)
    tall, wide = (
        -(-max(stride * (steps - 1) + kernel, padding + size) // stride)
        for steps, size in ((rows, height), (columns, width))
    )
    phases = code.new_zeros(stride, stride, channels, images, tall, wide)
    for i in range(kernel):
        for j in range(kernel):
            (down, row), (across, column) = divmod(i, stride), divmod(j, stride)
            phases[row, column, :, :, down : down + rows, across : across + columns] += planes[:, i, j]
    padded = phases.permute(3, 2, 4, 0, 5, 1).reshape(images, channels, tall * stride, wide * stride)
    return torch.empty_like(like).copy_(padded[..., padding : padding + height, padding : padding + width])
