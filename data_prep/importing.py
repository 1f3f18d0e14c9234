"""Import an ImageFolder tree: decode every image once, into flat arrays for memory-mapped reading."""

from __future__ import annotations

import contextlib
import re
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from data_prep.archives_c import FOLDERS
from data_prep.cifar import RELEASES
from data_prep.class_lists import imagenet_wnids
from data_prep.decode import AS_IS, Geometry
from data_prep.errors import InputError, check_words
from data_prep.files import check_space, digest_of, locked
from data_prep.imageset import ImageSet
from data_prep.planning import TreePlan, decode_tree, plan_tree
from data_prep.store import RECORD_NAME, Record, array_paths, files_path, labels_path, pixels_path

NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_ARCHIVES = (*sorted(FOLDERS), *sorted(FOLDERS.values()))
_RELEASES = tuple(release.folder for release in RELEASES.values())
RESERVED_NAMES = (*_ARCHIVES, *(f"{name}-generated" for name in _ARCHIVES), *_RELEASES, "shapes")


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
    WNIDs, so that labels are the official class indices even if the tree holds only a part of ImageNet.

    source: a folder ``<split>/<class>/<file>`` or an archive of one, see ``walk_tree``; the only split of a tree
        ``<class>/<file>`` is called ``"test"``.
    note: how the images differ from the original data set; it becomes part of the title.
    geometry: the resize and crop that bring images to one size; without it all images must have one size.
    replace: replace a data set of this name, whole or damaged. progress: announce the size and show a progress bar.
    Returns: the record, as written. A killed import leaves no partial data set; a replaced data set is removed last.
    Raises: InputError for an unusable name, note or source and, by name, for an image that is damaged or has another
        size; PrerequisiteError when the disk is too small.
    """
    if name in RESERVED_NAMES:
        raise InputError(f"expected a name other than {', '.join(RESERVED_NAMES)}, got {name}; choose another --name")
    check_words([note])
    folder = data_dir / check_name(name)
    if (folder / RECORD_NAME).exists() and not replace:
        raise InputError(
            f"expected a new name, got {name}, which is in {folder} already; add --replace to import over it"
        )
    with warnings.catch_warnings(action="error", category=Image.DecompressionBombWarning):
        classes = imagenet_wnids() if name == "imagenet" else None
        plan = plan_tree(source, geometry, classes=classes, progress=progress)
        for split in plan.counts:
            check_name(split)
        check_space(data_dir, plan.n_bytes)
        if progress:
            for sentence in plan.notes:
                tqdm.write(f"note: {sentence}")
            tqdm.write(f"{len(plan.rows):,} images, {plan.n_bytes / 1e6:,.0f} MB of pixels, into {folder}")
        busy = f"another import is writing to {folder}; wait for its end, or choose another --name"
        with locked(data_dir / f".{name}.lock", busy), _work_folder(folder) as work:
            _decode_tree(source, plan, work, progress=progress)
            record = Record(
                name=name,
                title=f"{name} ({note})" if note else name,
                note=note,
                classes=plan.classes,
                counts=plan.counts,
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
    """Return the name of a data set or split if it is a valid file name; otherwise raise InputError."""
    if not NAME_PATTERN.fullmatch(name):
        raise InputError(f"expected a name of at most 64 letters, digits, - and _, got {name!r}; rename it")
    return name


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


def _decode_tree(source: Path, plan: TreePlan, work: Path, *, progress: bool) -> None:
    pixels = {
        split: np.lib.format.open_memmap(pixels_path(work, split), "w+", np.uint8, (count, *plan.image_size, 3))
        for split, count in plan.counts.items()
    }
    decode_tree(source, plan, pixels, plan.rows, progress=progress)
    for split, labels in plan.labels.items():
        pixels[split].flush()
        np.save(labels_path(work, split), labels)
        np.save(files_path(work, split), plan.files[split])


def _fingerprint(work: Path, split: str, plan: TreePlan) -> str:
    labels = plan.labels[split]
    pixels = np.load(pixels_path(work, split), mmap_mode="r")
    return ImageSet("", "", split, pixels, labels, plan.classes, np.arange(len(labels))).fingerprint


def _publish(work: Path, folder: Path, record: Record) -> None:
    """Move a data set to ``folder``, and replace the one there, which may be whole, damaged or half replaced."""
    (folder / RECORD_NAME).unlink(missing_ok=True)
    for pattern in array_paths(folder, "*"):
        for path in folder.glob(pattern.name):
            path.unlink()
    for split in record.counts:
        for path in array_paths(work, split):
            path.replace(folder / path.name)
    (work / RECORD_NAME).replace(folder / RECORD_NAME)
