"""CIFAR-10-C, CIFAR-100-C and other sets in their layout, memory-mapped from unpacked folders.

``<corruption>.npy`` is uint8 (5N, 32, 32, 3), or of another image size, with severities 1 to 5 in blocks of N;
``labels.npy`` has the length N or 5N.

Source: Hendrycks & Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations",
ICLR 2019.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.arrays import map_array
from data_prep.corruptions import N_SEVERITIES, check_severity
from data_prep.errors import InputError
from data_prep.files import digest_of
from data_prep.imageset import ImageSet
from data_prep.pixel_rows import ChosenRows

LABELS_FILE = "labels.npy"
MANIFEST_FILE = "manifest.json"
"""The file that only a generated set has; see ``data_prep.generate``."""
GET_AGAIN = "and get it again (python -m data_prep list says how)"


@dataclass(frozen=True)
class CifarC:
    """An unpacked CIFAR-10-C or CIFAR-100-C, or a generated one; an ``ArchiveC``.

    image_size: (height, width) that every image must have; None for an archive of any size.
    """

    folder: Path
    image_size: tuple[int, int] | None = (32, 32)
    _hashes: dict[str, str] = field(init=False, repr=False, compare=False, default_factory=dict)

    def corruptions(self) -> tuple[str, ...]:
        """List the corruptions that have a file, sorted."""
        return tuple(sorted(path.stem for path in self.folder.glob("*.npy") if path.name != LABELS_FILE))

    def count(self, corruption: str) -> int:
        """Count the images at each severity. Raises: as ``load``."""
        return len(self.load(corruption, 1)[0])

    def size_of(self, corruption: str) -> tuple[int, int]:
        """Read the (height, width) of the images. Raises: as ``load``."""
        height, width = self.load(corruption, 1)[0].shape[1:3]
        return height, width

    def fingerprint(self, corruption: str, severity: int) -> str:
        """Compute the SHA-256 of the file of a corruption, once for all of its severities. Raises: as ``load``."""
        self.load(corruption, severity)
        if corruption not in self._hashes:
            self._hashes[corruption] = digest_of(self.folder / f"{corruption}.npy", "sha256")
        return self._hashes[corruption]

    def match(self, images: ImageSet, corruption: str, severity: int) -> ChosenRows:
        """Select the rows of the images by their indices. Raises: as ``load``; InputError if the labels differ."""
        pixels, labels = self.load(corruption, severity)
        if pixels.shape[1:] != images.pixels.shape[1:]:
            expected, got = images.pixels.shape[1:3], pixels.shape[1:3]
            raise InputError(
                f"expected {expected} like the clean images in {self.folder}, got {got}; load them at {got}"
            )
        if images.indices[-1] >= len(labels) or not np.array_equal(labels[images.indices], images.labels):
            raise InputError(
                f"expected the labels of {images.title} in {self.folder}, got others, and one table never mixes "
                f"sources; get the official clean set (python -m data_prep download {images.name}), or move the folder "
                "away to have the corruptions generated"
            )
        return ChosenRows(pixels, images.indices)

    def load(self, corruption: str, severity: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Read the test images of one corruption at one severity.

        corruption: a name of ``corruptions``. severity: 1 to 5.
        Returns: pixels, uint8 (N, H, W, 3), a read-only memory map; labels, int64 (N,); both in the order of the
            clean test set.
        Raises: InputError for an unknown corruption or severity and, by name, for a file that is missing, truncated or
            has another layout.
        """
        if corruption not in (known := self.corruptions()):
            listed = f"only {', '.join(known)}" if known else "no corruption at all"
            raise InputError(
                f"expected a file {corruption}.npy in {self.folder}, got {listed}; remove {self.folder} {GET_AGAIN}"
            )
        check_severity(severity)
        pixels = _map_pixels(self.folder / f"{corruption}.npy", self.image_size)
        n = len(pixels) // N_SEVERITIES
        labels = _read_labels(self.folder / LABELS_FILE, n)
        return pixels[(severity - 1) * n : severity * n], labels


def _map_pixels(path: Path, image_size: tuple[int, int] | None) -> NDArray[np.uint8]:
    pixels = map_array(path)
    shape = pixels.shape[1:]
    whole = pixels.ndim == 4 and shape[2] == 3 and len(pixels) and not len(pixels) % N_SEVERITIES
    if pixels.dtype != np.uint8 or not whole or image_size not in (None, shape[:2]):
        sides = "H, W" if image_size is None else f"{image_size[0]}, {image_size[1]}"
        got = _layout(pixels)
        raise InputError(f"expected uint8 (5N, {sides}, 3) in {path}, got {got}; remove {path.parent} {GET_AGAIN}")
    return pixels


def _read_labels(path: Path, n: int) -> NDArray[np.int64]:
    labels = map_array(path)
    if labels.dtype.kind not in "iu" or labels.shape not in ((n,), (N_SEVERITIES * n,)):
        raise InputError(
            f"expected {n} or {N_SEVERITIES * n} integers in {path}, got {_layout(labels)}; "
            f"remove {path.parent} {GET_AGAIN}"
        )
    blocks = labels.astype(np.int64).reshape(-1, n)
    if (blocks != blocks[0]).any():
        raise InputError(
            f"expected the same labels for every severity in {path}, got blocks that differ; "
            f"remove {path.parent} {GET_AGAIN}"
        )
    return np.array(blocks[0])


def _layout(array: NDArray[Any]) -> str:
    return f"{array.dtype} {array.shape}"
