"""Read an ImageFolder tree, ``<split>/<class>/<file>``, from a folder or straight out of an archive.

Nothing is unpacked to disk, and member names serve as labels and messages only: no path is ever built from one.
"""

from __future__ import annotations

import contextlib
import lzma
import os
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from data_prep.errors import InputError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm"})
MAX_FILE_BYTES = 1 << 28
DAMAGE = (tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, EOFError, RuntimeError)

RawFile = tuple[str, int, Callable[[], bytes]]


@dataclass(frozen=True)
class TreeFile:
    """One image file of a tree.

    path: its full name in the folder or archive.
    key: (split, class, file name), the last three parts of that name.
    source: the folder or archive.
    """

    path: str
    key: tuple[str, str, str]
    source: Path
    _read: Callable[[], bytes]

    def read(self) -> bytes:
        """Return the bytes of the file; for an archive only possible until the walk goes on. Raises: InputError."""
        with _damage_named(self.source):
            return self._read()


def walk_tree(source: Path) -> Iterator[TreeFile]:
    """Yield every image file of the tree in the order of the source.

    source: a folder, or a .tar, .tar.gz, .tar.xz or .zip of one; folders around the tree are allowed.
    Hidden files and files that are not images by their suffix are passed over.
    Raises: InputError for a source that is missing, damaged or of another kind and, by name, for a member with an
        absolute path or ``..``, a link, an image outside ``<split>/<class>/`` and a file above ``MAX_FILE_BYTES``.
    """
    root: tuple[str, ...] | None = None
    for path, n_bytes, read in _walk_files(source):
        if n_bytes > MAX_FILE_BYTES:  # whatever it is: an archive is unpacked up to the last member
            where = f"{source.name}: expected files of at most {MAX_FILE_BYTES:,} bytes"
            raise InputError(f"{where}, got {path} with {n_bytes:,}; remove it")
        if not _is_image(path):
            continue
        parts = PurePosixPath(path).parts
        if len(parts) < 3 or root not in (None, parts[:-3]):
            where = f"{source.name}: expected every image at <split>/<class>/<file>"
            raise InputError(f"{where}, got {path}; rearrange the tree")
        root = parts[:-3]
        yield TreeFile(path, (parts[-3], parts[-2], parts[-1]), source, read)


def _walk_files(source: Path) -> Iterator[RawFile]:
    if source.is_dir():
        return _walk_folder(source)
    if not source.is_file():
        raise InputError(f"expected a folder or an archive to import, got {source}, which is neither; check the path")
    return _walk_zip(source) if zipfile.is_zipfile(source) else _walk_tar(source)


def _walk_folder(source: Path) -> Iterator[RawFile]:
    """Only its images: what else lies beside them, an archive say, may be as large as it likes.

    Links to folders are followed, except back to one that they lie in.
    """
    above = {source: {source.resolve()}}
    for folder, folders, names in os.walk(source, followlinks=True):
        around = above.pop(Path(folder))
        places = {name: Path(folder, name).resolve() for name in sorted(folders)}
        folders[:] = [name for name, place in places.items() if place not in around]
        above |= {Path(folder, name): around | {places[name]} for name in folders}
        for path in (Path(folder, name) for name in sorted(names)):
            relative = path.relative_to(source).as_posix()
            if _is_image(relative) and path.is_file():
                yield relative, path.stat().st_size, path.read_bytes


def _walk_zip(source: Path) -> Iterator[RawFile]:
    with _damage_named(source), zipfile.ZipFile(source) as archive:
        for info in archive.infolist():
            _check_inside(info.filename, source)
            if not info.is_dir():
                yield info.filename, info.file_size, lambda info=info: archive.read(info)  # type: ignore[misc]


def _walk_tar(source: Path) -> Iterator[RawFile]:
    with _damage_named(source), tarfile.open(source) as archive:
        for info in archive:
            _check_inside(info.name, source)
            if info.isdir():
                continue
            file = archive.extractfile(info) if info.isreg() else None
            if file is None:
                raise InputError(
                    f"{source.name}: expected plain files, got {info.name}, a link or device; pack real files"
                )
            yield info.name, info.size, file.read
        _check_end(archive)


def _check_end(archive: tarfile.TarFile) -> None:
    """See that a walk ended at the end mark: ``tarfile`` also stops, in silence, at a cut or damaged header."""
    stream = archive.fileobj
    assert stream is not None
    whole = stream.tell() == archive.offset + tarfile.BLOCKSIZE
    while whole and (block := stream.read(1 << 20)):
        whole = not block.strip(b"\0")
    if not whole:
        raise tarfile.ReadError(f"no end of archive where one was due, at byte {archive.offset:,}")


@contextlib.contextmanager
def _damage_named(source: Path) -> Iterator[None]:
    try:
        yield
    except (*DAMAGE, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # of the disk; gzip and bzip2 raise it without
            raise
        reason = str(error).partition("\n")[0] or type(error).__name__
        expected = f"expected {source.name} to be a whole .tar, .tar.gz, .tar.xz or .zip archive"
        raise InputError(f"{expected}, got: {reason}; fetch or pack it again") from error


def _check_inside(path: str, source: Path) -> None:
    if path.startswith("/") or "\\" in path or ".." in PurePosixPath(path).parts:
        raise InputError(f"{source.name}: expected members inside the archive, got {path!r}; do not trust this file")


def _is_image(path: str) -> bool:
    """Whether a file is an image by its suffix, and neither hidden nor in a hidden folder."""
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in PurePosixPath(path).parts)
    return not hidden and PurePosixPath(path).suffix.lower() in IMAGE_SUFFIXES
