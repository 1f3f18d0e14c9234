"""Images given as arrays, as tensors or in a ``.npz`` file."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from data_prep.errors import InputError, damage_named, place_named
from data_prep.imageset import ImageSet
from data_prep.layouts import WHOLE, choose_split

_CHANNELS = (1, 3)
_IMAGE_KEYS = ("images", "x", "data", "pixels")
_LABEL_KEYS = ("labels", "y", "targets", "label")
_MOST_BYTES = 1 << 36
_BLOCK = 1024
_MOST_CLASSES = 100_000


def from_arrays(
    images: Any,
    labels: Any,
    *,
    name: str = "arrays",
    split: str = WHOLE,
    classes: tuple[str, ...] | None = None,
) -> ImageSet:
    """Make an image set from arrays or tensors.

    images: (N, H, W, C), (N, C, H, W) or (N, H, W), grey or RGB; uint8, or floats in [0, 1], which are rounded to the
        nearest of 256 values as a file would.
    labels: whole numbers (N,) or (N, 1), positions in the classes. name, split: names of the set and its split.
    classes: names in label order; the numbers up to the largest label if left out.
    Raises: InputError for other shapes, types and values, including normalised images and labels beyond the classes.
    """
    pixels, notes = _as_pixels(_as_array(images, "images"))
    if pixels.max() == 1:
        raise InputError(
            "expected images as uint8 from 0 to 255 or floats in [0, 1], got nothing brighter than 1 of 255; multiply "
            "them by 255"
        )
    targets = _as_labels(_as_array(labels, "labels"), len(pixels))
    if classes is None:
        if int(targets.max()) >= _MOST_CLASSES:
            raise InputError(
                f"expected labels from 0, fewer than {_MOST_CLASSES:,} classes, got {targets.max()}; number the classes"
            )
        classes = tuple(map(str, range(int(targets.max()) + 1)))
        if targets.min() == 1:
            notes = (*notes, "no image has the label 0: labels are positions in the model's outputs, from 0")
    if targets.min() < 0 or targets.max() >= len(classes):
        got = f"{targets.min()} to {targets.max()}"
        raise InputError(f"expected labels from 0 to {len(classes) - 1}, got {got}; give as many classes as there are")
    return ImageSet(
        name=name,
        title=name,
        split=split,
        pixels=pixels,
        labels=targets,
        classes=classes,
        indices=np.arange(len(pixels)),
        notes=notes,
        hashes_classes=True,
    )


def from_pairs(pairs: Iterable[Any], *, classes: tuple[str, ...] | None = None) -> ImageSet:
    """Make an image set from a torch ``Dataset`` or ``DataLoader``, or from anything else that yields (image, label).

    pairs: PIL images, or arrays or tensors as in ``from_arrays``; one image with its label or a batch with its labels.
        A dataset whose iteration never ends is read up to its length.
    classes: names in label order; by default the ``classes`` of the dataset, if they cover all labels.
    Raises: as ``from_arrays``, and for images of several sizes.
    """
    images: list[NDArray[Any]] = []
    labels: list[NDArray[Any]] = []
    for index, pair in enumerate(_walk_pairs(pairs)):
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise InputError(
                f"expected pairs (image, label), got {type(pair).__name__}; give arrays or wrap the data set"
            )
        image, label = (_as_array(part, what) for part, what in zip(pair, ("an image", "a label"), strict=True))
        if image.ndim < 4:
            image, label = image[None], label.reshape(1)
        if images and image.shape[1:] != images[0].shape[1:]:
            got = f"{images[0].shape[1:]} and, at {index}, {image.shape[1:]}"
            raise InputError(f"expected images of one shape, got {got}; resize and crop them in the data set")
        images.append(image)
        labels.append(label.reshape(len(image), -1))
    if not images:
        raise InputError("expected at least one pair (image, label), got none; check the data set")
    if classes is None:
        classes = _classes_of(pairs)
    return from_arrays(np.concatenate(images), np.concatenate(labels), name="pairs", classes=classes)


def read_npz(path: Path, split: str | None = None, *, classes: tuple[str, ...] | None = None) -> ImageSet:
    """Read images and labels from a ``.npz``; nothing is unpickled.

    path: a file with arrays ``images`` and ``labels`` (or ``x`` and ``y``), plain or per split as in MedMNIST
        (``test_images``) and Keras (``x_test``).
    split, classes: as in ``own_pictures.read_pictures`` and ``from_arrays``.
    Raises: as ``from_arrays``, and for a file that is damaged or lacks these arrays.
    """
    with _damage_named(path):
        with zipfile.ZipFile(path) as archive:
            if (n_bytes := sum(member.file_size for member in archive.infolist())) > _MOST_BYTES:
                raise InputError(
                    f"expected at most {_MOST_BYTES:,} bytes in {path}, got {n_bytes:,}; give a part of it"
                )
        with np.load(path, allow_pickle=False) as arrays:
            places = _find_arrays(arrays.files)
            if not places:
                raise _absence(path, arrays.files)
            split = choose_split(dict.fromkeys(places, 0), split, str(path))
            images, labels = (arrays[key] for key in places[split])
    with place_named(path):
        return from_arrays(images, labels, name=path.stem, split=split, classes=classes)


def npz_splits(path: Path) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
    """Read the dtype and shape of every split's images from the headers of a ``.npz``. Raises: as ``read_npz``."""
    found = {}
    with _damage_named(path), zipfile.ZipFile(path) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist()]
        for split, (images, _) in _find_arrays(names).items():
            with archive.open(f"{images}.npy") as file:
                found[split] = read_array_header(file)
    if not found:
        raise _absence(path, names)
    return found


