"""Checksums of files, free space on their disk, and whether their folder can be written."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from data_prep.errors import InputError, PrerequisiteError


def digest_of(path: Path, algorithm: str) -> str:
    """Compute the ``"md5"`` or ``"sha256"`` (hex) of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def check_md5(path: Path, expected: str) -> None:
    """Raise InputError unless the file has the ``expected`` MD5 (hex)."""
    if (got := digest_of(path, "md5")) != expected:
        raise InputError(f"expected MD5 {expected} of {path}, got {got}; remove it and download it again")


def check_space(folder: Path, n_bytes: int, option: str = "--data-dir") -> None:
    """Make ``folder`` and see that ``n_bytes`` fit into it; ``option`` names the one that chose it.

    Raises: PrerequisiteError when they do not.
    """
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if n_bytes > free:
        raise PrerequisiteError(
            f"expected {n_bytes / 1e6:,.0f} MB of free disk in {folder}, got {free / 1e6:,.0f} MB; "
            f"free some space or choose another {option}"
        )


def check_folder(folder: Path, option: str = "--out") -> None:
    """Make sure that ``folder`` can be written or made, before hours of work; ``option`` names the one that chose it.

    Raises: InputError when it cannot.
    """
    there = next(path for path in (folder, *folder.parents) if path.exists() or path.is_symlink())
    if not there.is_dir():
        raise InputError(f"expected a folder, got {there}, which is none; choose another {option}")
    if not os.access(there, os.W_OK | os.X_OK):
        raise InputError(
            f"expected a folder that can be written, got {there}; choose another {option} or change its permissions"
        )


def allocate_array(path: Path, dtype: DTypeLike, shape: tuple[int, ...], option: str) -> NDArray[Any]:
    """A new array in the file ``path`` (``.npy``) with all of its disk space taken up before the first write.

    A write into a mapped file without space behind it would end the process. Where the system cannot reserve space,
    only the free space is compared. ``option`` is the one that chose the folder.

    Raises: PrerequisiteError when the disk has too little space, OSError when it cannot be reserved (a quota).
    """
    check_space(path.parent, int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize, option)
    array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array
