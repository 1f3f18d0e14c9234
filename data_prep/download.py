"""Data sets that can be downloaded: resumed after an interruption, checked, unpacked, in place only when complete."""

from __future__ import annotations

import http.client
import shutil
import ssl
import tarfile
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from data_prep.archives_c import FOLDERS, count_all, find_archive_c
from data_prep.cifar import RELEASES
from data_prep.errors import InputError, PrerequisiteError, check_choice
from data_prep.files import check_md5, check_space, digest_of
from data_prep.progress import make_bar

TIMEOUT_SECONDS = 30.0
BLOCK_BYTES = 1 << 20


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
    check_choice(name, REMOTES, "something to download")
    remote = REMOTES[name]
    if name in FOLDERS and (archive := find_archive_c(name, data_dir)) is not None:
        list(count_all(archive))
        return archive.folder
    fetch(remote.url, data_dir / remote.file, md5=remote.md5, unpacked=remote.folder is not None, progress=progress)
    if remote.folder is None:
        return data_dir / remote.file
    unpack_folder(data_dir / remote.file, data_dir / remote.folder)
    return data_dir / remote.folder


def fetch(url: str, target: Path, *, md5: str, unpacked: bool = False, progress: bool = False) -> None:
    """Download ``url`` to ``target`` unless it is already there.

    The bytes go to ``<target>.part``, from which the next call resumes; the file is renamed once its checksum is right.

    md5: the published checksum (hex). progress: show a progress bar.
    unpacked: require twice the space, because the archive will be unpacked next to it.
    Raises: PrerequisiteError without a network (with the manual steps), when the connection ends early, and when the
        disk is too small; InputError for a file with another checksum.
    """
    if target.is_file():
        check_md5(target, md5)
        return
    part = target.with_name(f"{target.name}.part")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        _receive(url, part, unpacked=unpacked, progress=progress)
    except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError) as error:
        raise PrerequisiteError(
            f"expected an answer from {url}, got: {error}; run the same command again, or fetch the file on another "
            f"machine, put it at {target} (MD5 {md5}) and run the same command"
        ) from error
    if (got := digest_of(part, "md5")) != md5:
        part.unlink()
        raise InputError(f"expected MD5 {md5} of {url}, got {got}; it was removed, run the same command again")
    part.replace(target)


def _receive(url: str, part: Path, *, unpacked: bool, progress: bool) -> None:
    """Append the missing bytes to ``part``; a server that cannot resume sends the whole file again."""
    start = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and start:
            return  # nothing is missing; the checksum decides
        raise
    with response:
        if response.status != http.HTTPStatus.PARTIAL_CONTENT:
            start = 0
        length = response.headers.get("Content-Length")
        total = None if length is None else start + int(length)
        check_space(part.parent, 0 if total is None else total - start + unpacked * total)
        bar = make_bar(initial=start, total=total, desc=part.stem, unit="B", unit_scale=True, quiet=not progress)
        with part.open("ab" if start else "wb") as file, bar:
            while block := response.read(BLOCK_BYTES):
                file.write(block)
                bar.update(len(block))
            received = file.tell()
    if total is not None and received < total:
        got = f"{received:,} of {total:,} bytes"
        raise PrerequisiteError(f"expected all of {url}, got {got}; run the same command again to resume")


def unpack_folder(archive: Path, folder: Path) -> None:
    """Unpack ``archive``, which holds one folder with the name of ``folder``, to ``folder``.

    It is unpacked next to its final place and renamed at the end: the folder is complete or absent.

    Raises: InputError for a damaged archive, a member outside the folder, a link that leaves it, or a device;
        PrerequisiteError when the disk is too small.
    """
    work = folder.with_name(f".{folder.name}.unpacking")
    shutil.rmtree(work, ignore_errors=True)
    try:
        with tarfile.open(archive) as tar:
            members = tar.getmembers()
            for member in members:
                if Path(member.name).parts[:1] != (folder.name,):
                    raise InputError(f"expected only {folder.name}/ in {archive}, got {member.name!r}; do not trust it")
            check_space(folder.parent, sum(member.size for member in members))
            tar.extractall(work, members, filter="data")
        (work / folder.name).replace(folder)
    except (tarfile.TarError, EOFError, FileNotFoundError) as error:
        raise InputError(
            f"expected a whole archive of {folder.name}/ in {archive}, got: {error}; fetch it again"
        ) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
