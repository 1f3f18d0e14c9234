"""Files and folders: written whole or not at all, names, checksums, free space."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from data_prep.errors import InputError, PrerequisiteError

_LEFT_BY_SYSTEMS = frozenset({"__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"})
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
_LONGEST_NAME = 100
"""Length in bytes; file systems allow 255, and names get a prefix and a suffix."""
_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
"""Names that Windows reserves for devices, whatever their suffix."""


UNFINISHED = ".writing-"
"""Prefix of the temporary folders of :func:`replacing`."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Replace ``path`` by the file that the ``with`` block writes to the temporary path it is given.

    An error or a kill leaves ``path`` unchanged. A missing folder is created.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=UNFINISHED, ignore_cleanup_errors=True) as folder:
        temporary = Path(folder) / path.name
        yield temporary
        temporary.replace(path)


def remove_unfinished(folder: Path, *prefixes: str) -> None:
    """Remove temporary files of :func:`replacing`, and files with ``prefixes``, that killed processes have left."""
    for leftover in folder.glob(".*"):
        if leftover.name.startswith((UNFINISHED, *prefixes)):
            shutil.rmtree(leftover)


@contextmanager
def locked(path: Path, busy: str = "") -> Iterator[None]:
    """Make other processes that lock ``path`` wait during the block; its folder must exist.

    The lock is the operating system's and ends with the process, however that ends. A file system without locks does
    not stop other processes; a warning says so.

    busy: the message for the user if another process holds the lock; without one, wait for it.
    Raises: InputError with ``busy``.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(path)
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if busy:
                raise InputError(busy) from None
            print(f"note: waiting for another process that writes to {path.parent}", file=sys.stderr)
            lock.acquire()
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
            raise
        print(f"warning: {path.parent} has no locks ({error}); let nothing else write to it", file=sys.stderr)
    try:
        yield
    finally:
        lock.release()


def as_file_name(text: str) -> str:
    """Turn ``text`` into a file name that is valid on every system; different texts get different names.

    Everything but letters, digits and ``. _ + = @ -`` becomes ``_``. Eight digits of the text's SHA-256 are appended if
    it was changed, is longer than 100 bytes, or names a device or is altered on Windows (``nul``, ``a.``).
    """
    name = re.sub(r"[^\w.+=@-]", "_", text)
    short = name.encode()[:_LONGEST_NAME].decode(errors="ignore")
    is_usable = short == text and text and not text.endswith(".") and not _DEVICE.fullmatch(text)
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:8]
    return text if is_usable else f"{short.rstrip('.')}-{digest}"


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def is_hidden(name: str) -> bool:
    """Tell whether the operating system left a file or folder behind: ``.DS_Store``, ``._x``, ``Thumbs.db``."""
    return name.startswith(".") or name.lower() in _LEFT_BY_SYSTEMS


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


def check_folder(folder: Path) -> None:
    """Check that ``folder`` of the option ``--out`` can be created or written, before hours of work depend on it.

    Raises: InputError when it cannot.
    """
    there = next(path for path in (folder, *folder.parents) if path.exists() or path.is_symlink())
    if not there.is_dir():
        raise InputError(f"expected a folder, got {there}, which is not one; choose another --out")
    if not os.access(there, os.W_OK | os.X_OK):
        raise InputError(
            f"expected a folder that can be written, got {there}; choose another --out or change its permissions"
        )
