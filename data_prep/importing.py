"""Import an ImageFolder tree: decode every image once, into flat arrays that are memory-mapped from then on."""

from __future__ import annotations

import contextlib
import re
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from data_prep.archives_c import FOLDERS
from data_prep.cifar import RELEASES
from data_prep.decode import AS_IS, Geometry, decode_image
from data_prep.disk import check_space, digest_of
from data_prep.errors import InputError, check_words
from data_prep.imagenet import imagenet_wnids
from data_prep.imageset import ImageSet
from data_prep.store import RECORD_NAME, Record, array_paths, files_path, labels_path, pixels_path
from data_prep.trees import TreeFile, walk_tree

NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_ARCHIVES = (*sorted(FOLDERS), *sorted(FOLDERS.values()))
_RELEASES = tuple(release.folder for release in RELEASES.values())
RESERVED_NAMES = (*_ARCHIVES, *(f"{name}-generated" for name in _ARCHIVES), *_RELEASES, "shapes")


@dataclass(frozen=True)
class Plan:
    """What a tree holds, found in a first walk over its names.

    rows: the row of every file within its split, by (split, class, file name); rows go by class, then by file name.
    labels: int64 (N,) per split.
    files: str (N,) per split, the file names.
    classes: the names of the classes, in label order.
    image_size: (height, width) of the first image after resize and crop.
    """

    rows: dict[tuple[str, str, str], int]
    labels: dict[str, NDArray[np.int64]]
    files: dict[str, NDArray[np.str_]]
    classes: tuple[str, ...]
    image_size: tuple[int, int]

    @property
    def n_bytes(self) -> int:
        """Bytes that the pixels take on disk."""
        return len(self.rows) * self.image_size[0] * self.image_size[1] * 3


def import_tree(
    source: Path,
    *,
    name: str,
    note: str = "",
    data_dir: Path = Path("data"),
    geometry: Geometry = AS_IS,
    replace: bool = False,
    progress: bool = False,
) -> Record:
    """Import the tree in ``source`` as ``<data_dir>/<name>/``.

    The classes are the sorted names of the class folders of all splits. For the name ``"imagenet"`` they are the 1000
    WNIDs, so that labels are the official class indices even where the tree holds a part of ImageNet only.

    source: a folder ``<split>/<class>/<file>`` or an archive of one, see ``walk_tree``.
    note: how the images differ from the original data set; it becomes part of the title.
    geometry: how images are brought to one size; without it they must have one.
    replace: import over a data set of this name, whole or damaged. progress: announce the size and show a bar.
    Returns: the record, as written. A killed import leaves no half data set; one that is replaced only goes at the end.
    Raises: InputError for an unusable name, note or source and, by name, for a damaged image or one of another size;
        PrerequisiteError when the disk is too small.
    """
    if name in RESERVED_NAMES:
        raise InputError(f"expected a name other than {', '.join(RESERVED_NAMES)}, got {name}; choose another --name")
    check_words([note])
    folder = data_dir / check_name(name)
    if (folder / RECORD_NAME).exists() and not replace:
        raise InputError(
            f"expected a new name, got {name}, which is in {folder} already; add --replace to import over it"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        classes = imagenet_wnids() if name == "imagenet" else None
        plan = plan_import(source, geometry, classes=classes, progress=progress)
        check_space(data_dir, plan.n_bytes)
        if progress:
            tqdm.write(f"{len(plan.rows):,} images, {plan.n_bytes / 1e6:,.0f} MB of pixels, into {folder}")
        with _work_folder(folder) as work:
            _decode_tree(source, plan, geometry, work, progress=progress)
            record = Record(
                name=name,
                title=f"{name} ({note})" if note else name,
                note=note,
                classes=plan.classes,
                counts={split: len(labels) for split, labels in plan.labels.items()},
                fingerprints={split: _fingerprint(work, split, plan) for split in plan.labels},
                image_size=plan.image_size,
                resize=geometry.resize,
                crop=geometry.crop,
                source=source.resolve().name,
                source_sha256=digest_of(source, "sha256") if source.is_file() else None,
            )
            record.write(work)
            _publish(work, folder, record)
    return record


def check_name(name: str) -> str:
    """Return the name of a data set or split if files may be called so, else raise InputError."""
    if not NAME_PATTERN.fullmatch(name):
        raise InputError(f"expected a name of at most 64 letters, digits, - and _, got {name!r}; rename it")
    return name


def plan_import(
    source: Path,
    geometry: Geometry = AS_IS,
    *,
    classes: tuple[str, ...] | None = None,
    progress: bool = False,
) -> Plan:
    """Walk over the names in ``source`` and lay out the arrays.

    classes: the class folders that there may be, in label order; None for the sorted ones that there are.
    Raises: InputError for a tree without images, with an unusable split or class name, with a folder that is none of
        ``classes`` or with an image that is there twice.
    """
    rows: dict[tuple[str, str, str], int] = {}
    image_size = (0, 0)
    for file in tqdm(walk_tree(source), desc="reading names", unit=" images", disable=not progress):
        if file.key in rows:
            raise InputError(f"{source.name}: expected every image once, got {file.path} twice; pack it again")
        if not rows:
            height, width, _ = _decode_file(file, geometry).shape
            image_size = (height, width)
        rows[file.key] = 0
    if not rows:
        raise InputError(
            f"expected images at <split>/<class>/<file> in {source}, got none; point at the splits' folder"
        )
    found = sorted({class_name for _, class_name, _ in rows})
    check_words(found)
    if classes is not None and (unknown := set(found).difference(classes)):
        expected, got = f"class folders such as {classes[0]}", ", ".join(sorted(unknown)[:3])
        raise InputError(f"expected {expected} in {source}, got {got}; rename them or choose another --name")
    classes = tuple(found) if classes is None else classes
    label_of = {class_name: label for label, class_name in enumerate(classes)}
    keys: dict[str, list[tuple[str, str, str]]] = {}
    for key in sorted(rows):
        split_keys = keys.setdefault(check_name(key[0]), [])
        rows[key] = len(split_keys)
        split_keys.append(key)
    return Plan(
        rows=rows,
        labels={split: np.array([label_of[name] for _, name, _ in its], np.int64) for split, its in keys.items()},
        files={split: np.array([file for _, _, file in its]) for split, its in keys.items()},
        classes=classes,
        image_size=image_size,
    )


@contextlib.contextmanager
def _work_folder(folder: Path) -> Iterator[Path]:
    work = folder / ".importing"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)
        with contextlib.suppress(OSError):
            folder.rmdir()


