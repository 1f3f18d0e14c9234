"""The digital corruptions that are fixed maps of an image: colour, tone, compression and resolution."""

from __future__ import annotations

import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, reduce

import numpy as np
import torch
from jaxtyping import Int, UInt8
from PIL import Image
from torch import Tensor

from data_prep.corruptions.levels import Pixels, truncate

COEFFICIENT_BITS = 22
SMALL_IMAGE = 3 * 64 * 64
"""Number of values of an image up to which calling Pillow costs more than its work: threads do not help."""


def contrast(pixels: Pixels, factor: float) -> Pixels:
    """Scale contrast: factor (x − mean) + mean, with the mean of each colour of each image."""
    values = pixels.to(torch.float64)
    means = values.mean(dim=(1, 2), keepdim=True)
    return truncate(values.sub_(means).mul_(factor).add_(means))


def brightness(pixels: Pixels, shift: float) -> Pixels:
    """Add ``shift`` to V in HSV, with V clipped to [0, 1].

    Hue and saturation stay the same, so every colour becomes V′ (1 − (V − x) / V), where V is the largest of the three;
    black, which has no hue, becomes the grey V′.
    """
    values = pixels.to(torch.float64).div_(255.0)
    peak = values.amax(dim=-1, keepdim=True)
    shortfall = (peak - values).div_(peak).nan_to_num_(nan=0.0)
    return truncate(shortfall.neg_().add_(1.0).mul_((peak + shift).clamp_(0.0, 1.0)).mul_(255.0))


def saturate(pixels: Pixels, line: tuple[float, float]) -> Pixels:
    """Change S of HSV to a S + b, clipped to [0, 1]; ``line`` is (a, b).

    Hue and V stay the same, so every colour becomes V (1 − S′ (V − x) / (V − min)), where V is the largest of three.
    Greys have no hue and, as usual, are treated as red.
    """
    slope, offset = line
    values = pixels.to(torch.float64).div_(255.0)
    peak = values.amax(dim=-1, keepdim=True)
    spread = peak - values.amin(dim=-1, keepdim=True)
    saturation = (spread / peak).nan_to_num_(nan=0.0).mul_(slope).add_(offset).clamp_(0.0, 1.0)
    red_is_peak = torch.tensor([0.0, 1.0, 1.0], dtype=values.dtype, device=values.device)
    share = (peak - values).div_(spread).nan_to_num_(nan=0.0).add_((spread == 0) * red_is_peak)
    return truncate(share.mul_(saturation).neg_().add_(1.0).mul_(peak).mul_(255.0))


def jpeg_compression(pixels: Pixels, *qualities: float) -> Pixels:
    """Encode each image as a JPEG of each quality (Pillow's 1 to 95) in turn and decode it again, on the CPU."""

    def compress(image: Image.Image) -> Image.Image:
        for quality in qualities:
            file = io.BytesIO()
            image.save(file, "JPEG", quality=int(quality))
            image = Image.open(file, formats=("JPEG",))
        return image

    return _by_pillow(pixels, compress)


def pixelate(pixels: Pixels, fraction: float) -> Pixels:
    """Shrink both sides to int(fraction × side) by a box filter and enlarge them again by repeating pixels.

    The result is exactly Pillow's with its box filter both ways, as in the original generators. Large images on the CPU
    are shrunk by Pillow itself, which is faster there, but enlarges more slowly than by repeating pixels.
    """
    _, height, width, _ = pixels.shape
    low, narrow = int(height * fraction), int(width * fraction)
    rows, columns = _repeats(height, low, pixels.device), _repeats(width, narrow, pixels.device)
    if pixels.device.type == "cpu" and pixels[0].numel() > SMALL_IMAGE:

        def shrink_and_enlarge(image: Image.Image) -> UInt8[np.ndarray, "h w 3"]:
            small = np.asarray(image.resize((narrow, low), Image.Resampling.BOX))
            return small.take(columns.numpy(), axis=1).take(rows.numpy(), axis=0)

        return _by_pillow(pixels, shrink_and_enlarge)
    pixels = _shrink(pixels, 2, *_box_taps(width, narrow, pixels.device))
    pixels = _shrink(pixels, 1, *_box_taps(height, low, pixels.device))  # last, as in Pillow: both round to 8 bits
    return pixels.index_select(2, columns).index_select(1, rows)


def _by_pillow(pixels: Pixels, work: Callable[[Image.Image], Image.Image | UInt8[np.ndarray, "h w 3"]]) -> Pixels:
    """Apply ``work`` to each image, on the CPU, in several threads where images are large."""
    images = pixels.cpu().numpy()
    results = np.empty_like(images)

    def run(part: slice) -> None:
        for image, result in zip(images[part], results[part], strict=True):
            result[:] = np.asarray(work(Image.fromarray(image)))  # an Image itself is copied once more

    workers = torch.get_num_threads() if pixels[0].numel() > SMALL_IMAGE else 1
    if workers == 1:
        run(slice(None))
    else:
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(run, (slice(start, None, workers) for start in range(workers))))
    return torch.from_numpy(results).to(pixels.device)


def _shrink(
    pixels: UInt8[Tensor, "n a b 3"], dim: int, taps: Int[Tensor, "t s"], weights: Int[Tensor, "t s"]
) -> Tensor:
    """Compute weighted sums along ``dim`` in fixed point, rounded to 8 bits."""
    shape = [-1 if axis == dim else 1 for axis in range(pixels.ndim)]
    terms = (
        pixels.index_select(dim, tap).to(torch.int32).mul_(weight.view(shape))
        for tap, weight in zip(taps, weights, strict=True)
    )
    total = reduce(Tensor.add_, terms).add_(1 << (COEFFICIENT_BITS - 1))
    return (total >> COEFFICIENT_BITS).to(torch.uint8)  # at most 255, as the weights sum to 1


@lru_cache(maxsize=32)
def _box_taps(size: int, small: int, device: torch.device) -> tuple[Int[Tensor, "t s"], Int[Tensor, "t s"]]:
    """Compute positions and 22-bit weights, (taps, small), of Pillow's box filter from ``size`` to ``small`` pixels.

    Output i averages the pixels whose centres lie in its cell ((i, i + 1] · size / small).
    """
    scale = size / small
    centre = (np.arange(small) + 0.5) * scale
    first = np.maximum((centre - scale / 2 + 0.5).astype(int), 0)
    last = np.minimum((centre + scale / 2 + 0.5).astype(int), size)
    taps = first + np.arange((last - first).max())[:, None]
    offset = (taps + 0.5 - centre) / scale
    inside = (taps < last) & (offset > -0.5) & (offset <= 0.5)
    weights = np.floor(inside / inside.sum(axis=0) * 2**COEFFICIENT_BITS + 0.5).astype(np.int32)
    return torch.from_numpy(np.minimum(taps, size - 1)).to(device), torch.from_numpy(weights).to(device)


@lru_cache(maxsize=32)
def _repeats(size: int, small: int, device: torch.device) -> Int[Tensor, " size"]:
    """Find, for each of ``size`` pixels, the pixel out of ``small`` that contains its centre."""
    return torch.from_numpy(((np.arange(size) + 0.5) * (small / size)).astype(np.int64)).to(device)
