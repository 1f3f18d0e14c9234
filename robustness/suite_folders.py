"""A folder with the run directories of several suites, which were measured by one command."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from data_prep.errors import InputError
from data_prep.files import UNFINISHED, as_file_name, write_text
from robustness.run_directory import RunDirectory

LIST = "suites.json"
"""File that lists the run directories of the suites, in the folder that holds them."""


def is_parent(path: Path) -> bool:
    """Check whether a folder holds the run directories of several suites."""
    return (path / LIST).is_file()


def check_parent(path: Path) -> None:
    """Raise InputError if a folder holds anything but the run directories of several suites."""
    if path.exists() and not path.is_dir():
        raise InputError(f"expected a folder as --out, got {path}, a file; choose another")
    foreign = path.is_dir() and any(not it.name.startswith(UNFINISHED) for it in path.iterdir())
    if foreign and not is_parent(path):
        raise InputError(
            f"expected a folder of several suites or an empty folder, got {path}, which holds other files and no "
            f"{LIST}; choose an empty or new folder for --out"
        )


def write_list(path: Path, names: Sequence[str]) -> None:
    """List the suites whose run directories a folder holds, in their order."""
    path.mkdir(parents=True, exist_ok=True)
    write_text(path / LIST, json.dumps({"suites": list(names)}, indent=1) + "\n")


def list_begun(path: Path) -> dict[str, RunDirectory]:
    """List the run directories of a folder's suites that have been started; raise InputError for a damaged list."""
    try:
        names = json.loads((path / LIST).read_text(encoding="utf-8"))["suites"]
        if not isinstance(names, list) or any(
            str(it) != as_file_name(str(it)) or str(it).startswith(".") for it in names
        ):
            raise ValueError("a name leads out of the folder")
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise InputError(
            f"expected a list of suites in {path / LIST}, got damaged text ({error}); run the same command again to "
            "rebuild it"
        ) from error
    directories = {str(name): RunDirectory(path / str(name)) for name in names}
    return {name: directory for name, directory in directories.items() if directory.is_begun}
