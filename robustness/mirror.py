"""A run directory at a URL: the run works in a local folder and copies finished files to the URL.

fsspec provides the file systems, but its tools for keeping two folders equal do not suffice here:

- A path of ``universal_pathlib`` in place of the folder would have neither the rename that makes a file whole or
  absent, nor a lock against a second run: object stores lack both.
- ``fsspec.generic.rsync`` takes two files of the same size for equal, but a ``run.json`` with another status may have
  the same size. It fails in stores that do not know sizes, such as plain HTTP servers.
- It would replace a whole local file by a truncated copy; here a checksum decides, in both directions.
- It copies in any order; here ``run.json`` goes last, so that an interrupted copy never names missing cells.
- It copies what an unfinished attack has written and fetches every name that the store lists; here only finished files
  are copied, and only the names of measurements are fetched.
- An error of the store would end the run; here it is a warning, and the copy is tried again a minute later.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fsspec
from tqdm import tqdm

from data_prep.arrays import is_whole_archive
from data_prep.errors import InputError, PrerequisiteError, describe_error
from data_prep.files import replacing
from robustness.run_directory import MEASURED, SAMPLES, SHOWN, RunDirectory
from robustness.seal import is_whole

PUSH_SECONDS = 60.0
"""Seconds between two copies while a run measures."""
_MEASURED = re.compile(r"(outcomes/\w+\.parquet|adversarial/\w+\.npz|run\.json|(attack_)?samples\.npz)", re.ASCII)
"""Names of the files that a run cannot rebuild; only these are fetched."""
_URL = re.compile(r"[A-Za-z][\w+.:-]*://.*[^/:\s].*")


def is_url(place: str) -> bool:
    """Check whether ``place`` is a URL rather than a path."""
    return "://" in place


def local_folder(place: str) -> Path:
    """Return the folder itself, or for a URL its own folder in ``results/runs``: no two URLs share one.

    Raises:
        InputError: a URL without a protocol or a path.
    """
    if not is_url(place):
        return Path(place)
    if not _URL.fullmatch(place):
        raise InputError(
            f"expected a URL of a run directory, PROTOCOL://PLACE, as in s3://bucket/run, got {place!r}; give "
            "such a URL"
        )
    readable = re.sub(r"[^\w.-]+", "-", place)[:100]
    return Path("results/runs") / f"{readable}-{hashlib.sha256(place.encode()).hexdigest()[:8]}"


@dataclass
class Mirror:
    """A run directory and its copy at a URL of any file system that fsspec knows.

    A store without atomic writes may receive only part of a file. Such a file is recognised as damaged when it is
    fetched: a whole local file stays and is copied again, and what is whole in neither place is measured again.

    Args:
        directory: the local run directory.
        url: URL of the copy, such as ``s3://bucket/run``.

    Raises:
        InputError: an unknown protocol, or a URL that holds something other than a run.
        PrerequisiteError: the package for the protocol is missing, or the URL cannot be reached.
    """

    directory: RunDirectory
    url: str
    _files: Any = field(init=False, repr=False)
    _root: str = field(init=False, repr=False)
    _same: dict[str, tuple[int, int]] = field(init=False, repr=False, default_factory=dict)
    _pushed: float = field(init=False, repr=False)

    def __post_init__(self) -> None:
        try:
            self._files, self._root = fsspec.core.url_to_fs(self.url)
        except ImportError as error:
            raise PrerequisiteError(f"{self.url} needs another package ({error}); install it") from error
        except ValueError as error:
            raise InputError(
                f"expected a URL that fsspec can read, got {self.url} ({error}); check its protocol"
            ) from error
        self._pushed = time.monotonic()

    def pull(self) -> None:
        """Fetch the measured files that are missing here; a damaged file never replaces a whole local one.

        Raises:
            InputError: the URL holds something other than a run or an interrupted first copy of one.
        """
        names = self._list()
        if "run.json" not in names:
            names = {name: size for name, size in names.items() if _is_cell(name)}  # the run rebuilds the rest
        for name, size in names.items():
            if _MEASURED.fullmatch(name) and self._fetch(name, size):
                self._same[name] = _stamp(self.directory.path / name)

    def _list(self) -> dict[str, int | None]:
        """Return names and sizes of the files at the URL, None if unknown; raise InputError if they are not a run's."""
        with self._reaching():
            there = self._files.find(self._root, detail=True)
        names = {path.removeprefix(self._root).lstrip("/"): entry.get("size") for path, entry in there.items()}
        if names and "run.json" not in names and not _is_begun(names):
            raise InputError(
                f"expected a run directory or an empty place, got {self.url}, which holds other files and no run.json; "
                "choose another --out"
            )
        return names

    def _fetch(self, name: str, size: int | None) -> bool:
        """Fetch a file of ``size`` bytes unless it is already here; return whether both copies are now the same.

        A file of unknown size (None) is fetched unless it is a cell whose local file is whole.
        """
        path = self.directory.path / name
        if name != "run.json" and path.exists() and path.stat().st_size == size:
            return True
        if _is_cell(name) and _is_whole(path):
            return False
        with suppress(_DamagedError), replacing(path) as temporary:
            with self._reaching():
                self._files.get_file(f"{self._root}/{name}", str(temporary))
            if not _is_whole(temporary):
                raise _DamagedError
            return True
        return False

    def push(self) -> None:
        """Copy what is new or changed to the URL: measured files first, ``run.json`` last."""
        found = [path for path in self.directory.path.rglob("*") if path.is_file()]
        names = {path.relative_to(self.directory.path).as_posix(): path for path in found}
        for name in sorted(names, key=lambda name: (name == "run.json", not _is_cell(name), name)):
            if _is_finished(name) and self._same.get(name) != (stamp := _stamp(names[name])):
                with self._reaching():
                    self._put(names[name], f"{self._root}/{name}")
                self._same[name] = stamp
        self._pushed = time.monotonic()

    def _put(self, path: Path, place: str) -> None:
        """Copy a file; in a store that has folders, first create its folder if it is missing."""
        try:
            self._files.put_file(str(path), place)
        except FileNotFoundError:
            self._files.makedirs(place.rpartition("/")[0], exist_ok=True)
            self._files.put_file(str(path), place)

    def push_if_due(self) -> None:
        """Copy finished files if the last copy is long enough ago; if that fails, try again later."""
        if time.monotonic() - self._pushed >= PUSH_SECONDS:
            self.try_push()

    def try_push(self) -> None:
        """Copy finished files, or report why that failed."""
        try:
            self.push()
        except PrerequisiteError as error:
            self._pushed = time.monotonic()
            tqdm.write(f"warning: {error}", file=sys.stderr)

    def clear(self) -> None:
        """Delete every measurement and everything built from it; raise InputError unless the files belong to a run."""
        self._list()
        with self._reaching():
            for name in (*MEASURED, *SHOWN, *SAMPLES):
                if self._files.exists(f"{self._root}/{name}"):
                    self._files.rm(f"{self._root}/{name}", recursive=True)

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # every store raises its own errors
            reason = describe_error(error)
            raise PrerequisiteError(
                f"{self.url} cannot be read or written ({reason}); what was finished is kept in {self.directory.path} "
                "and the same command resumes from there"
            ) from error


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_mtime_ns, status.st_size


