"""ImageNet-C: ``<corruption>/<severity>/<wnid>/<file>.JPEG``, image files with the names of the clean images.

ImageNet-C-bar has the same layout, except that its severities are named by its generator's levels (``sparkles/1.00``).
The files are the 50,000 validation images after the centre crop: 224 x 224, to be used as they are.

Source: Hendrycks & Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations",
ICLR 2019.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from data_prep.corruptions import N_SEVERITIES, check_severity, level_folder
from data_prep.decode import read_header
from data_prep.errors import InputError
from data_prep.files import is_hidden
from data_prep.imageset import ImageSet
from data_prep.pixel_rows import FileRows, name_files


@dataclass(frozen=True)
class ImageNetC:
    """An unpacked ImageNet-C; an ``ArchiveC``. Folders are listed; image files are opened only to read their pixels."""

    folder: Path

    def corruptions(self) -> tuple[str, ...]:
        """List the corruptions that have a folder, sorted."""
        return folders_in(self.folder)

    def count(self, corruption: str) -> int:
        """Count the image files at each severity.

        Raises: InputError if there are none, or if two severities hold different files.
        """
        first, *others = (self._level(corruption, severity) for severity in range(1, N_SEVERITIES + 1))
        names = _files_in(first, folders_in(first))
        for level in others:
            if different := names ^ _files_in(level, folders_in(level)):
                got = f"{min(different)} in one only"
                raise InputError(f"expected the same files in {first} and {level}, got {got}; unpack both again")
        if not names:
            raise InputError(f"expected <wnid>/<file> in {first}, got no file at all; unpack its archive again")
        return len(names)

    def size_of(self, corruption: str) -> tuple[int, int]:
        """Read the (height, width) of the first image. Raises: InputError for a missing folder or a damaged file."""
        level = self._level(corruption, 1)
        first = min(_files_in(level, folders_in(level)))
        with (level / first).open("rb") as file:
            (width, height), _ = read_header(file)
        return height, width

    def fingerprint(self, corruption: str, severity: int) -> str:
        """Compute the SHA-256 of the names and sizes of the files of a level, hidden files left out.

        No file is read, so other images with the same names and sizes have the same fingerprint.
        Raises: InputError, by name, for a missing folder.
        """
        level = self._level(corruption, severity)
        found = [
            (wnid, entry.name, entry.stat().st_size)
            for wnid in folders_in(level)
            for entry in _entries_in(level / wnid)
        ]
        return hashlib.sha256(repr(sorted(found)).encode()).hexdigest()

    def match(self, images: ImageSet, corruption: str, severity: int) -> FileRows:
        """Find the file of every image by its WNID and name; the WNID also determines its label.

        Raises: InputError for images without file names and, by name, for a missing folder or file.
        """
        names = name_files(images, self.folder)
        level = self._level(corruption, severity)
        found = _files_in(level, {name.partition("/")[0] for name in names})
        if missing := set(names) - found:
            raise InputError(
                f"expected a file {min(missing)} in {level} for every clean image, got none for {len(missing):,} of "
                f"{len(names):,}; unpack the archive again, import the images that it was made from, or move "
                f"{self.folder} away to have the corruptions generated"
            )
        height, width = images.pixels.shape[1:3]
        return FileRows(level, names, (height, width))

    def _level(self, corruption: str, severity: int) -> Path:
        check_severity(severity)
        folder = self.folder
        for name in (corruption, level_folder(corruption, severity)):
            if name not in (known := folders_in(folder)):
                listed = f"only {', '.join(known)}" if known else "no folder at all"
                raise InputError(f"expected a folder {name} in {folder}, got {listed}; unpack its archive")
            folder /= name
        return folder


def folders_in(folder: Path) -> tuple[str, ...]:
    """List the folders in a folder that are not hidden, sorted."""
    return tuple(sorted(entry.name for entry in _entries_in(folder) if entry.is_dir()))


def _files_in(level: Path, wnids: Collection[str]) -> set[str]:
    """List the files in the existing folders of these classes as ``<wnid>/<file>``, hidden files left out."""
    folders = [level / wnid for wnid in wnids if (level / wnid).is_dir()]
    return {f"{folder.name}/{entry.name}" for folder in folders for entry in _entries_in(folder)}


def _entries_in(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return [entry for entry in entries if not is_hidden(entry.name)]
