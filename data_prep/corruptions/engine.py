"""``corrupt``: a batch of images in, the same batch corrupted out."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import SupportsIndex, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data_prep.corruptions.digital import jpeg_compression
from data_prep.corruptions.levels import Pixels
from data_prep.corruptions.parameters import STORED_QUALITY
from data_prep.corruptions.random import Streams
from data_prep.corruptions.registry import find, look_up
from data_prep.errors import InputError

SMALLEST_SIDE = 32
LARGEST_SIDE_OF_CIFAR = 64
CHUNK_VALUES = {"cpu": 1 << 20, "cuda": 1 << 24}
"""Number of image values per chunk: enough to keep the device busy, few enough for its fast memory."""

Images = TypeVar("Images", NDArray[np.uint8], Tensor)


def corrupt(
    pixels: Images,
    name: str,
    *,
    severity: int,
    profile: str | None = None,
    seed: int = 0,
    indices: Sequence[int] | NDArray[np.int64] | Tensor | None = None,
) -> Images:
    """Corrupt every image of a batch.

    The result for an image depends only on (seed, name, severity, its index, its pixels) and the profile's parameters.
    It does not depend on the batch nor, except for rounding, on the device.

    Args:
        pixels: uint8 (N, H, W, 3), RGB, H and W at least 32; a NumPy array or a tensor on any device. It is not
            changed.
        name: one of ``corruption_names("all")``.
        severity: from 1 to 5 (in the profile "sweep" to 10, or 6).
        profile: "cifar", "imagenet" or "sweep", the table with the parameters of each severity. By default it depends
            on the size: "cifar" up to 64 × 64, "imagenet" for larger images. With "imagenet", images are stored as
            JPEG of quality 85 after the corruption and read again, like all images of ImageNet-C.
        seed: any integer.
        indices: int64 (N,), the identity of each image, usually its position in the full split; 0 to N − 1 if left
            out.

    Returns:
        uint8 (N, H, W, 3), an array for an array, a tensor on the same device for a tensor.

    Raises:
        InputError: arguments other than these.
        PrerequisiteError: the pictures of "frost" are missing.
    """
    severity, seed = _whole(severity, "severity"), _whole(seed, "seed")
    check_pixels(pixels)
    profile = profile_of(*pixels.shape[1:3]) if profile is None else profile
    corruption, entry = find(name), look_up(name, severity, profile)
    identity = identities(indices, len(pixels))
    if isinstance(pixels, np.ndarray):
        result = torch.empty(pixels.shape, dtype=torch.uint8)
    else:
        result = torch.empty_like(pixels, memory_format=torch.contiguous_format)
    qualities = [STORED_QUALITY[profile]] if profile in STORED_QUALITY else []
    is_jpeg = corruption.function is jpeg_compression
    if is_jpeg:
        assert not isinstance(entry, tuple)
        qualities.insert(0, int(entry))
    key = f"{seed}/{name}/{severity}"
    values = CHUNK_VALUES.get(result.device.type, CHUNK_VALUES["cpu"])
    rows = max(1, values // max(1, result[0].numel() if len(result) else 1))
    for start in range(0, len(result), rows):
        chunk = _chunk(pixels, start, start + rows)
        if is_jpeg:
            corrupted = chunk
        elif corruption.random:
            streams = Streams(key, identity[start : start + rows].to(chunk.device))
            corrupted = corruption.function(chunk, entry, streams)
        else:
            corrupted = corruption.function(chunk, entry)
        if qualities:
            corrupted = jpeg_compression(corrupted, *qualities)
        if result.device.type == "cpu":  # by NumPy: after a copy, PyTorch's threads spin for a while
            np.copyto(result[start : start + rows].numpy(), corrupted.numpy())
        else:
            result[start : start + rows] = corrupted
    return result.numpy() if isinstance(pixels, np.ndarray) else result


def profile_of(height: int, width: int) -> str:
    """Return the default profile for images of this size: "cifar" up to 64 × 64, "imagenet" for larger images."""
    return "cifar" if max(height, width) <= LARGEST_SIDE_OF_CIFAR else "imagenet"


def _chunk(pixels: NDArray[np.uint8] | Tensor, start: int, stop: int) -> Pixels:
    """Return some of the images as a contiguous tensor; arrays, which may be read-only memory maps, are copied."""
    part = pixels[start:stop]
    return torch.from_numpy(np.array(part, order="C")) if isinstance(part, np.ndarray) else part.contiguous()


def _whole(value: object, what: str) -> int:
    if isinstance(value, bool | np.bool_) or not isinstance(value, SupportsIndex):
        raise InputError(f"expected {what} as a whole number, got {value!r}; give one")
    return operator.index(value)


def check_pixels(pixels: object) -> None:
    """Raise InputError unless ``pixels`` is uint8 (N, H, W, 3) of at least 32 × 32."""
    if not isinstance(pixels, np.ndarray | Tensor):
        raise InputError(
            f"expected images as a NumPy array or a tensor, got {type(pixels).__name__}; convert them first"
        )
    if pixels.dtype not in (np.uint8, torch.uint8) or pixels.ndim != 4 or pixels.shape[-1] != 3:
        got = f"{pixels.dtype} {tuple(pixels.shape)}"
        raise InputError(f"expected images as uint8 (N, H, W, 3), got {got}; convert values with range 0 to 255 first")
    if min(pixels.shape[1:3]) < SMALLEST_SIDE:
        got = f"{pixels.shape[1]} × {pixels.shape[2]}"
        raise InputError(
            f"expected images of at least {SMALLEST_SIDE} × {SMALLEST_SIDE}, got {got}; enlarge them first: "
            f"--resize {SMALLEST_SIDE}"
        )


def identities(indices: Sequence[int] | NDArray[np.int64] | Tensor | None, count: int) -> Tensor:
    """Convert the indices of ``corrupt`` to int64 (N,). Raises: InputError if that is not possible."""
    if indices is None:
        return torch.arange(count)
    try:
        identity = np.asarray(indices.cpu() if isinstance(indices, Tensor) else indices)
        fits = identity.shape == (count,) and (count == 0 or identity.dtype.kind in "iu")
        got = f"{identity.dtype} {identity.shape}"
    except (TypeError, ValueError):  # lists of several lengths, and types that NumPy lacks
        fits, got = False, repr(indices)
    if not fits:
        raise InputError(f"expected indices as integers ({count},), one per image, got {got}; give one for each")
    return torch.from_numpy(identity.astype(np.int64))
