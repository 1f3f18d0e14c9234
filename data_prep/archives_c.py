"""Published corrupted test sets (CIFAR-10-C, ImageNet-C and sets in their layouts) behind one interface.

Source: Hendrycks & Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations",
ICLR 2019.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from data_prep.cifar_c import LABELS_FILE, MANIFEST_FILE, CifarC
from data_prep.corruptions import corruption_names, level_folder
from data_prep.corruptions.registry import GROUPS_3DCC
from data_prep.errors import InputError
from data_prep.imagenet_c import ImageNetC
from data_prep.imageset import ImageSet
from data_prep.npz_c import NpzC
from data_prep.pixel_rows import PixelRows

CORRUPTIONS_3DCC = tuple(GROUPS_3DCC)


@runtime_checkable  # for the tests' type checker
class ArchiveC(Protocol):
    """A corrupted test set on disk: a file of pixels, or a folder of image files, for every corruption."""

    @property
    def folder(self) -> Path:
        """The folder of the archive."""

    def corruptions(self) -> tuple[str, ...]:
        """List the corruptions that the archive has files of, sorted."""

    def count(self, corruption: str) -> int:
        """Count the images of a corruption at each severity.

        Raises: InputError, by name, for files that are missing, damaged or different in number between severities.
        """

    def size_of(self, corruption: str) -> tuple[int, int]:
        """Read the (height, width) of the images of a corruption, of the first one if they are files.

        Raises: InputError, by name, for files that are missing or damaged.
        """

    def fingerprint(self, corruption: str, severity: int) -> str:
        """Compute a checksum (hex) of the images of a corruption at a severity, which differs from copy to copy.

        Raises: InputError, by name, for missing files.
        """

    def match(self, images: ImageSet, corruption: str, severity: int) -> PixelRows:
        """Find the corrupted versions of the clean ``images``, in their order. Pixels are read on demand.

        severity: 1 to 5.
        Raises: InputError, by name, for missing or damaged files, and for images that do not belong to the archive.
        """


@dataclass(frozen=True)
class Published:
    """A published -C archive.

    folder: the folder that it unpacks to. open: opens that folder. n: number of images at each severity.
    corruptions: the corruptions that it must hold.
    get: how to get it into ``{folder}``; empty if it can be downloaded by name.
    """

    folder: str
    open: Callable[[Path], ArchiveC]
    n: int
    corruptions: tuple[str, ...] = corruption_names("all")
    get: str = ""


_MAKE = (
    "make it by the generator of https://github.com/facebookresearch/augmentation-corruption, into {folder}; "
    "a run makes its own"
)
PUBLISHED = {
    "cifar10c": Published("CIFAR-10-C", CifarC, 10_000),
    "cifar100c": Published("CIFAR-100-C", CifarC, 10_000),
    "imagenetc": Published(
        "ImageNet-C",
        ImageNetC,
        50_000,
        get="unpack the archives of https://zenodo.org/records/2235448 into {folder}",
    ),
    "imagenet3dcc": Published(
        "ImageNet-3DCC",
        ImageNetC,
        50_000,
        CORRUPTIONS_3DCC,
        "unpack the archives that https://github.com/EPFL-VILAB/3DCommonCorruptions names into {folder}",
    ),
    "cifar10cbar": Published("CIFAR-10-C-Bar", CifarC, 10_000, corruption_names("cbar", "cifar"), _MAKE),
    "imagenetcbar": Published("ImageNet-C-Bar", ImageNetC, 50_000, corruption_names("cbar", "imagenet"), _MAKE),
}
"""The published -C archives by name."""
FOLDERS = {name: published.folder for name, published in PUBLISHED.items()}


def find_archive_c(name: str, data_dir: str | Path) -> ArchiveC | None:
    """Find the unpacked folder of a -C archive in ``data_dir``; None if there is none.

    name: a key of ``FOLDERS``, or the path of a folder of any -C archive, recognized by its layout.
    Raises: InputError for another ``name``, for a folder that is not a -C archive, and for a generated set in the place
        of an official one.
    """
    is_known = name in FOLDERS
    folder = Path(data_dir) / FOLDERS[name] if is_known else Path(name)
    if not folder.is_dir():
        if is_known:
            return None
        raise InputError(f"expected a -C archive ({', '.join(FOLDERS)}) or its folder, got {name!r}; check the name")
    if (folder / MANIFEST_FILE).is_file():
        advice = f"call it {folder.name}-generated" if is_known else "leave the archive out"
        raise InputError(
            f"expected official files in {folder}, got a set that was generated here, as its {MANIFEST_FILE} says; "
            f"{advice}: a run makes the same corruptions itself and says so"
        )
    return PUBLISHED[name].open(folder) if is_known else open_archive_c(folder)


def open_archive_c(folder: Path) -> ArchiveC:
    """Open a -C archive of any data set and size by its layout alone.

    folder: ``<corruption>.npy`` next to ``labels.npy``, ``<corruption>.npz``, or
        ``<corruption>/<severity>/<class>/<file>``.
    Raises: InputError for any other folder.
    """
    if (kind := kind_of_archive_c(folder)) is None:
        raise InputError(
            f"expected a -C archive in {folder} (<corruption>.npy and labels.npy, <corruption>.npz, or "
            "<corruption>/<severity>/<class>/<file>), got another folder; point at the one that holds the corruptions"
        )
    if kind == "npy":
        return CifarC(folder, None)
    return NpzC(folder) if kind == "npz" else ImageNetC(folder)


def names_of_archive(name: str) -> tuple[str, ...]:
    """List the corruptions of an archive beyond the ones that can be generated.

    name: as for ``find_archive_c``, or empty. ``cifar10c``, ``cifar100c`` and ``imagenetc`` have none: all of their
        corruptions can be generated.
    Raises: as ``open_archive_c``.
    """
    if name == "imagenet3dcc":
        return CORRUPTIONS_3DCC
    return open_archive_c(Path(name)).corruptions() if name not in FOLDERS and Path(name).is_dir() and name else ()


def kind_of_archive_c(folder: Path) -> str | None:
    """Recognize the layout of a -C archive by file names: ``"npy"``, ``"npz"``, ``"files"``; None for other folders."""
    if (folder / LABELS_FILE).is_file() and any(path.name != LABELS_FILE for path in folder.glob("[!.]*.npy")):
        return "npy"
    if any(folder.glob("[!.]*.npz")):
        return "npz"
    corruptions = [path for path in folder.glob("[!.]*") if path.is_dir()]
    first = [path / level_folder(path.name, 1) for path in corruptions]
    if corruptions and all(level.is_dir() for level in first) and any(first[0].glob("*/*")):
        return "files"
    return None


def count_all(archive: ArchiveC) -> Iterator[tuple[str, int]]:
    """Count the images of each corruption; the archive must hold all of its corruptions.

    Yields: each corruption and its number of images at each severity.
    Raises: InputError, by name, for missing or damaged files.
    """
    known = (it.corruptions for it in PUBLISHED.values() if it.folder == archive.folder.name)
    if missing := set(next(known, corruption_names("all"))).difference(archive.corruptions()):
        raise InputError(
            f"expected every corruption in {archive.folder}, got none of {', '.join(sorted(missing))}; "
            "remove the folder and get it again"
        )
    yield from ((corruption, archive.count(corruption)) for corruption in archive.corruptions())
