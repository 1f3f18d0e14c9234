"""Read an ImageFolder tree, ``<split>/<class>/<file>``, from a folder or straight out of an archive.

Nothing is unpacked to disk, and member names serve as labels and messages only: no path is ever built from one.
"""

from __future__ import annotations

import contextlib
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from data_prep.errors import InputError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm"})
MAX_FILE_BYTES = 1 << 28


@dataclass(frozen=True)
class TreeFile:
    """One image file of a tree.

    path: its full name in the folder or archive.
    split, class_name, file_name: the last three parts of that name.
    n_bytes: its size as announced by the folder or archive.
    read: returns its bytes; for an archive only valid until the walk goes on.
    """

    path: str
    split: str
    class_name: str
    file_name: str
    n_bytes: int
    read: Callable[[], bytes]


def walk_tree(source: Path) -> Iterator[TreeFile]:
    """Yield every image file of the tree in the order of the source.

    source: a folder, or a .tar, .tar.gz, .tar.xz or .zip of one; folders around the tree are allowed in an archive.
    Hidden files and files that are not images by their suffix are passed over.
    Raises: InputError for a source that is missing, damaged or of another kind and, by name, for a member with an absolute
        path or ``..``, a link, an image outside ``<split>/<class>/`` and a file above ``MAX_FILE_BYTES``.
    """
    root: tuple[str, ...] | None = None
    for path, n_bytes, read in _walk_files(source):
        parts = _safe_parts(path, source)
        if _is_hidden(parts) or PurePosixPath(parts[-1]).suffix.lower() not in IMAGE_SUFFIXES:
            continue
        if len(parts) < 3 or (root is not None and parts[:-3] != root):
            raise InputError(
                f"{source.name}: expected every image at <split>/<class>/<file>, got {path}; rearrange the tree"
            )
        if n_bytes > MAX_FILE_BYTES:
            raise InputError(
                f"{source.name}: {path} has {n_bytes:,} bytes, more than the {MAX_FILE_BYTES:,} allowed; remove it"
            )
        root = parts[:-3]
        yield TreeFile(path, *parts[-3:], n_bytes=n_bytes, read=read)


def _walk_files(source: Path) -> Iterator[tuple[str, int, Callable[[], bytes]]]:
    if source.is_dir():
        return _walk_folder(source)
    if not source.is_file():
        raise InputError(
            f"expected a folder or an archive to import, got {source}, which does not exist; check the path"
        )
    if zipfile.is_zipfile(source):
        return _walk_zip(source)
    return _walk_tar(source)


def _walk_folder(source: Path) -> Iterator[tuple[str, int, Callable[[], bytes]]]:
    for path in sorted(source.glob("*/*/*")):
        if path.is_file():
            yield path.relative_to(source).as_posix(), path.stat().st_size, path.read_bytes


def _walk_zip(source: Path) -> Iterator[tuple[str, int, Callable[[], bytes]]]:
    with _damage_named(source), zipfile.ZipFile(source) as archive:
        for info in archive.infolist():
            if not info.is_dir():
                yield info.filename, info.file_size, lambda info=info: archive.read(info)  # type: ignore[misc]


def _walk_tar(source: Path) -> Iterator[tuple[str, int, Callable[[], bytes]]]:
    with _damage_named(source), tarfile.open(source) as archive:
        for info in archive:
            if info.isdir():
                _safe_parts(info.name, source)
                continue
            handle = archive.extractfile(info) if info.isreg() else None
            if handle is None:
                raise InputError(
                    f"{source.name}: expected plain files, got {info.name}, a link or device; pack real files"
                )
            yield info.name, info.size, handle.read


@contextlib.contextmanager
def _damage_named(source: Path) -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, lzma.LZMAError, zlib.error) as error:
        raise InputError(
            f"expected {source.name} to be a whole .tar, .tar.gz, .tar.xz or .zip archive, got: {error}; fetch it again"
        ) from error


def _safe_parts(path: str, source: Path) -> tuple[str, ...]:
    parts = PurePosixPath(path).parts
    if path.startswith("/") or "\\" in path or ".." in parts or not parts:
        raise InputError(f"{source.name}: member {path!r} points outside the archive; do not trust this file")
    return parts


def _is_hidden(parts: tuple[str, ...]) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in parts)
