"""Downloads of large files: resumed after an interruption, checked, and in place only when complete."""

from __future__ import annotations

import http.client
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from data_prep.disk import check_md5, check_space, digest_of
from data_prep.errors import InputError, PrerequisiteError
from data_prep.progress import make_bar

TIMEOUT_SECONDS = 30.0
BLOCK_BYTES = 1 << 20


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
    with _network_trouble_named(url, target, md5):
        _receive(url, part, unpacked=unpacked, progress=progress)
    if (got := digest_of(part, "md5")) != md5:
        part.unlink()
        raise InputError(f"expected MD5 {md5} of {url}, got {got}; what came was removed, run the same command again")
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


@contextmanager
def _network_trouble_named(url: str, target: Path, md5: str) -> Iterator[None]:
    try:
        yield
    except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError) as error:
        raise PrerequisiteError(
            f"expected an answer from {url}, got: {error}; run the same command again, or fetch the file on another "
            f"machine, put it at {target} (MD5 {md5}) and run the same command"
        ) from error
