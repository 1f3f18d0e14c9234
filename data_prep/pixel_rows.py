"""Images of one size that are read slice by slice on demand, so that memory does not grow with their number."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from data_prep.decode import decode_image
from data_prep.errors import InputError, place_named
from data_prep.imageset import ImageSet


@runtime_checkable  # for the tests' type checker
class PixelRows(Protocol):
    """A sequence whose ``rows[start:stop]`` is uint8 (n, H, W, 3), or float32 in [0, 1], as in any array of pixels."""

    def __len__(self) -> int:
        """Return the number of images."""

    def __getitem__(self, rows: slice, /) -> NDArray[Any]:
        """Return the pixels of a slice."""


@dataclass(frozen=True)
class ChosenRows:
    """Selected rows of an array, such as a memory map.

    pixels: uint8 (M, H, W, 3). indices: int64 (N,), the selected rows, in order.
    """

    pixels: NDArray[np.uint8]
    indices: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, rows: slice) -> NDArray[np.uint8]:
        return self.pixels[self.indices[rows]]


def name_files(images: ImageSet, folder: Path) -> tuple[str, ...]:
    """Return the name ``<WNID>/<file>`` of every image, under which archives of ImageNet in ``folder`` hold it.

    Raises: InputError for images without file names.
    """
    if images.files is None:
        raise InputError(
            f"expected images with file names to look for in {folder}, got {images.title} without any; "
            "import it again with --replace"
        )
    wnids = [images.classes[label] for label in images.labels]
    return tuple(f"{wnid}/{file}" for wnid, file in zip(wnids, images.files, strict=True))


@dataclass(frozen=True)
class FileRows:
    """Image files, decoded by several threads.

    folder, names: the files, relative to the folder. image_size: (height, width) that each image must have.
    """

    folder: Path
    names: tuple[str, ...]
    image_size: tuple[int, int]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, rows: slice) -> NDArray[np.uint8]:
        """Decode the pixels of a slice. Raises: InputError, by name, for a damaged image or another image size."""
        with ThreadPoolExecutor() as pool:
            return np.stack(list(pool.map(self._decode, self.names[rows])))

    def _decode(self, name: str) -> NDArray[np.uint8]:
        path = self.folder / name
        with place_named(path):
            pixels = decode_image(path.read_bytes())
        if pixels.shape[:2] != self.image_size:
            expected, got = (f"{height} x {width}" for height, width in (self.image_size, pixels.shape[:2]))
            raise InputError(f"expected {expected} like the clean images, got {path} with {got}; import them at {got}")
        return pixels
