"""Plan how the pictures of a tree become arrays, from their names and headers, before any picture is decoded."""

from __future__ import annotations

import itertools
import unicodedata
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from statistics import median_low

import numpy as np
from numpy.typing import NDArray

from data_prep.decode import AS_IS, IMAGE_SUFFIXES, Geometry, decode_image, read_header
from data_prep.errors import InputError, check_words, place_named
from data_prep.layouts import ANNOTATIONS, Key, Layout, find_layout, read_annotations
from data_prep.progress import make_bar
from data_prep.trees import Member, walk_members, walk_tree

LARGE_SIDE, LARGE_RESIZE, LARGE_CROP = 224, 256, 224
"""Median short side in pixels from which pictures of several sizes are prepared like ImageNet's; that preparation."""
LARGE_GEOMETRY = Geometry(resize=LARGE_RESIZE, crop=LARGE_CROP)
SMALLEST_SIDE = 32
"""Smallest side in pixels that the corruptions accept."""


@dataclass(frozen=True)
class TreePlan:
    """The place of every picture of a tree in the arrays.

    layout: the folders of the tree.
    rows: the row of every file within its split, by (split, class, file name); rows go by class, then by file name.
    labels: int64 (N,) per split.
    files: str (N,) per split, the file names.
    classes: the names of the classes, in label order.
    image_size: (height, width) of every image after the geometry.
    geometry: the resize and crop that lead to ``image_size``. sizes: the number of pictures of each original (height,
    width). notes: sentences that a user should know about the plan.
    """

    layout: Layout
    rows: dict[Key, int]
    labels: dict[str, NDArray[np.int64]]
    files: dict[str, NDArray[np.str_]]
    classes: tuple[str, ...]
    image_size: tuple[int, int]
    geometry: Geometry
    sizes: Counter[tuple[int, int]]
    notes: tuple[str, ...]

    @property
    def counts(self) -> dict[str, int]:
        """Number of images per split."""
        return {split: len(labels) for split, labels in self.labels.items()}

    @property
    def n_bytes(self) -> int:
        """Size of the pixels in bytes."""
        return len(self.rows) * self.image_size[0] * self.image_size[1] * 3


def plan_tree(
    source: Path,
    geometry: Geometry = AS_IS,
    *,
    classes: tuple[str, ...] | None = None,
    split: str | None = None,
    only: Collection[str] | None = None,
    whole: bool = False,
    adapt: bool = False,
    progress: bool = False,
) -> TreePlan:
    """Walk over the names and headers in ``source`` and lay out the arrays.

    classes: the allowed class folders, in label order; None for the existing ones, sorted.
    split: the requested split, whatever its name. adapt: choose a geometry for pictures of several sizes.
    only: the class folders to read, all if left out. whole: whether all of ``classes`` must have pictures.
    Raises: InputError for a tree without images, with a class folder without images (which would shift the labels of
        the classes after it), with a class outside ``classes``, with a repeated image, with a damaged header and,
        unless ``adapt``, with images of several sizes.
    """
    sizes, turned, others, annotations = _read_names(source, only, progress=progress)
    if annotations is None:
        layout = find_layout(sizes, source.name, split)
    else:
        layout = read_annotations(sizes, annotations, source.name)
    unlabelled = [path for path in sizes if layout.keys is not None and path not in layout.keys]
    for path in unlabelled:
        del sizes[path]
    if not sizes:
        raise InputError(
            f"expected pictures with classes in {source}, got none that {ANNOTATIONS} names; unpack it again"
        )
    keys = sorted(map(layout.key_of, sizes))
    found = sorted({class_name for _, class_name, _ in keys})
    check_words(found)
    _check_classes(found, classes, source, whole=whole)
    _check_folders(keys, others, layout, classes, source)
    geometry, image_size, note = _choose_geometry(sizes, geometry, adapt=adapt)
    notes = [_count_passed_over(others), note, _tell_turned(turned), _tell_twins(classes or tuple(found))]
    if unlabelled:
        notes.append(f"skipped {len(unlabelled):,} pictures of unknown class, such as {unlabelled[0]}")
    if min(image_size) < SMALLEST_SIDE:
        notes.append(
            f"the pictures have {image_size[0]} x {image_size[1]} pixels and corruptions need {SMALLEST_SIDE} x "
            f"{SMALLEST_SIDE} at least: --resize {SMALLEST_SIDE} enlarges them"
        )
    if classes is not None and len(found) < len(classes):
        notes.append(f"{len(classes) - len(found):,} of the {len(classes):,} classes have no picture here")
    classes = classes or tuple(found)
    label_of = {class_name: label for label, class_name in enumerate(classes)}
    of_split = {split: list(its) for split, its in itertools.groupby(keys, key=lambda key: key[0])}
    return TreePlan(
        layout=layout,
        rows={key: row for its in of_split.values() for row, key in enumerate(its)},
        labels={split: np.array([label_of[name] for _, name, _ in its], np.int64) for split, its in of_split.items()},
        files={split: np.array([file for _, _, file in its]) for split, its in of_split.items()},
        classes=classes,
        image_size=image_size,
        geometry=geometry,
        sizes=Counter((height, width) for width, height in sizes.values()),
        notes=tuple(filter(None, notes)),
    )


