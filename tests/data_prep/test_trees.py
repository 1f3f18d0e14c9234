from __future__ import annotations

import bz2
import gzip
import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from data_prep import trees
from data_prep.errors import InputError
from data_prep.trees import walk_tree

SUFFIXES = [".tar", ".tar.gz", ".tar.xz", ".tar.bz2", ".zip"]
Pack = Callable[[Path, str], Path]
Write = Callable[..., Path]


def write_tar(archive: Path, *members: tuple[str, bytes]) -> Path:
    with tarfile.open(archive, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return archive


def write_folder(folder: Path, *members: tuple[str, bytes]) -> Path:
    for name, data in members:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


WRITERS = pytest.mark.parametrize("write", [write_tar, write_folder])


def read_all(source: Path) -> dict[tuple[str, str, str], bytes]:
    return {key: file.read() for key, file in walk_tree(source)}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_archive_holds_what_the_folder_holds(tree: Path, pack: Pack, suffix: str) -> None:
    expected = read_all(tree)
    assert len(expected) == 10
    assert ("train", "apple", "0.png") in expected
    assert read_all(pack(tree, suffix)) == expected


@WRITERS
def test_folders_around_the_tree_do_not_matter(tmp_path: Path, write: Write) -> None:
    archive = write(tmp_path / "a.tar", ("set/v1/train/cat/1.jpg", b"1"), ("set/v1/test/cat/1.jpg", b"2"))
    assert read_all(archive) == {("train", "cat", "1.jpg"): b"1", ("test", "cat", "1.jpg"): b"2"}


@WRITERS
def test_hidden_files_and_other_files_are_passed_over(tmp_path: Path, write: Write) -> None:
    names = ("README.md", "train/cat/notes.txt", "train/cat/._1.jpg", ".cache/x/y/1.jpg", "__MACOSX/train/cat/1.jpg")
    archive = write(tmp_path / "a.tar", *((name, b"") for name in names), ("train/cat/1.JPEG", b"1"))
    assert list(read_all(archive)) == [("train", "cat", "1.JPEG")]


@pytest.mark.parametrize(
    "name", ["../train/cat/1.jpg", "train/cat/../../../1.jpg", "/train/cat/1.jpg", "train\\cat\\1.jpg"]
)
def test_members_that_point_outside_are_refused_by_name(tmp_path: Path, name: str) -> None:
    write_tar(tmp_path / "a.tar", ("train/cat/0.jpg", b""), (name, b""))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(name, b"")
    for source in ("a.tar", "a.zip"):
        with pytest.raises(InputError, match=r"expected members inside the archive, got '.*1\.jpg'"):
            read_all(tmp_path / source)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_are_refused_by_name(tmp_path: Path, kind: bytes) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        info = tarfile.TarInfo("train/cat/1.jpg")
        info.type, info.linkname = kind, "/etc/passwd"
        tar.addfile(info)
    with pytest.raises(InputError, match=r"got train/cat/1\.jpg, a link or device"):
        read_all(tmp_path / "a.tar")


@WRITERS
@pytest.mark.parametrize(
    "names",
    [("1.jpg",), ("a/train/cat/1.jpg", "b/test/cat/1.jpg"), ("test/cat/1.jpg", "train/cat/more/2.jpg")],
)
def test_images_outside_split_and_class_are_refused(tmp_path: Path, write: Write, names: tuple[str, ...]) -> None:
    archive = write(tmp_path / "a.tar", *((name, b"") for name in names))
    with pytest.raises(InputError, match=f"or <split>/<class>/<file>, got {names[-1]}"):
        read_all(archive)


def test_huge_files_are_refused_before_they_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trees, "MAX_FILE_BYTES", 10)
    for write in (write_tar, write_folder):
        source = write(tmp_path / write.__name__, ("train/cat/1.jpg", bytes(11)))
        with pytest.raises(InputError, match=r"at most 10 bytes, got train/cat/1\.jpg with 11"):
            read_all(source)


def test_a_folder_may_hold_huge_files_beside_its_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trees, "MAX_FILE_BYTES", 10)
    folder = write_folder(tmp_path / "a", ("train.zip", bytes(11)), (".git/pack", bytes(11)), ("train/cat/1.jpg", b"1"))
    assert list(read_all(folder)) == [("train", "cat", "1.jpg")]


