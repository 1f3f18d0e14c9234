"""Import an ImageFolder tree: decode every image once, into flat arrays that are memory-mapped from then on."""

from __future__ import annotations

import hashlib
import re
import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from data_prep.decode import AS_IS, Geometry, decode_image
from data_prep.errors import InputError, PrerequisiteError
from data_prep.imageset import ImageSet
from data_prep.store import RECORD_NAME, Record, labels_path, pixels_path, read_record
from data_prep.trees import walk_tree

NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
RESERVED_NAMES = frozenset({"shapes", "cifar10c", "cifar100c"})


@dataclass(frozen=True)
class Plan:
    """What a tree holds, found in a first walk over its names.

    places: (split, row) of every file, by path; the rows of a split go by class, then by file name.
    labels: int64 (N,) per split. classes: sorted.
    image_size: (height, width) of the first image after resize and crop.
    """

    places: dict[str, tuple[str, int]]
    labels: dict[str, NDArray[np.int64]]
    classes: tuple[str, ...]
    image_size: tuple[int, int]

    @property
    def n_bytes(self) -> int:
        """Bytes that the pixels take on disk."""
        return len(self.places) * self.image_size[0] * self.image_size[1] * 3


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

    source: a folder ``<split>/<class>/<file>`` or an archive of one, see ``walk_tree``.
    note: how the images differ from the original data set; it becomes part of the title.
    geometry: how images are brought to one size; without it they must have one.
    replace: import over a data set of this name. progress: show a bar.
    Returns: the record, as written. A killed import leaves no half data set; one that is replaced only goes at the end.
    Raises: InputError for an unusable name or source and, by name, for a damaged image or one of another size;
        PrerequisiteError when the disk is too small.
    """
    folder = data_dir / check_name(name)
    if not replace and read_record(folder) is not None:
        raise InputError(
            f"expected a new data set, got {name}, which is in {folder} already; add --replace to import over it"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        plan = plan_import(source, geometry)
        _check_space(data_dir, plan.n_bytes)
        work = folder / ".importing"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        try:
            _decode_tree(source, plan, geometry, work, progress=progress)
            title = f"{name} ({note})" if note else name
            record = Record(
                name=name,
                title=title,
                note=note,
                classes=plan.classes,
                counts={split: len(labels) for split, labels in plan.labels.items()},
                fingerprints={split: _fingerprint(work, split, plan) for split in plan.labels},
                image_size=plan.image_size,
                resize=geometry.resize,
                crop=geometry.crop,
                source=source.resolve().name,
                source_sha256=_sha256(source) if source.is_file() else None,
            )
            record.write(work)
            _publish(work, folder, record)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return record


def check_name(name: str) -> str:
    """Return ``name`` if a data set may be called so, else raise InputError."""
    if not NAME_PATTERN.fullmatch(name) or name in RESERVED_NAMES:
        reserved = ", ".join(sorted(RESERVED_NAMES))
        raise InputError(f"expected a name of letters, digits, - and _ that is not one of {reserved}, got {name!r}")
    return name


def plan_import(source: Path, geometry: Geometry) -> Plan:
    """Walk over the names in ``source`` and lay out the arrays.

    Raises: InputError for a tree without images, with an unusable split name or with one name twice.
    """
    files: dict[str, tuple[str, str, str]] = {}
    image_size = (0, 0)
    for file in walk_tree(source):
        if file.path in files:
            raise InputError(f"{source.name}: expected every image once, got {file.path} twice; pack it again")
        if not files:
            image_size = _decode_named(file.path, file.read(), geometry).shape[:2]
        files[file.path] = (file.split, file.class_name, file.file_name)
    if not files:
        raise InputError(
            f"expected images at <split>/<class>/<file> in {source}, got none; point at the folder of the splits"
        )
    classes = tuple(sorted({class_name for _, class_name, _ in files.values()}))
    label_of = {class_name: label for label, class_name in enumerate(classes)}
    places: dict[str, tuple[str, int]] = {}
    labels: dict[str, list[int]] = {}
    for path in sorted(files, key=lambda path: files[path]):
        split, class_name, _ = files[path]
        rows = labels.setdefault(check_name(split), [])
        places[path] = (split, len(rows))
        rows.append(label_of[class_name])
    arrays = {split: np.array(rows, dtype=np.int64) for split, rows in labels.items()}
    return Plan(places=places, labels=arrays, classes=classes, image_size=image_size)


def _decode_tree(source: Path, plan: Plan, geometry: Geometry, work: Path, *, progress: bool) -> None:
    pixels = {
        split: np.lib.format.open_memmap(pixels_path(work, split), "w+", np.uint8, (len(labels), *plan.image_size, 3))
        for split, labels in plan.labels.items()
    }
    for file in tqdm(walk_tree(source), total=len(plan.places), desc=source.name, unit="image", disable=not progress):
        image = _decode_named(file.path, file.read(), geometry)
        if image.shape[:2] != plan.image_size:
            expected, got = (f"{height} x {width}" for height, width in (plan.image_size, image.shape[:2]))
            raise InputError(
                f"expected every image to be {expected} like the first, got {file.path} with {got}; "
                "add --resize SHORT_SIDE and --crop SIDE (256 and 224 for ImageNet)"
            )
        split, row = plan.places[file.path]
        pixels[split][row] = image
    for split, labels in plan.labels.items():
        pixels[split].flush()
        np.save(labels_path(work, split), labels)


def _decode_named(path: str, data: bytes, geometry: Geometry) -> NDArray[np.uint8]:
    try:
        return decode_image(data, geometry)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _fingerprint(work: Path, split: str, plan: Plan) -> str:
    pixels = np.load(pixels_path(work, split), mmap_mode="r")
    labels = plan.labels[split]
    return ImageSet("", "", split, pixels, labels, plan.classes, np.arange(len(labels))).fingerprint


def _publish(work: Path, folder: Path, record: Record) -> None:
    (folder / RECORD_NAME).unlink(missing_ok=True)
    for split in record.counts:
        for path in (pixels_path(work, split), labels_path(work, split)):
            path.replace(folder / path.name)
    (work / RECORD_NAME).replace(folder / RECORD_NAME)


def _check_space(data_dir: Path, n_bytes: int) -> None:
    data_dir.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(data_dir).free
    if n_bytes > free:
        raise PrerequisiteError(
            f"expected {n_bytes / 1e6:,.0f} MB of free disk in {data_dir}, got {free / 1e6:,.0f} MB; "
            "free some space or choose another --data-dir"
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
