"""Find the pictures of a tree, ``<split>/<class>/<file>`` or ``<class>/<file>``, in a folder or directly in an archive.

Nothing is unpacked to disk. Member names are used only for labels and messages; no path is ever built from one.
"""

from __future__ import annotations

import contextlib
import io
import lzma
import os
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from data_prep.decode import IMAGE_SUFFIXES
from data_prep.errors import InputError, damage_named
from data_prep.files import is_hidden
from data_prep.layouts import Key, Layout, find_layout

MAX_FILE_BYTES = 1 << 28
DAMAGE = (tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, EOFError, RuntimeError, OSError)


@dataclass(frozen=True)
class Member:
    """A file or folder in a folder or archive.

    path: its full name there. n_bytes: its size. source: the folder or archive. is_broken: a link to nothing.
    """

    path: str
    n_bytes: int
    source: Path
    _open: Callable[[], IO[bytes]] | None
    is_broken: bool = False

    @property
    def is_folder(self) -> bool:
        """True for a folder."""
        return self._open is None and not self.is_broken

    @property
    def is_picture(self) -> bool:
        """True for a file with the suffix of an image."""
        return self._open is not None and PurePosixPath(self.path).suffix.lower() in IMAGE_SUFFIXES

    @contextlib.contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """Open the file, in an archive before the walk yields the next member. Raises: InputError for damage."""
        assert self._open is not None
        with _damage_named(self.source), self._open() as file:
            yield file

    def read(self) -> bytes:
        """Return the bytes of the file. Raises: as ``open``."""
        with self.open() as file:
            return file.read()


def walk_tree(source: Path, layout: Layout | None = None) -> Iterator[tuple[Key, Member]]:
    """Yield every image file of the tree with its (split, class, file name), in the order of the source.

    source: a folder, or a .tar, .tar.gz, .tar.xz or .zip of one; folders around the tree are allowed.
    layout: the layout of the tree; inferred in a walk of its own if left out.
    Hidden files and files without the suffix of an image are skipped.
    Raises: InputError for a source that is missing, damaged or of another kind and, by name, for a member with an
        absolute path or ``..``, a link, an image at another depth and a file above ``MAX_FILE_BYTES``.
    """
    if layout is None:
        layout = find_layout((member.path for member in walk_members(source) if member.is_picture), source.name)
    for member in walk_members(source):
        if member.is_picture:
            yield layout.key_of(member.path), member


def walk_members(source: Path) -> Iterator[Member]:
    """Yield the files and folders of a folder or archive that are not hidden. Raises: as ``walk_tree``."""
    for member in _walk_source(source):
        limited = member.is_picture or not source.is_dir()  # an archive is unpacked up to its last member
        if limited and member.n_bytes > MAX_FILE_BYTES:
            where = f"{source.name}: expected files of at most {MAX_FILE_BYTES:,} bytes"
            raise InputError(f"{where}, got {member.path} with {member.n_bytes:,}; remove it")
        if not any(map(is_hidden, PurePosixPath(member.path).parts)):
            yield member


def _walk_source(source: Path) -> Iterator[Member]:
    if source.is_dir():
        return _walk_folder(source)
    if not source.is_file():
        raise InputError(f"expected a folder or an archive to import, got {source}, which is neither; check the path")
    return _walk_zip(source) if zipfile.is_zipfile(source) else _walk_tar(source)


def _walk_folder(source: Path) -> Iterator[Member]:
    """Yield files and folders, sorted. Files next to the images, such as archives, may have any size.

    Links to folders are followed, except back to a folder that contains them.
    """
    above = {source: {source.resolve()}}
    for folder, folders, names in os.walk(source, followlinks=True):
        around = above.pop(Path(folder))
        places = {name: Path(folder, name).resolve() for name in sorted(folders) if not is_hidden(name)}
        folders[:] = [name for name, place in places.items() if place not in around]
        above |= {Path(folder, name): around | {places[name]} for name in folders}
        for name in folders:
            yield Member(Path(folder, name).relative_to(source).as_posix(), 0, source, None)
        for path in (Path(folder, name) for name in sorted(names)):
            relative = path.relative_to(source).as_posix()
            if path.is_file():
                yield Member(relative, path.stat().st_size, source, lambda path=path: path.open("rb"))  # type: ignore[misc]
            else:
                yield Member(relative, 0, source, None, is_broken=True)


def _walk_zip(source: Path) -> Iterator[Member]:
    with _damage_named(source), zipfile.ZipFile(source) as archive:
        for info in archive.infolist():
            _check_inside(info.filename, source)
            opened = None if info.is_dir() else lambda info=info: io.BytesIO(archive.read(info))
            yield Member(_plain(info.filename), info.file_size, source, opened)


def _walk_tar(source: Path) -> Iterator[Member]:
    with _damage_named(source), tarfile.open(source) as archive:
        for info in archive:
            _check_inside(info.name, source)
            if info.isdir():
                yield Member(_plain(info.name), 0, source, None)
                continue
            if not info.isreg():
                raise InputError(
                    f"{source.name}: expected plain files, got {info.name}, a link or device; pack real files"
                )
            file = archive.extractfile(info)
            assert file is not None
            # read it whole: in a compressed archive, seeking back for one byte costs as much as for all
            yield Member(_plain(info.name), info.size, source, lambda file=file: io.BytesIO(file.read()))  # type: ignore[misc]
        _check_end(archive)


def _check_end(archive: tarfile.TarFile) -> None:
    """Check that a walk ended at the end mark: ``tarfile`` also stops, silently, at a truncated or damaged header."""
    stream = archive.fileobj
    assert stream is not None
    whole = stream.tell() == archive.offset + tarfile.BLOCKSIZE
    while whole and (block := stream.read(1 << 20)):
        whole = not block.strip(b"\0")
    if not whole:
        raise tarfile.ReadError(f"no end of archive where one was due, at byte {archive.offset:,}")


def _damage_named(source: Path) -> contextlib.AbstractContextManager[None]:
    expected = f"{source.name} to be a whole .tar, .tar.gz, .tar.xz or .zip archive"
    return damage_named(expected, "fetch or pack it again", DAMAGE)


def _check_inside(path: str, source: Path) -> None:
    if path.startswith("/") or "\\" in path or ".." in PurePosixPath(path).parts:
        raise InputError(f"{source.name}: expected members inside the archive, got {path!r}; do not trust this file")


def _plain(path: str) -> str:
    """Strip ``./`` before and ``/`` after a member's name, so that one place has one name."""
    return PurePosixPath(path).as_posix()