def test_linked_folders_count_as_folders(tmp_path: Path) -> None:
    stored = write_folder(tmp_path / "stored", ("train/cat/1.jpg", b"1"))
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "train").symlink_to(stored / "train")
    assert read_all(tmp_path / "a") == {("train", "cat", "1.jpg"): b"1"}


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("kept", [0.3, 0.7])
def test_truncated_archives_are_refused(tree: Path, pack: Pack, suffix: str, kept: float) -> None:
    archive = pack(tree, suffix)
    data = archive.read_bytes()
    archive.write_bytes(data[: int(kept * len(data.rstrip(b"\0")))])
    with pytest.raises(InputError, match=r"expected tree\..* to be a whole"):
        read_all(archive)


@pytest.mark.parametrize("suffix", [".tar.gz", ".tar.xz", ".zip"])
def test_damaged_archives_are_refused(tree: Path, pack: Pack, suffix: str) -> None:
    archive = pack(tree, suffix)
    data = bytearray(archive.read_bytes())
    for position in range(len(data) // 3, len(data) // 3 + 40):
        data[position] ^= 0xFF
    archive.write_bytes(data)
    with pytest.raises(InputError, match="fetch or pack it again"):
        read_all(archive)


def test_bzip2_damaged_behind_the_last_file_is_refused(tree: Path, pack: Pack) -> None:
    archive = pack(tree, ".tar.bz2")
    more = bytearray(bz2.compress(bytes(1 << 20)))
    more[12] ^= 0xFF
    archive.write_bytes(archive.read_bytes() + more)  # raises an OSError without a number
    with pytest.raises(InputError, match="fetch or pack it again"):
        read_all(archive)


@pytest.mark.parametrize("n_blocks", range(1, 9))
def test_a_tar_cut_at_any_block_is_refused(tmp_path: Path, n_blocks: int) -> None:
    archive = write_tar(tmp_path / "a.tar", *((f"train/cat/{number}.jpg", b"data") for number in range(4)))
    archive.write_bytes(archive.read_bytes()[: n_blocks * tarfile.BLOCKSIZE])
    with pytest.raises(InputError, match=r"expected a\.tar to be a whole"):
        read_all(archive)


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_a_damaged_header_is_not_taken_for_the_end(tmp_path: Path, suffix: str) -> None:
    archive = write_tar(tmp_path / "a.tar", *((f"train/cat/{number}.jpg", b"data") for number in range(4)))
    data = bytearray(archive.read_bytes())
    data[2 * tarfile.BLOCKSIZE] ^= 0xFF
    damaged = tmp_path / f"damaged{suffix}"
    damaged.write_bytes(gzip.compress(data) if suffix == ".tar.gz" else data)
    with pytest.raises(InputError, match="no end of archive where one was due"):
        read_all(damaged)


def test_other_files_and_missing_ones_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.tar").write_text("no archive")
    with pytest.raises(InputError, match=r"expected text\.tar to be a whole"):
        read_all(tmp_path / "text.tar")
    with pytest.raises(InputError, match=r"got .*missing, which is neither"):
        read_all(tmp_path / "missing")


def test_links_that_lead_back_are_not_followed(tmp_path: Path) -> None:
    """A folder that links to the one it lies in, and two that link to each other: every image once on every way."""
    tree = write_folder(tmp_path / "tree", ("train/cat/1.jpg", b"x"), ("train/dog/2.jpg", b"y"))
    (tree / "train" / "cat" / "up").symlink_to(tree)
    assert [file.path for _, file in walk_tree(tree)] == ["train/cat/1.jpg", "train/dog/2.jpg"]
    (tree / "train" / "cat" / "up").unlink()
    (tree / "train" / "cat" / "other").symlink_to(tree / "train" / "dog")
    (tree / "train" / "dog" / "other").symlink_to(tree / "train" / "cat")
    with pytest.raises(InputError, match=r"got train/cat/other/2\.jpg; rearrange the tree"):
        list(walk_tree(tree))