def _decode_tree(source: Path, plan: Plan, geometry: Geometry, work: Path, *, progress: bool) -> None:
    pixels = {
        split: np.lib.format.open_memmap(pixels_path(work, split), "w+", np.uint8, (len(labels), *plan.image_size, 3))
        for split, labels in plan.labels.items()
    }
    for file in tqdm(walk_tree(source), desc="decoding", total=len(plan.rows), unit=" images", disable=not progress):
        image = _decode_file(file, geometry)
        if image.shape[:2] != plan.image_size:
            expected, got = (f"{height} x {width}" for height, width, *_ in (plan.image_size, image.shape))
            raise InputError(
                f"expected every image to be {expected} like the first, got {file.path} with {got}; "
                "add --resize SHORT_SIDE and --crop SIDE (256 and 224 for ImageNet)"
            )
        pixels[file.key[0]][plan.rows[file.key]] = image
    for split, labels in plan.labels.items():
        pixels[split].flush()
        np.save(labels_path(work, split), labels)
        np.save(files_path(work, split), plan.files[split])


def _decode_file(file: TreeFile, geometry: Geometry) -> NDArray[np.uint8]:
    data = file.read()
    try:
        return decode_image(data, geometry)
    except InputError as error:
        raise InputError(f"{file.path}: {error}") from error


def _fingerprint(work: Path, split: str, plan: Plan) -> str:
    labels = plan.labels[split]
    pixels = np.load(pixels_path(work, split), mmap_mode="r")
    return ImageSet("", "", split, pixels, labels, plan.classes, np.arange(len(labels))).fingerprint


def _publish(work: Path, folder: Path, record: Record) -> None:
    """Put a data set in the place of the one in ``folder``, which may be whole, damaged or half replaced."""
    (folder / RECORD_NAME).unlink(missing_ok=True)
    for pattern in array_paths(folder, "*"):
        for path in folder.glob(pattern.name):
            path.unlink()
    for split in record.counts:
        for path in array_paths(work, split):
            path.replace(folder / path.name)
    (work / RECORD_NAME).replace(folder / RECORD_NAME)
