"""Imported data sets on disk, ``<data_dir>/<name>/``: ``dataset.json`` and, per split, pixels, labels and file names.

``dataset.json`` is written last and removed first: a folder without it holds no data set, whatever else is in it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from data_prep.arrays import map_array
from data_prep.errors import InputError
from data_prep.imageset import ImageSet
from data_prep.schema import read

SCHEMA_VERSION = 1
RECORD_NAME = "dataset.json"


@dataclass(frozen=True, kw_only=True)
class Record:
    """The content of ``dataset.json``, which describes an imported data set.

    name, title: as in ``ImageSet``. note: how it differs from the original, ``"JPEG q75"``, or empty.
    classes: in label order. counts: images per split. fingerprints: ``ImageSet.fingerprint`` per split.
    image_size: (height, width). resize, crop: the resize and crop that led to that size, if any.
    source: name of the imported file or folder; source_sha256: its SHA-256, None for a folder.
    """

    name: str
    title: str
    note: str
    classes: tuple[str, ...]
    counts: dict[str, int]
    fingerprints: dict[str, str]
    image_size: tuple[int, int]
    resize: int | None
    crop: int | None
    source: str
    source_sha256: str | None
    schema_version: int = SCHEMA_VERSION

    def write(self, folder: Path) -> None:
        """Write the record into ``folder``."""
        (folder / RECORD_NAME).write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")


def pixels_path(folder: Path, split: str) -> Path:
    """Return the path of a split's pixels, uint8 (N, H, W, 3)."""
    return folder / f"{split}.pixels.npy"


def labels_path(folder: Path, split: str) -> Path:
    """Return the path of a split's labels, int64 (N,)."""
    return folder / f"{split}.labels.npy"


def files_path(folder: Path, split: str) -> Path:
    """Return the path of a split's file names, str (N,). Old imports, which kept no names, lack this file."""
    return folder / f"{split}.files.npy"


def array_paths(folder: Path, split: str) -> tuple[Path, ...]:
    """List the paths of a split's arrays."""
    return pixels_path(folder, split), labels_path(folder, split), files_path(folder, split)


def read_record(folder: Path) -> Record | None:
    """Read the record of an imported data set; None if the folder has none.

    Raises: InputError for a record that is damaged or has another schema version.
    """
    path = folder / RECORD_NAME
    if not path.is_file():
        return None
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        version = fields["schema_version"]
        if version == SCHEMA_VERSION:
            record = read(fields, Record, "the record")
            if record.counts.keys() != record.fingerprints.keys() or min(record.counts.values()) < 1:
                raise InputError("every split needs images and a fingerprint")
            return record
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise InputError(
            f"expected a data set record in {path}, got damaged text ({error}); "
            "import the data set again with --replace"
        ) from error
    raise InputError(
        f"expected schema version {SCHEMA_VERSION} in {path}, got {version}; import the data set again with --replace"
    )


def read_split(folder: Path, split: str) -> ImageSet:
    """Map one split of an imported data set.

    Raises: InputError for a folder without this split and for arrays that are missing or differ from the record.
    """
    record = read_record(folder)
    if record is None or split not in record.counts:
        raise InputError(f"expected an imported split {split!r} in {folder}, got none; import the data set again")
    pixels, labels = map_array(pixels_path(folder, split)), map_array(labels_path(folder, split))
    files = files_path(folder, split)
    expected = (record.counts[split], *record.image_size, 3)
    if pixels.shape != expected:
        raise InputError(
            f"expected shape {expected} in {pixels_path(folder, split)}, got {pixels.shape}; import it again"
        )
    return ImageSet(
        name=record.name,
        title=record.title,
        split=split,
        pixels=pixels,
        labels=np.array(labels),
        classes=record.classes,
        indices=np.arange(len(pixels)),
        files=map_array(files) if files.is_file() else None,
    )