class _DamagedError(Exception):
    """The fetched file is not whole."""


def _is_cell(name: str) -> bool:
    """Check whether a file belongs to a single cell or attack, and so is either whole or useless."""
    return name.split("/")[0] in MEASURED


def _is_begun(names: Iterable[str]) -> bool:
    """Check whether ``names`` are left over from a copy interrupted before ``run.json``: cells, and files of a run."""
    own = (*MEASURED, *SHOWN)
    return any(map(_is_cell, names)) and all(name.split("/")[0] in own or _MEASURED.fullmatch(name) for name in names)


def _is_finished(name: str) -> bool:
    """Check that a file is neither hidden nor part of a running attack, such as ``<key>.partial/00-00000.npz``."""
    return not any(part.startswith(".") or part.endswith(".partial") for part in name.split("/"))


def _is_whole(path: Path) -> bool:
    """Check that a measured file exists and is unchanged since it was written."""
    if path.suffix == ".npz":
        return is_whole_archive(path)
    try:
        content = path.read_bytes()
        return is_whole(content, path.stem) if path.suffix == ".parquet" else isinstance(json.loads(content), dict)
    except (OSError, ValueError, RecursionError):
        return False


def fetch(place: str) -> RunDirectory:
    """Return the run directory at a path, or a local copy of the run directory at a URL."""
    directory = RunDirectory(local_folder(place))
    if is_url(place):
        Mirror(directory, place).pull()
    return directory


@contextmanager
def mirrored(directory: RunDirectory, place: str | None, *, fresh: bool) -> Iterator[Callable[[], None]]:
    """Mirror ``directory`` to ``place`` during the block, if that is a URL, and once more at its end or error.

    Yields a function that copies what is due; call it regularly.
    """
    if place is None or not is_url(place):
        yield lambda: None
        return
    mirror = Mirror(directory, place)
    if fresh:
        mirror.clear()
    else:
        mirror.pull()
    try:
        yield mirror.push_if_due
    except BaseException:
        mirror.try_push()
        raise
    mirror.push()
