"""The corrupted test sets that were published, CIFAR-10-C, CIFAR-100-C and ImageNet-C, through one interface.

Source: Hendrycks & Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations",
ICLR 2019.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, runtime_checkable

from data_prep.cifar_c import MANIFEST_FILE, CifarC
from data_prep.corruptions import corruption_names
from data_prep.errors import InputError
from data_prep.imagenet_c import ImageNetC
from data_prep.imageset import ImageSet
from data_prep.pixel_rows import PixelRows

FOLDERS = {"cifar10c": "CIFAR-10-C", "cifar100c": "CIFAR-100-C", "imagenetc": "ImageNet-C"}
"""What each archive unpacks to."""


@runtime_checkable  # for the type checker of the tests
class ArchiveC(Protocol):
    """A corrupted test set on disk: a file of pixels, or a folder of image files, for every corruption."""

    @property
    def folder(self) -> Path:
        """Where it is."""

    def corruptions(self) -> tuple[str, ...]:
        """The corruptions that there is something of, sorted."""

    def count(self, corruption: str) -> int:
        """Count the images of a corruption at each severity.

        Raises: InputError, by name, for what is missing, damaged or not alike at every severity.
        """

    def fingerprint(self, corruption: str, severity: int) -> str:
        """Compute what tells the images of a corruption at a severity from those of another copy, hexadecimal.

        Raises: InputError, by name, for what is missing.
        """

    def match(self, images: ImageSet, corruption: str, severity: int) -> PixelRows:
        """The corrupted versions of the clean ``images``, in their order; pixels are read when they are asked for.

        severity: 1 to 5.
        Raises: InputError, by name, for what is missing or damaged, and for images that do not belong to the archive.
        """


def find_archive_c(name: str, data_dir: str | Path) -> ArchiveC | None:
    """Find the unpacked folder of a -C archive in ``data_dir``; None without one.

    Raises: InputError for a ``name`` that is no key of ``FOLDERS``, and for a generated set under the official name.
    """
    if name not in FOLDERS:
        raise InputError(f"expected a -C archive ({', '.join(FOLDERS)}), got {name!r}")
    folder = Path(data_dir) / FOLDERS[name]
    if not folder.is_dir():
        return None
    if (folder / MANIFEST_FILE).is_file():
        raise InputError(
            f"expected official files in {folder}, got a set that was generated here, as its {MANIFEST_FILE} says; "
            f"call it {folder.name}-generated: a run makes the same corruptions itself and says so"
        )
    return ImageNetC(folder) if name == "imagenetc" else CifarC(folder)


def count_all(archive: ArchiveC) -> Iterator[tuple[str, int]]:
    """Go through an archive, which must hold all 19 corruptions.

    Yields: each corruption and how many images it has at each severity.
    Raises: InputError, by name, for what is missing or damaged.
    """
    if missing := set(corruption_names("all")).difference(archive.corruptions()):
        raise InputError(
            f"expected every corruption in {archive.folder}, got none of {', '.join(sorted(missing))}; "
            "remove the folder and get it again"
        )
    yield from ((corruption, archive.count(corruption)) for corruption in archive.corruptions())
