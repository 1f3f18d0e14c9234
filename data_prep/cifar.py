"""CIFAR-10 and CIFAR-100, read from the official Python archives or from the folders that they unpack to.

Every file is checked against its published MD5 before it is read. Nothing is unpacked to disk.

Source: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
"""

from __future__ import annotations

import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_prep.errors import InputError, damage_named
from data_prep.files import check_md5
from data_prep.imageset import ImageSet
from data_prep.unpickle import unpickle_batch


@dataclass(frozen=True, kw_only=True)
class Release:
    """The files of a data set's official distribution.

    archive, archive_md5: the file to download and its checksum. folder: the folder that it unpacks to.
    batches: per split, the files that hold its images, in order. meta: the file with the class names.
    md5s: the checksum of each batch and of meta. labels_key, classes_key: the keys of labels in a batch and of class
    names in meta. counts: the number of images per split.
    """

    name: str
    archive: str
    archive_md5: str
    folder: str
    batches: dict[str, tuple[str, ...]]
    meta: str
    md5s: dict[str, str]
    labels_key: str
    classes_key: str
    counts: dict[str, int]


RELEASES = {
    "cifar10": Release(
        name="cifar10",
        archive="cifar-10-python.tar.gz",
        archive_md5="c58f30108f718f92721af3b95e74349a",
        folder="cifar-10-batches-py",
        batches={"train": tuple(f"data_batch_{number}" for number in range(1, 6)), "test": ("test_batch",)},
        meta="batches.meta",
        md5s={
            "data_batch_1": "c99cafc152244af753f735de768cd75f",
            "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
            "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
            "data_batch_4": "634d18415352ddfa80567beed471001a",
            "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
            "test_batch": "40351d587109b95175f43aff81a1287e",
            "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
        },
        labels_key="labels",
        classes_key="label_names",
        counts={"train": 50_000, "test": 10_000},
    ),
    "cifar100": Release(
        name="cifar100",
        archive="cifar-100-python.tar.gz",
        archive_md5="eb9058c3a382ffc7106e4002c42a8d85",
        folder="cifar-100-python",
        batches={"train": ("train",), "test": ("test",)},
        meta="meta",
        md5s={
            "train": "16019d7e3df5f24257cddd939b257f8d",
            "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
            "meta": "7973b15100ade9c7d40fb424638fde48",
        },
        labels_key="fine_labels",
        classes_key="fine_label_names",
        counts={"train": 50_000, "test": 10_000},
    ),
}


def find_release(name: str, data_dir: Path) -> Path | None:
    """Find the official files of a data set in ``data_dir``: the unpacked folder, else the archive, else None."""
    if name not in RELEASES:
        return None
    folder, archive = data_dir / RELEASES[name].folder, data_dir / RELEASES[name].archive
    return folder if folder.is_dir() else archive if archive.is_file() else None


def load_release(name: str, split: str, path: Path) -> ImageSet:
    """Read one split of an official data set.

    name, split: keys of ``RELEASES`` and of its ``batches``. path: the folder or archive from ``find_release``.
    Returns: the images in the order of the release.
    Raises: InputError for a file that is missing, damaged or not the published one.
    """
    release = RELEASES[name]
    *batches, meta = _read_files(path, release, (*release.batches[split], release.meta))
    contents = [unpickle_batch(data, file) for file, data in zip(release.batches[split], batches, strict=True)]
    with damage_named(f"the layout of {name} in {path}", "download it again", (KeyError, ValueError)):
        pixels = np.concatenate([content["data"] for content in contents]).reshape(-1, 3, 32, 32)
        labels = np.concatenate([np.array(content[release.labels_key], dtype=np.int64) for content in contents])
        classes = tuple(map(str, unpickle_batch(meta, release.meta)[release.classes_key]))
    return ImageSet(
        name=name,
        title=name,
        split=split,
        pixels=np.ascontiguousarray(pixels.transpose(0, 2, 3, 1)),
        labels=labels,
        classes=classes,
        indices=np.arange(len(labels)),
    )


def _read_files(path: Path, release: Release, names: Sequence[str]) -> list[bytes]:
    if path.is_dir():
        for name in names:
            if not (path / name).is_file():
                raise InputError(f"expected {name} in {path}, got no such file; unpack {release.archive} again")
            check_md5(path / name, release.md5s[name])
        return [(path / name).read_bytes() for name in names]
    check_md5(path, release.archive_md5)
    files: dict[str, bytes] = {}
    with tarfile.open(path) as archive:
        for member in archive:
            name = member.name.removeprefix(f"{release.folder}/")
            if name in names and (file := archive.extractfile(member)) is not None:
                files[name] = file.read()
    if missing := [name for name in names if name not in files]:
        raise InputError(f"expected {', '.join(missing)} in {path}, got no such member; download it again")
    return [files[name] for name in names]
