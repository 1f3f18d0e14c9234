"""One split of an image data set, in memory or memory-mapped."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from data_prep.errors import InputError

FINGERPRINT_CHUNK_BYTES = 1 << 24


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images, their labels and their origin.

    Args:
        name: its name on the command line, ``"cifar10"``.
        title: its name in every table and figure, ``"cifar10 (JPEG q75)"``, so that no copy passes for the original.
        split: ``"train"``, ``"test"``, ``"val"``.
        pixels: uint8 (N, H, W, 3), RGB, 0 to 255; possibly a read-only memory map.
        labels: int64 (N,), positions in ``classes``.
        classes: the class names, in label order.
        indices: int64 (N,), the position of each image in the full split, increasing.
        files: str (N,), the name of each image's file in the folder of its class; None for images that were never
            files.
        notes: sentences on how the images were read: which files were skipped, how sizes were made equal.
        hashes_classes: whether the fingerprint also covers the class names, as it does for the user's own images.

    Raises:
        InputError: the arrays do not fit together.
    """

    name: str
    title: str
    split: str
    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    indices: NDArray[np.int64]
    files: NDArray[np.str_] | None = None
    notes: tuple[str, ...] = ()
    hashes_classes: bool = False

    def __post_init__(self) -> None:
        where = f"{self.name} {self.split}"
        if self.pixels.dtype != np.uint8 or self.pixels.ndim != 4 or self.pixels.shape[-1] != 3:
            got = f"{self.pixels.dtype} {self.pixels.shape}"
            raise InputError(f"{where}: expected pixels as uint8 (N, H, W, 3), got {got}; import the data set again")
        for title, values in (("labels", self.labels), ("indices", self.indices)):
            if values.dtype != np.int64 or values.shape != (len(self.pixels),):
                expected, got = f"int64 ({len(self.pixels)},)", f"{values.dtype} {values.shape}"
                raise InputError(f"{where}: expected {title} as {expected}, got {got}; import the data set again")
        if self.files is not None and (self.files.dtype.kind != "U" or self.files.shape != self.labels.shape):
            expected, got = f"text ({len(self.pixels)},)", f"{self.files.dtype} {self.files.shape}"
            raise InputError(f"{where}: expected file names as {expected}, got {got}; import the data set again")
        if len(self.labels) and not 0 <= self.labels.min() <= self.labels.max() < len(self.classes):
            got = f"{self.labels.min()} to {self.labels.max()}"
            raise InputError(
                f"{where}: expected labels 0 to {len(self.classes) - 1}, got {got}; import the data set again"
            )

    def __len__(self) -> int:
        return len(self.pixels)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the pixels, labels and indices, equal for equal content, in memory or mapped.

        With ``hashes_classes`` it also covers the class names.
        """
        digest = hashlib.sha256(repr(self.pixels.shape).encode())
        rows = max(1, FINGERPRINT_CHUNK_BYTES // max(1, self.pixels[:1].nbytes))
        for start in range(0, len(self), rows):
            digest.update(np.ascontiguousarray(self.pixels[start : start + rows]).data)
        for values in (self.labels, self.indices):
            digest.update(np.ascontiguousarray(values, dtype="<i8").data)
        if self.hashes_classes:
            digest.update(repr(self.classes).encode())
        return digest.hexdigest()

    def subset(self, n: int, seed: int = 0) -> ImageSet:
        """Draw ``n`` images at random, in the order of the split.

        They are the first ``n`` of one permutation that only ``seed`` and the length determine, so the subsets of one
        seed are nested: the 100 images are among the 1,000. Image trees are sorted by class, hence the random draw.

        Args:
            n: at least 1; for ``len(self)`` or more the set itself is returned.
            seed: seed of the permutation.

        Raises:
            InputError: ``n`` below 1.
        """
        rows = draw_rows(len(self), n, seed)
        return self if len(rows) == len(self) else self.take(rows)

    def take(self, rows: NDArray[np.int64]) -> ImageSet:
        """Copy some of the images into memory as a new set.

        Args:
            rows: int64 (N,), increasing positions in this set.
        """
        return replace(
            self,
            pixels=self.pixels[rows],
            labels=self.labels[rows],
            indices=self.indices[rows],
            files=None if self.files is None else self.files[rows],
        )


def draw_rows(count: int, n: int, seed: int = 0) -> NDArray[np.int64]:
    """Draw ``n`` of ``count`` rows as :meth:`ImageSet.subset` does: int64, increasing; all rows if ``n`` ≥ ``count``.

    Raises:
        InputError: ``n`` below 1.
    """
    if n < 1:
        raise InputError(f"expected a subset of at least 1 image, got {n}; leave the number out to use all {count}")
    if n >= count:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).permutation(count)[:n])
