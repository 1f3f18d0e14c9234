"""The perturbation sequences of CIFAR-10-P: an image that changes a little from frame to frame.

ImageNet-P is not generated here: its frames were cut from larger pictures, while clean images keep only the centre, and
were stored as video.

Source: Hendrycks & Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations", ICLR
2019, and the generator in their repository (``make_cifar_p.py``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from data_prep.corruptions import digital
from data_prep.corruptions.coordinates import pixel_grid, sample_black
from data_prep.corruptions.engine import check_pixels, identities
from data_prep.corruptions.filters import exact_dtype, motion_blur_levels
from data_prep.corruptions.levels import Pixels, planes, truncate, truncate_planes
from data_prep.corruptions.noise import alias_table, gaussian_channel, shot_channel, transmit
from data_prep.corruptions.random import Streams
from data_prep.corruptions.registry import SEQUENCES
from data_prep.corruptions.weather import draw_flakes, fall, whiten
from data_prep.errors import InputError, check_choice

Frames = list[Pixels]

NOISES = {
    "gaussian_noise": (gaussian_channel, (0.02, 0.04, 0.06)),
    "shot_noise": (shot_channel, (700, 400, 200)),
}
"""Channels of the noises, and the parameter of each difficulty."""
FRAMES = 31


def perturb(
    pixels: NDArray[np.uint8],
    name: str,
    *,
    difficulty: int = 1,
    seed: int = 0,
    indices: Sequence[int] | NDArray[np.int64] | None = None,
) -> NDArray[np.uint8]:
    """Make the sequence of every image.

    The result for an image depends only on (seed, name, difficulty, its index, its pixels).

    pixels: uint8 (N, H, W, 3), RGB, H and W at least 32. name: one of ``SEQUENCES``.
    difficulty: 1 to 3, the strength of a noise; 1 for all others, whose harder comparisons skip frames instead.
    seed, indices: as in ``corrupt``.
    Returns: uint8 (N, frames, H, W, 3): 31 frames, but 21 for motion_blur and 16 for translate. The first frame of a
        noise and of zoom_blur is the image itself.
    Raises: InputError for arguments other than these.
    """
    check_choice(name, SEQUENCES, "a sequence")
    if difficulty not in ((1, 2, 3) if name in NOISES else (1,)):
        allowed = "1 to 3" if name in NOISES else f"1 for {name}"
        raise InputError(f"expected a difficulty of {allowed}, got {difficulty!r}; give such a difficulty")
    check_pixels(pixels)
    streams = Streams(f"{seed}/sequence {name}/{difficulty}", identities(indices, len(pixels)))
    images = torch.from_numpy(np.array(pixels, order="C"))
    if name in NOISES:
        channel, strengths = NOISES[name]
        table = alias_table(channel(strengths[difficulty - 1]))
        frames = [images, *(transmit(images, table, streams) for _ in range(FRAMES - 1))]
    else:
        frames = _snow(images, streams) if name == "snow" else FIXED[name](images)
    return torch.stack(frames, dim=1).numpy()


def _motion_blur(pixels: Pixels) -> Frames:
    """Blur at angles from −180° to 0° in steps of 9°."""
    levels = planes(pixels, exact_dtype(pixels.device))
    angles = (torch.full((len(pixels),), 9.0 * (frame - 20)) for frame in range(21))
    return [truncate_planes(motion_blur_levels(levels, 6, 1.8, angle)) for angle in angles]


def _zoom_blur(pixels: Pixels) -> Frames:
    """Average the image and its zooms by 1.004, 1.008, … up to this frame."""
    total, frames = pixels.to(torch.int64), [pixels]
    for frame in range(1, FRAMES):
        total = total + _turn(pixels, scale=1 + 0.004 * frame)
        frames.append((total // (frame + 1)).to(torch.uint8))
    return frames


def _snow(pixels: Pixels, streams: Streams) -> Frames:
    """Blur the same flakes at angles from −150° to −30° in steps of 4°."""
    layer = draw_flakes((pixels.shape[1], pixels.shape[2]), (0.05, 0.3, 2.0, 0.5), streams)
    ground = whiten(pixels, 0.85)
    angles = (torch.full((len(pixels),), 4.0 * frame - 150) for frame in range(FRAMES))
    return [fall(ground, layer, 10, 2.0, angle) for angle in angles]


def _brightness(pixels: Pixels) -> Frames:
    return [digital.brightness(pixels, (frame - 15) * 0.015) for frame in range(FRAMES)]


def _translate(pixels: Pixels) -> Frames:
    """Shift from 7 pixels to the left to 8 to the right, filled with black."""
    frames = []
    for right in range(-7, 9):
        moved = pixels.roll(right, dims=2)
        moved[:, :, slice(0, right) if right >= 0 else slice(right, None)] = 0
        frames.append(moved)
    return frames


def _rotate(pixels: Pixels) -> Frames:
    return [_turn(pixels, degrees=frame - 15) for frame in range(FRAMES)]


def _scale(pixels: Pixels) -> Frames:
    return [_turn(pixels, scale=(2 * frame + 70) / 100) for frame in range(FRAMES)]


def _tilt(pixels: Pixels) -> Frames:
    """Turn the image in space about its two axes by ¾° per frame, seen from a distance of one diagonal.

    It is one pixel behind the plane of projection, and so appears slightly smaller even when it is not turned.
    """
    values = planes(pixels, torch.float64)
    rows, columns = pixel_grid(pixels)
    height, width = pixels.shape[1:3]
    frames = []
    for frame in range(FRAMES):
        back = torch.from_numpy(np.linalg.inv(_tilted(height, width, math.radians(0.75 * (frame - 15)))))
        x, y, depth = (back[k, 0] * columns + back[k, 1] * rows + back[k, 2] for k in range(3))
        places = ((y / depth).expand(len(pixels), -1, -1), (x / depth).expand(len(pixels), -1, -1))
        frames.append(truncate(sample_black(values, *places).add_(0.5 + 1e-9)).permute(0, 2, 3, 1))
    return frames


def _tilted(height: int, width: int, angle: float) -> NDArray[np.float64]:
    """Compute the homography of (column, row, 1) for an image turned by ``angle`` about both of its axes."""
    focus, cosine, sine = math.hypot(width, height), math.cos(angle), math.sin(angle)
    about_x = np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]])
    about_y = np.array([[cosine, 0, -sine], [0, 1, 0], [sine, 0, cosine]])
    flat = np.array([[1, 0, -width / 2], [0, 1, -height / 2], [0, 0, 1]])
    space = about_x @ about_y @ flat + np.array([[0, 0, 0], [0, 0, 0], [0, 0, focus]])
    return np.asarray(np.array([[focus, 0, width / 2], [0, focus, height / 2], [0, 0, 1]]) @ space)


def _turn(pixels: Pixels, degrees: float = 0.0, scale: float = 1.0) -> UInt8[Tensor, "n h w 3"]:
    """Turn clockwise and enlarge about the middle with Pillow, linearly interpolated, filled with black.

    The middle is (side / 2 + ½), as in torchvision when CIFAR-10-P was made.
    """
    height, width = pixels.shape[1:3]
    middle = width * 0.5 + 0.5, height * 0.5 + 0.5
    cosine, sine = math.cos(math.radians(degrees)) / scale, math.sin(math.radians(degrees)) / scale
    shift = middle[0] - cosine * middle[0] - sine * middle[1], middle[1] + sine * middle[0] - cosine * middle[1]
    matrix = (cosine, sine, shift[0], -sine, cosine, shift[1])
    turned = [
        np.asarray(
            Image.fromarray(image).transform((width, height), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
        )
        for image in pixels.numpy()
    ]
    return torch.from_numpy(np.stack(turned)) if turned else pixels


FIXED: dict[str, Callable[[Pixels], Frames]] = {
    "motion_blur": _motion_blur,
    "zoom_blur": _zoom_blur,
    "brightness": _brightness,
    "translate": _translate,
    "rotate": _rotate,
    "tilt": _tilt,
    "scale": _scale,
}
"""Sequences without random numbers."""
