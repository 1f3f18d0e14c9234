"""Real test images in the two sizes, for the tests beside this file and for the benchmarks of the corruptions."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from data_prep.decode import Geometry, decode_image
from data_prep.trees import walk_tree

ARCHIVES = {"cifar": ("cifar10-jpeg.tar.xz", "test", 32), "imagenet": ("imagenet-sample.tar", "val", 224)}
"""Archive, split and side of the images of each profile."""


def archive_of(profile: str, folder: Path) -> Path:
    """Find the images of a profile in ``folder``."""
    return folder / ARCHIVES[profile][0]


def read_images(profile: str, count: int, folder: Path) -> np.ndarray:
    """Read ``count`` images that are evenly spread over the split, and so over its classes.

    Returns: uint8 (count, H, W, 3): CIFAR-10 test images, or the centres of ImageNet photographs.
    """
    _, split, side = ARCHIVES[profile]
    files = [file.read() for key, file in walk_tree(archive_of(profile, folder)) if key[0] == split]
    chosen = files[:: max(1, len(files) // count)][:count]
    return np.stack([decode_image(file, Geometry(crop=side)) for file in chosen])