def decode_tree(
    source: Path, plan: TreePlan, pixels: Mapping[str, NDArray[np.uint8]], rows: Mapping[Key, int], *, progress: bool
) -> None:
    """Decode the pictures of a plan.

    pixels: the output array (N, H, W, 3) of each split. rows: the output row of each picture to decode.
    Raises: InputError, by name, for a damaged picture.
    """
    bar = make_bar(total=len(rows), desc="decoding", unit=" images", quiet=not progress)
    with bar:
        for key, member in walk_tree(source, plan.layout):
            if key in rows:
                data = member.read()
                with place_named(member.path):
                    pixels[key[0]][rows[key]] = decode_image(data, plan.geometry)
                bar.update()


def _read_names(
    source: Path, only: Collection[str] | None, *, progress: bool
) -> tuple[dict[str, tuple[int, int]], list[str], list[Member], str | None]:
    """Read the names and headers of a tree.

    Returns: the (width, height) of every picture by its path, the pictures with an EXIF orientation, the other members,
        and Tiny ImageNet's list of classes.
    """
    sizes: dict[str, tuple[int, int]] = {}
    turned: list[str] = []
    others: list[Member] = []
    annotations: str | None = None
    for member in make_bar(walk_members(source), desc="reading names", unit=" files", quiet=not progress):
        place = PurePosixPath(member.path)
        if only is not None and not member.is_folder and place.parent.name not in only:
            continue
        if not member.is_picture:
            others.append(member)
            if place.name == ANNOTATIONS and not member.is_folder and not member.is_broken:
                annotations = member.read().decode("utf-8", errors="replace")
            continue
        if member.path in sizes:
            raise InputError(f"{source.name}: expected every image once, got {member.path} twice; pack it again")
        with member.open() as file, place_named(member.path):
            sizes[member.path], is_turned = read_header(file)
        turned += [member.path] if is_turned else []
    if not sizes and (held := Counter(_suffix_of(member) for member in others if not member.is_folder)):
        raise InputError(
            f"expected pictures ({' '.join(sorted(IMAGE_SUFFIXES))}) in {source}, got only {_list_suffixes(held)}; "
            "convert them"
        )
    return sizes, turned, others, annotations


def _check_classes(found: list[str], classes: tuple[str, ...] | None, source: Path, *, whole: bool) -> None:
    if whole and classes is not None and (missing := sorted(set(classes).difference(found))):
        got = f"none in {len(missing):,} of {len(classes):,}, such as {missing[0]}"
        raise InputError(f"expected pictures in the folder of every class in {source}, got {got}; unpack it again")
    if classes is not None and (unknown := sorted(set(found).difference(classes))):
        expected, got = f"class folders such as {classes[0]}", ", ".join(unknown[:3])
        raise InputError(
            f"expected {expected} in {source}, got {got}; rename them, or name them among the classes "
            "(--classes; of an import, another --name)"
        )


