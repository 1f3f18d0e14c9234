"""Pick single images to look at: files, folders, or numbers of a data set."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_prep.decode import IMAGE_SUFFIXES, Geometry, decode_image
from data_prep.errors import InputError, PrerequisiteError, place_named
from data_prep.sources import load_images

_NUMBERED = re.compile(r"(?P<name>[^:]+):(?P<numbers>\d{1,9}(,\d{1,9})*)", re.ASCII)


@dataclass(frozen=True, eq=False)
class Picture:
    """One image with its title: ``"cat.png"`` or ``"cifar10 (JPEG q75) test 5: dog"``; pixels uint8 (H, W, 3), RGB."""

    title: str
    pixels: NDArray[np.uint8]


def pick_pictures(
    wanted: Sequence[str], *, size: int, split: str = "test", data_dir: str | Path = "data"
) -> list[Picture]:
    """Find the images that ``wanted`` names, in its order.

    wanted: image files, folders of image files, and ``NAME:0,5,7``, positions in the split of a data set.
    size: H = W of every image in pixels: the short side is resized to it and the centre is cut out.
    split: split of the data sets.
    data_dir: the folder of the data sets.
    Raises: InputError for a position past the end of a split, a folder without images, a damaged file or a data set
        with images smaller than ``size``; PrerequisiteError for a missing file or data set.
    """
    return [picture for given in wanted for picture in _find(given, size, split, Path(data_dir))]


def _find(given: str, size: int, split: str, data_dir: Path) -> Iterator[Picture]:
    path, numbered = Path(given), _NUMBERED.fullmatch(given)
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
        if not files:
            raise InputError(f"expected image files in {path}, got none; give a folder that has some directly in it")
        yield from (_read_file(file, size) for file in files)
    elif path.is_file():
        yield _read_file(path, size)
    elif numbered:
        yield from _take(numbered["name"], [int(n) for n in numbered["numbers"].split(",")], size, split, data_dir)
    else:
        raise PrerequisiteError(
            f"expected an image file, a folder or a data set with numbers such as cifar10:0,5,7, got {given!r}; "
            "check the path"
        )


def _read_file(file: Path, size: int) -> Picture:
    with place_named(file):
        return Picture(file.name, decode_image(file.read_bytes(), Geometry(resize=size, crop=size)))


def _take(name: str, numbers: list[int], size: int, split: str, data_dir: Path) -> Iterator[Picture]:
    images = load_images(name, split=split, data_dir=data_dir)
    for number in numbers:
        if number >= len(images):
            raise InputError(
                f"expected numbers 0 to {len(images) - 1} of {name} {split}, got {number}; give a smaller one"
            )
        pixels = np.array(images.pixels[number])
        if pixels.shape[:2] != (size, size):
            raise InputError(
                f"expected images of {size} x {size} pixels, the model's, got {pixels.shape[1]} x {pixels.shape[0]} "
                f"in {name}; choose a model or data set that fits"
            )
        title = f"{images.title} {split} {images.indices[number]}: {images.classes[images.labels[number]]}"
        yield Picture(title, pixels)
