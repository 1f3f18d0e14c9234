"""Data sets that can be downloaded: their addresses, checksums and places in the data folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from data_prep.archives_c import FOLDERS, count_all, find_archive_c
from data_prep.cifar import RELEASES
from data_prep.download import fetch
from data_prep.errors import InputError
from data_prep.unpack import unpack_folder


@dataclass(frozen=True, kw_only=True)
class Remote:
    """A published file.

    url: its address. file: its name in the data folder. md5: its published checksum.
    folder: the folder to unpack it to, None for a file that is read as it is.
    """

    url: str
    file: str
    md5: str
    folder: str | None = None


REMOTES = {
    "cifar10": Remote(
        url="https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        file=RELEASES["cifar10"].archive,
        md5=RELEASES["cifar10"].archive_md5,
    ),
    "cifar100": Remote(
        url="https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
        file=RELEASES["cifar100"].archive,
        md5=RELEASES["cifar100"].archive_md5,
    ),
    "cifar10c": Remote(
        url="https://zenodo.org/records/2535967/files/CIFAR-10-C.tar?download=1",
        file="CIFAR-10-C.tar",
        md5="56bf5dcef84df0e2308c6dcbcbbd8499",
        folder=FOLDERS["cifar10c"],
    ),
    "cifar100c": Remote(
        url="https://zenodo.org/records/3555552/files/CIFAR-100-C.tar?download=1",
        file="CIFAR-100-C.tar",
        md5="11f0ed0f1191edbf9fa23466ae6021d3",
        folder=FOLDERS["cifar100c"],
    ),
}


def download_data(name: str, data_dir: Path, *, progress: bool = False) -> Path:
    """Download a data set into ``data_dir``, and unpack it if it is read unpacked.

    Returns: the file or folder to read. Data that is already there is checked and kept.
    Raises: InputError for an unknown name and for a folder in its place with other content; as ``fetch`` and
        ``unpack_folder``.
    """
    if name not in REMOTES:
        raise InputError(f"expected something to download ({', '.join(REMOTES)}), got {name!r}")
    remote = REMOTES[name]
    if name in FOLDERS and (archive := find_archive_c(name, data_dir)) is not None:
        list(count_all(archive))
        return archive.folder
    fetch(remote.url, data_dir / remote.file, md5=remote.md5, unpacked=remote.folder is not None, progress=progress)
    if remote.folder is None:
        return data_dir / remote.file
    unpack_folder(data_dir / remote.file, data_dir / remote.folder)
    return data_dir / remote.folder
