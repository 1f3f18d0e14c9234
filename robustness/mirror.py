"""A run directory at a URL: the run works in a local folder, and what is finished there is copied to the URL."""

from __future__ import annotations

import hashlib
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fsspec
from tqdm import tqdm

from data_prep.errors import InputError, PrerequisiteError
from data_prep.files import replacing
from robustness.run_directory import MEASURED, SHOWN, RunDirectory

PUSH_SECONDS = 60.0
"""While a run measures, what it finished is copied this often."""
_MEASURED = re.compile(r"(outcomes/\w+\.parquet|adversarial/\w+\.npz|run\.json|(attack_)?samples\.npz)", re.ASCII)
"""What a run cannot rebuild, and so the only names that are fetched."""
_URL = re.compile(r"[A-Za-z][\w+.:-]*://.*[^/:\s].*")


def is_url(place: str) -> bool:
    """Whether ``place`` is a URL rather than a path."""
    return "://" in place


def local_folder(place: str) -> Path:
    """The folder itself; of a URL the one that stands for it, in ``results/runs``: no two URLs share one.

    Raises:
        InputError: a URL without a protocol or a path.
    """
    if not is_url(place):
        return Path(place)
    if not _URL.fullmatch(place):
        raise InputError(f"{place!r} is no URL of a run directory: give PROTOCOL://PLACE, as in s3://bucket/run")
    readable = re.sub(r"[^\w.-]+", "-", place)[:100]
    return Path("results/runs") / f"{readable}-{hashlib.sha256(place.encode()).hexdigest()[:8]}"


@dataclass
class Mirror:
    """A run directory and its copy at a URL of any file system that fsspec knows.

    A file that arrives there in part, where a store has no whole writes, is recognised as damaged when it is fetched,
    and measured again.

    Args:
        directory: the local one.
        url: such as ``s3://bucket/run``.

    Raises:
        InputError: no such protocol, or the URL holds something else.
        PrerequisiteError: the package for it is missing, or it cannot be reached.
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
            raise PrerequisiteError(f"{self.url} needs another package: {error}") from error
        except ValueError as error:
            raise InputError(f"{self.url} is no URL that fsspec can read: {error}") from error
        self._pushed = time.monotonic()

    def pull(self) -> None:
        """Fetch what was measured and is not here yet."""
        with self._reaching():
            there = self._files.find(self._root, detail=True)
        names = {path.removeprefix(self._root).lstrip("/"): entry["size"] for path, entry in there.items()}
        if names and "run.json" not in names:
            raise InputError(f"{self.url} holds other files and no run.json: choose another --out")
        for name, size in names.items():
            path = self.directory.path / name
            if _MEASURED.fullmatch(name):
                if not path.exists() or path.stat().st_size != size or name == "run.json":
                    with self._reaching(), replacing(path) as temporary:
                        self._files.get_file(f"{self._root}/{name}", str(temporary))
                self._same[name] = _stamp(path)

    def push(self) -> None:
        """Copy what is new or changed to the URL, ``run.json`` last."""
        found = [path for path in self.directory.path.rglob("*") if path.is_file()]
        names = {path.relative_to(self.directory.path).as_posix(): path for path in found}
        for name in sorted(names, key=lambda name: (name == "run.json", name)):
            is_finished = not name.endswith(".partial.npz") and not any(part[0] == "." for part in name.split("/"))
            if is_finished and self._same.get(name) != (stamp := _stamp(names[name])):
                with self._reaching():
                    self._files.put_file(str(names[name]), f"{self._root}/{name}")
                self._same[name] = stamp
        self._pushed = time.monotonic()

    def push_if_due(self) -> None:
        """Copy what is finished if the last time is a while ago; where that fails, later."""
        if time.monotonic() - self._pushed >= PUSH_SECONDS:
            self.try_push()

    def try_push(self) -> None:
        """Copy what is finished, or say why that failed."""
        try:
            self.push()
        except PrerequisiteError as error:
            self._pushed = time.monotonic()
            tqdm.write(f"warning: {error}", file=sys.stderr)

    def clear(self) -> None:
        """Forget everything that was measured, and what was made of it."""
        with self._reaching():
            for name in (*MEASURED, *SHOWN):
                if self._files.exists(f"{self._root}/{name}"):
                    self._files.rm(f"{self._root}/{name}", recursive=True)

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # every store has errors of its own
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise PrerequisiteError(
                f"{self.url} cannot be read or written ({reason}); what was finished is kept in {self.directory.path} "
                "and the same command goes on from there"
            ) from error


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_mtime_ns, status.st_size


def fetch(place: str) -> RunDirectory:
    """The run directory at a path, or a local copy of that at a URL."""
    directory = RunDirectory(local_folder(place))
    if is_url(place):
        Mirror(directory, place).pull()
    return directory


@contextmanager
def mirrored(directory: RunDirectory, place: str | None, *, fresh: bool) -> Iterator[Callable[[], None]]:
    """Within the block ``directory`` is mirrored to ``place``, if that is a URL; at its end, come what may, once more.

    Yields what is to be called now and then.
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
