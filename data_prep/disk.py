"""Free space on the disk of a folder."""

from __future__ import annotations

import shutil
from pathlib import Path

from data_prep.errors import PrerequisiteError


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
