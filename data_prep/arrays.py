"""Arrays on disk: ``.npy`` files as read-only memory maps, ``.npz`` archives written whole or not at all."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from data_prep.errors import InputError
from data_prep.files import check_space, replacing


def map_array(path: Path) -> NDArray[Any]:
    """Map the array in ``path`` read-only.

    Raises: InputError, with the path, for a file that is missing, truncated, not an array or holds Python objects.
    """
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise InputError(f"expected an array in {path}, got no such file; import or download the data again") from error
    except OSError:
        raise
    except Exception as error:  # a damaged header raises a variety of errors
        raise InputError(
            f"expected a whole array in {path}, got a damaged or other file; import or download the data again"
        ) from error
    if not isinstance(array, np.memmap):
        raise InputError(f"expected a .npy array in {path}, got another format; import or download the data again")
    return array


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]], *, compressed: bool = True) -> None:
    """Store named arrays as ``.npz``, whole or not at all."""
    method = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w", method) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)


def read_arrays(path: Path, *, most: int) -> dict[str, NDArray[Any]] | None:
    """Read arrays that :func:`write_arrays` stored. Every array is checked against its checksum; none is unpickled.

    most: the largest total size, in bytes, that the file may unpack to.
    Returns: None if the file is absent, damaged or larger than ``most``.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > most:
                return None
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except Exception:  # a damaged archive raises a variety of errors; all of them mean that nothing can be read
        return None


def is_whole_archive(path: Path) -> bool:
    """Check that ``path`` is a ``.npz`` (any ZIP) whose members all match their checksums; keep nothing in memory."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except Exception:  # a damaged archive raises a variety of errors
        return False


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
