from __future__ import annotations

import hashlib
import http.server
import io
import shutil
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from data_prep import download
from data_prep.cifar_c import CifarC
from data_prep.corruptions import corruption_names
from data_prep.download import fetch
from data_prep.errors import InputError, PrerequisiteError

CONTENT = np.random.default_rng(0).bytes(3_000_000)
MD5 = hashlib.md5(CONTENT).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Serves ``content`` under every path; ``ranges``: can resume; ``cut``: bytes after which it hangs up."""

    content = CONTENT
    ranges = True
    cut: int | None = None

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str | None] = []

    def handle_error(self, *_: object) -> None:
        """A client that hangs up is part of the test."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/file.bin"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self.headers["Range"]
        self.server.asked.append(asked)
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and self.server.ranges else 0
        content = self.server.content
        if start and start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start : self.server.cut])

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data" / "file.bin"


def part_of(target: Path) -> Path:
    return target.with_name("file.bin.part")


def test_a_file_arrives_whole(server: Server, target: Path) -> None:
    fetch(server.url, target, md5=MD5)
    assert target.read_bytes() == CONTENT
    assert [path.name for path in target.parent.iterdir()] == ["file.bin"]


def test_a_file_that_is_there_is_checked_and_not_fetched(server: Server, target: Path) -> None:
    target.write_bytes(CONTENT)
    fetch(server.url, target, md5=MD5)
    assert server.asked == []
    target.write_bytes(CONTENT[:-1])
    with pytest.raises(InputError, match=rf"expected MD5 {MD5} of .*file\.bin, got .*; remove it"):
        fetch(server.url, target, md5=MD5)


def test_a_connection_that_ends_early_is_gone_on_from(server: Server, target: Path) -> None:
    server.cut = 1_000_000
    with pytest.raises(PrerequisiteError, match=r"got 1,000,000 of 3,000,000 bytes; run the same command again"):
        fetch(server.url, target, md5=MD5)
    assert not target.exists()
    assert part_of(target).stat().st_size == 1_000_000
    server.cut = None
    fetch(server.url, target, md5=MD5)
    assert server.asked == [None, "bytes=1000000-"]
    assert target.read_bytes() == CONTENT
    assert not part_of(target).exists()


def test_a_server_that_cannot_resume_sends_everything_again(server: Server, target: Path) -> None:
    server.ranges = False
    part_of(target).write_bytes(b"x" * 1000)
    fetch(server.url, target, md5=MD5)
    assert target.read_bytes() == CONTENT


def test_a_part_that_is_whole_is_taken(server: Server, target: Path) -> None:
    part_of(target).write_bytes(CONTENT)
    fetch(server.url, target, md5=MD5)
    assert target.read_bytes() == CONTENT


def test_a_wrong_checksum_leaves_nothing(server: Server, target: Path) -> None:
    with pytest.raises(InputError, match=rf"expected MD5 {'0' * 32} of http://.*, got {MD5}"):
        fetch(server.url, target, md5="0" * 32)
    assert list(target.parent.iterdir()) == []


def test_a_wrong_part_is_not_gone_on_from_for_ever(server: Server, target: Path) -> None:
    part_of(target).write_bytes(b"x" * 1000)
    with pytest.raises(InputError, match="expected MD5"):
        fetch(server.url, target, md5=MD5)
    fetch(server.url, target, md5=MD5)
    assert target.read_bytes() == CONTENT


def test_without_a_network_the_steps_by_hand_are_told(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with pytest.raises(PrerequisiteError, match=rf"on another machine, put it at .*file\.bin \(MD5 {MD5}\)"):
        fetch("http://127.0.0.1:9/file.bin", target, md5=MD5)
    assert not target.exists()


def test_a_small_disk_is_noticed_before_the_bytes_come(
    server: Server, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=len(CONTENT) - 1))
    with pytest.raises(PrerequisiteError, match="free some space"):
        fetch(server.url, target, md5=MD5)
    assert not part_of(target).exists()


def archive_c(*extra: tarfile.TarInfo) -> bytes:
    """A small CIFAR-10-C.tar, and what else is to be in it."""
    buffer = io.BytesIO()
    arrays = {name: np.zeros((10, 32, 32, 3), np.uint8) for name in corruption_names("all")} | {"labels": np.arange(2)}
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, array in arrays.items():
            data = io.BytesIO()
            np.save(data, array)
            info = tarfile.TarInfo(f"CIFAR-10-C/{name}.npy")
            info.size = len(data.getvalue())
            tar.addfile(info, io.BytesIO(data.getvalue()))
        for info in extra:
            tar.addfile(info)
    return buffer.getvalue()


def serve(server: Server, content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    server.content = content
    there = download.Remote(
        url=server.url, file="CIFAR-10-C.tar", md5=hashlib.md5(content).hexdigest(), folder="CIFAR-10-C"
    )
    monkeypatch.setitem(download.REMOTES, "cifar10c", there)


def test_a_corrupted_set_is_unpacked_once(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(server, archive_c(), monkeypatch)
    folder = download.download_data("cifar10c", tmp_path)
    assert CifarC(folder).load("fog", 2)[1].tolist() == [0, 1]
    assert {path.name for path in tmp_path.iterdir()} == {"CIFAR-10-C", "CIFAR-10-C.tar"}
    assert download.download_data("cifar10c", tmp_path) == folder
    assert len(server.asked) == 1
    (folder / "fog.npy").unlink()
    with pytest.raises(InputError, match=r"expected every corruption in .*, got none of fog; remove the folder"):
        download.download_data("cifar10c", tmp_path)
    np.save(folder / "fog.npy", np.zeros((3, 32, 32, 3), np.uint8))
    with pytest.raises(InputError, match=r"expected uint8 \(5N, 32, 32, 3\) in .*fog\.npy"):
        download.download_data("cifar10c", tmp_path)


def test_an_archive_needs_room_to_be_unpacked_before_it_comes(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = archive_c()
    serve(server, content, monkeypatch)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2 * len(content) - 1))
    with pytest.raises(PrerequisiteError, match="free some space"):
        download.download_data("cifar10c", tmp_path)
    assert list(tmp_path.iterdir()) == []


def hostile(name: str, *, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


@pytest.mark.parametrize(
    "member",
    [
        hostile("../escaped"),
        hostile("/escaped"),
        hostile("CIFAR-10-C/../../escaped"),
        hostile("CIFAR-10-C/link", kind=tarfile.SYMTYPE, link="/etc"),
        hostile("CIFAR-10-C/device", kind=tarfile.CHRTYPE),
        hostile("elsewhere/file"),
    ],
    ids=lambda member: member.name,
)
def test_hostile_archives_leave_nothing(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, member: tarfile.TarInfo
) -> None:
    serve(server, archive_c(member), monkeypatch)
    with pytest.raises(InputError, match=r"expected .*CIFAR-10-C"):
        download.download_data("cifar10c", tmp_path / "data")
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["CIFAR-10-C.tar"]
    assert not (tmp_path / "data" / "CIFAR-10-C").exists()


def test_other_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected something to download \(cifar10, .*\), got 'imagenet'"):
        download.download_data("imagenet", tmp_path)
