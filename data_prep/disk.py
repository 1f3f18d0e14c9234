"""Checksums of files and free space on their disk."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from data_prep.errors import InputError, PrerequisiteError


def digest_of(path: Path, algorithm: str) -> str:
    """Compute the ``"md5"`` or ``"sha256"`` (hex) of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def check_md5(path: Path, expected: str) -> None:
    """Raise InputError unless the file has the ``expected`` MD5 (hex)."""
    if (got := digest_of(path, "md5")) != expected:
        raise InputError(f"expected MD5 {expected} of {path}, got {got}; remove it and download it again")


def check_space(folder: Path, n_bytes: int) -> None:
    """Make ``folder`` and see that ``n_bytes`` fit into it.

    Raises: PrerequisiteError when they do not.
    """
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if n_bytes > free:
        raise PrerequisiteError(
            f"expected {n_bytes / 1e6:,.0f} MB of free disk in {folder}, got {free / 1e6:,.0f} MB; "
            "free some space or choose another --data-dir"
        )