def read_array_header(file: IO[bytes]) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """Read dtype and shape of a ``.npy`` in C order and stop after its header. Raises: ValueError for other files."""
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    version = np.lib.format.read_magic(file)
    if version not in read:
        raise ValueError(f"an array of format {version}")
    shape, is_fortran, dtype = read[version](file)
    if is_fortran and len(shape) > 1:
        raise ValueError("an array in Fortran order")
    return dtype, shape


def _absence(path: Path, names: Sequence[str]) -> InputError:
    return InputError(
        f"expected arrays images and labels (or test_images and test_labels) in {path}, got "
        f"{', '.join(names[:6]) or 'none'}; rename them"
    )


def _damage_named(path: Path) -> AbstractContextManager[None]:
    return damage_named(f"a whole .npz of plain arrays in {path}", "fetch it again")


def _find_arrays(names: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Find the names of the image and label arrays of every split."""
    found: dict[str, tuple[str, str]] = {}
    for images, labels in zip(_IMAGE_KEYS, _LABEL_KEYS, strict=True):
        for name in names:
            before, _, after = name.partition(images)
            partner = f"{before}{labels}{after}"
            split = (before + after).strip("_")
            if name == f"{before}{images}{after}" and partner in names and {before[-1:], after[:1]} <= {"_", ""}:
                found.setdefault(split or WHOLE, (name, partner))
    return found


def _walk_pairs(pairs: Any) -> Iterable[Any]:
    """Iterate over a loader, or over a data set by index, because the iteration of some data sets never ends."""
    if hasattr(pairs, "__getitem__") and hasattr(pairs, "__len__") and not hasattr(pairs, "batch_size"):
        return (pairs[index] for index in range(len(pairs)))
    return pairs  # type: ignore[no-any-return]


def _classes_of(pairs: Any) -> tuple[str, ...] | None:
    names = getattr(getattr(pairs, "dataset", pairs), "classes", None)
    usable = isinstance(names, list | tuple) and names and all(isinstance(name, str) for name in names)
    return tuple(names) if usable else None  # type: ignore[arg-type]


def _as_array(values: Any, what: str) -> NDArray[Any]:
    """Convert a tensor on any device, a PIL image or a list to an array."""
    if hasattr(values, "detach"):
        values = values.detach().cpu().numpy()
    elif hasattr(values, "convert"):
        values = values.convert("RGB")
    try:
        array = np.asarray(values)
    except ValueError as error:  # lists of several lengths
        raise InputError(
            f"expected {what} as one array, got values of several shapes; bring them to one size"
        ) from error
    if array.dtype.kind not in "uifb":
        raise InputError(f"expected {what} as numbers, got {array.dtype}; convert them first")
    return array


def _as_pixels(images: NDArray[Any]) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """Convert images to uint8 (N, H, W, 3), and add a note if that rounds them."""
    expected = "expected images as uint8 or floats in [0, 1], (N, H, W, 3), (N, 3, H, W), or grey"
    layout = _channels_last(images.shape)
    if layout is None or not images.size or (images.dtype != np.uint8 and images.dtype.kind != "f"):
        raise InputError(f"{expected}, got {images.dtype} {images.shape}; transpose or convert them first")
    images = images[..., None] if layout == "grey" else np.moveaxis(images, 1, -1) if layout == "first" else images
    notes: tuple[str, ...] = ()
    if images.dtype == np.uint8:
        pixels = np.ascontiguousarray(images)
    else:
        pixels, error = np.empty(images.shape, np.uint8), 0.0
        for start in range(0, len(images), _BLOCK):
            block = images[start : start + _BLOCK].astype(np.float64)
            if not (block.min() >= 0 and block.max() <= 1):  # NaN is neither
                got = (
                    f"{np.nanmin(images):.3g} to {np.nanmax(images):.3g}"
                    if np.isfinite(images).all()
                    else "NaN or infinity"
                )
                raise InputError(f"{expected}, got values {got}; undo the normalisation, which belongs in the model")
            rounded = np.rint(block * 255)
            error = max(error, float(np.abs(block * 255 - rounded).max()))
            pixels[start : start + _BLOCK] = rounded
        if error > 1e-3:
            notes = (f"floats were rounded to the 256 values of a pixel, by up to {error:.2g}/255",)
    return (np.repeat(pixels, 3, axis=-1) if pixels.shape[-1] == 1 else pixels), notes


def _channels_last(shape: tuple[int, ...]) -> str | None:
    """Find the channel axis: ``"last"``, ``"first"``, ``"grey"`` without one; None if the shape is ambiguous."""
    if len(shape) == 3:
        return "grey"
    if len(shape) != 4:
        return None
    last, first = shape[-1] in _CHANNELS, shape[1] in _CHANNELS
    return None if last == first else "last" if last else "first"


def _as_labels(labels: NDArray[Any], count: int) -> NDArray[np.int64]:
    if labels.shape == (count, 1):
        labels = labels[:, 0]
    if labels.shape != (count,) or labels.dtype.kind not in "iu":
        raise InputError(
            f"expected labels as whole numbers ({count},), one class per image, got {labels.dtype} {labels.shape}; "
            "give one class for each, as several labels of an image, or their probabilities, are not measured here"
        )
    if labels.dtype.kind == "u" and labels.size and labels.max() > np.iinfo(np.int64).max:
        raise InputError(f"expected labels from 0, one less than there are classes, got {labels.max()}; number them")
    return labels.astype(np.int64)