def _check_folders(
    keys: list[Key], others: list[Member], layout: Layout, classes: tuple[str, ...] | None, source: Path
) -> None:
    """Refuse a class folder without pictures: it would silently shift the labels after it by one."""
    splits, filled, found = {key[0] for key in keys}, {key[:2] for key in keys}, {key[1] for key in keys}
    held: dict[tuple[str, str], Counter[str]] = {}
    for member in others:
        place = layout.class_of(member.path, is_folder=member.is_folder)
        if place is not None and place[0] in splits:
            counter = held.setdefault(place, Counter())
            counter.update([] if member.is_folder else [_suffix_of(member)])
    for (split, class_name), suffixes in sorted(held.items()):
        elsewhere = not suffixes and class_name in found  # an empty folder: another split has pictures of the class
        if (split, class_name) in filled or elsewhere or (classes is not None and class_name not in classes):
            continue
        where = f"{split}/{class_name}" if layout.has_splits else class_name
        got = f"only {_list_suffixes(suffixes)}" if suffixes else "an empty folder"
        raise InputError(
            f"{source.name}: expected pictures in every class, got {got} in {where}; convert them, or move the folder "
            "away if it is not a class"
        )


def _suffix_of(member: Member) -> str:
    suffix = PurePosixPath(member.path).suffix.lower() or "without a suffix"
    return f"{suffix} (a link to nothing)" if member.is_broken else suffix


def _list_suffixes(suffixes: Counter[str]) -> str:
    return ", ".join(f"{count:,} {suffix}" for suffix, count in suffixes.most_common(5))


def _count_passed_over(others: list[Member]) -> str:
    suffixes = Counter(_suffix_of(member) for member in others if not member.is_folder)
    if not (count := suffixes.total()):
        return ""
    files = "file" if count == 1 else "files"
    return f"skipped {count:,} {files} without an image suffix: {_list_suffixes(suffixes)}"


def _tell_turned(paths: list[str]) -> str:
    if not paths:
        return ""
    return (
        f"{len(paths):,} picture{'s' * (len(paths) != 1)}, such as {paths[0]}, would be turned by an EXIF orientation: "
        "pixels are taken as they are stored, as torchvision and timm do"
    )


def _tell_twins(classes: tuple[str, ...]) -> str:
    """Write a note on classes of one name but for case or the coding of accents; empty if there are none."""
    known: dict[str, str] = {}
    for name in classes:
        other = known.setdefault(unicodedata.normalize("NFKC", name).casefold(), name)
        if other != name:
            return f"{other!a} and {name!a} are two classes, and differ only in case or in the coding of a letter"
    return ""


def _choose_geometry(
    sizes: dict[str, tuple[int, int]], geometry: Geometry, *, adapt: bool
) -> tuple[Geometry, tuple[int, int], str]:
    """Find the geometry that brings every picture to one size, that (height, width), and a note if it was chosen."""
    first_of: dict[tuple[int, int], str] = {}
    for path, size in sizes.items():
        first_of.setdefault(size, path)
    results = {size: _size_after(geometry, size, path) for size, path in first_of.items()}
    first = next(iter(results.values()))
    other = next((size for size, result in results.items() if result != first), None)
    note = ""
    if other is not None and not adapt:
        expected, got = (f"{height} x {width}" for width, height in (first, results[other]))
        raise InputError(
            f"expected every image to be {expected} like the first, got {first_of[other]} with {got}; "
            "add --resize SHORT_SIDE and --crop SIDE (256 and 224 for ImageNet)"
        )
    if other is not None:
        side = geometry.resize or median_low(min(size) for size in sizes.values())
        chosen = Geometry(resize=side, crop=side)
        if geometry.resize is None and side >= LARGE_SIDE:
            chosen = LARGE_GEOMETRY
        ordered = sorted(first_of, key=lambda size: (size[0] * size[1], size[1]))
        smallest, largest = ordered[0], ordered[-1]
        note = (
            f"the pictures have {len(first_of):,} sizes, from {smallest[1]} x {smallest[0]} to {largest[1]} x "
            f"{largest[0]}: each was resized to a short side of {chosen.resize} pixels and its centre of "
            f"{chosen.crop} x {chosen.crop} kept; --resize and --crop choose otherwise"
        )
        geometry, first = chosen, (chosen.crop, chosen.crop)  # type: ignore[assignment]
    return geometry, (first[1], first[0]), note


def _size_after(geometry: Geometry, size: tuple[int, int], path: str) -> tuple[int, int]:
    with place_named(path):
        return geometry.size_of(size)
