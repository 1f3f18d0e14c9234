"""MedMNIST-C and other sets with one ``.npz`` per corruption: severities 1 to 5 in blocks of N images.

``<corruption>.npz`` holds ``test_images``, uint8 (5N, H, W, 3) or grey (5N, H, W), and ``test_labels``, (5N,) or
(5N, 1).

Source: Di Salvo, Doerrich & Ledig, "MedMNIST-C", 2024.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from data_prep.corruptions import N_SEVERITIES, check_severity
from data_prep.errors import InputError, damage_named
from data_prep.files import digest_of
from data_prep.given_arrays import read_array_header
from data_prep.imageset import ImageSet
from data_prep.own_pictures import allocate
from data_prep.pixel_rows import ChosenRows

IMAGES, LABELS = "test_images.npy", "test_labels.npy"
_BLOCK_BYTES = 1 << 22


@dataclass(frozen=True)
class NpzC:
    """A folder of such files; an ``ArchiveC``. Nothing is unpickled, and only one severity at a time is in memory."""

    folder: Path
    _hashes: dict[str, str] = field(init=False, repr=False, compare=False, default_factory=dict)

    def corruptions(self) -> tuple[str, ...]:
        """List the corruptions that have a file, sorted."""
        return tuple(sorted(path.stem for path in self.folder.glob("[!.]*.npz")))

    def count(self, corruption: str) -> int:
        """Count the images at each severity. Raises: InputError, by name, for a file that is missing or damaged."""
        return len(self.read_labels(corruption))

    def size_of(self, corruption: str) -> tuple[int, int]:
        """Read the (height, width) of the images. Raises: as ``count``."""
        with self._opened(corruption, IMAGES) as (_, shape):
            return shape[1], shape[2]

    def fingerprint(self, corruption: str, severity: int) -> str:
        """Compute the SHA-256 of the file of a corruption, once for all of its severities. Raises: as ``count``."""
        check_severity(severity)
        path = self._path(corruption)
        if corruption not in self._hashes:
            self._hashes[corruption] = digest_of(path, "sha256")
        return self._hashes[corruption]

    def match(self, images: ImageSet, corruption: str, severity: int) -> ChosenRows:
        """Select the rows of the images by their indices.

        Raises: as ``count``; InputError if labels or sizes differ from the clean images.
        """
        labels = self.read_labels(corruption)
        if images.indices[-1] >= len(labels) or not np.array_equal(labels[images.indices], images.labels):
            raise InputError(
                f"expected the labels of {images.title} in {self._path(corruption)}, got others; measure the clean "
                "test images that the archive was made of"
            )
        if (got := self.size_of(corruption)) != images.pixels.shape[1:3]:
            expected = images.pixels.shape[1:3]
            raise InputError(
                f"expected {expected} like the clean images in {self.folder}, got {got}; load them at {got}"
            )
        return ChosenRows(self.load(corruption, severity), images.indices)

    def read_labels(self, corruption: str) -> NDArray[np.int64]:
        """Read the labels, int64 (N,). Raises: InputError if they differ between severities, and as ``count``."""
        with self._opened(corruption, IMAGES) as (_, shape):
            total = shape[0]
        with self._named(corruption), np.load(self._path(corruption), allow_pickle=False) as arrays:
            labels = arrays[LABELS.removesuffix(".npy")]
        blocks = labels.reshape(N_SEVERITIES, -1) if labels.shape in ((total,), (total, 1)) else labels[:0]
        if labels.dtype.kind not in "iuf" or not blocks.size or (blocks != blocks[0]).any() or (blocks % 1).any():
            raise InputError(
                f"expected one class for each of {total} images in {self._path(corruption)}, the same at every "
                f"severity, got {labels.dtype} {labels.shape}; fetch it again, or leave out data with several "
                "labels an image"
            )
        return np.array(blocks[0], np.int64)

    def load(self, corruption: str, severity: int) -> NDArray[np.uint8]:
        """Read the images at a severity: uint8 (N, H, W, 3). Raises: as ``count``."""
        check_severity(severity)
        with self._opened(corruption, IMAGES) as (file, shape):
            n = shape[0] // N_SEVERITIES
            row = int(np.prod(shape[1:]))
            skip = (severity - 1) * n * row
            while skip:
                skip -= len(_read_exactly(file, min(skip, _BLOCK_BYTES)))
            pixels = allocate((n, *shape[1:3], 3))
            for index in range(n):
                image = np.frombuffer(_read_exactly(file, row), np.uint8).reshape(shape[1:])
                pixels[index] = image if image.ndim == 3 else image[..., None]
        return pixels

    def _path(self, corruption: str) -> Path:
        if corruption not in (known := self.corruptions()):
            listed = f"only {', '.join(known)}" if known else "no corruption at all"
            raise InputError(f"expected a file {corruption}.npz in {self.folder}, got {listed}; get the archive again")
        return self.folder / f"{corruption}.npz"

    @contextmanager
    def _opened(self, corruption: str, member: str) -> Iterator[tuple[IO[bytes], tuple[int, ...]]]:
        """Open an array of images, read its shape from its header and stop after the header."""
        path = self._path(corruption)
        with self._named(corruption), zipfile.ZipFile(path) as archive, archive.open(member) as file:
            dtype, shape = read_array_header(file)
            fits = len(shape) == 3 or (len(shape) == 4 and shape[3] in (1, 3))
            if dtype != np.uint8 or not fits or not shape[0] or shape[0] % N_SEVERITIES:
                raise InputError(
                    f"expected uint8 (5N, H, W, 3) or (5N, H, W) in {path}, got {dtype} {shape}; get it again"
                )
            yield file, shape

    def _named(self, corruption: str) -> AbstractContextManager[None]:
        path = self.folder / f"{corruption}.npz"
        return damage_named(f"a whole .npz with test_images and test_labels in {path}", "get the archive again")


def _read_exactly(file: IO[bytes], n_bytes: int) -> bytes:
    data = file.read(n_bytes)
    if len(data) < n_bytes:
        raise EOFError("an array that ends early")
    return data
