"""Checks of files and disks: checksums, free space, writable folders."""

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
    """Make ``folder`` and check that its disk has ``n_bytes`` free.

    option: the command-line option that chose the folder, for the message.
    Raises: PrerequisiteError when the disk has less.
    """
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if n_bytes > free:
        raise PrerequisiteError(
            f"expected {n_bytes / 1e6:,.0f} MB of free disk in {folder}, got {free / 1e6:,.0f} MB; "
            f"free some space or choose another {option}"
        )


def check_folder(folder: Path, option: str = "--out") -> None:
    """Check that ``folder`` can be created or written, before hours of work depend on it.

    option: the command-line option that chose the folder, for the message.
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
    """Create an array in the file ``path`` (``.npy``) and reserve all of its disk space before the first write.

    Writing into a mapped file on a full disk would kill the process. If the system cannot reserve space, only the free
    space is checked.

    option: the command-line option that chose the folder, for the message.
    Raises: PrerequisiteError when the disk has too little space, OSError when space cannot be reserved (a quota).
    """
    check_space(path.parent, int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize, option)
    array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array
