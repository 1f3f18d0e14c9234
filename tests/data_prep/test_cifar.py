from __future__ import annotations

import hashlib
import pickle
import struct
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hostile import Call

from data_prep import cifar, load_images
from data_prep.errors import InputError
from data_prep.unpickle import unpickle_batch

ARRAY = np.random.default_rng(0).integers(0, 256, (4, 3072), dtype=np.uint8)


def python2_pickle(value: Any) -> bytes:
    """Pickle as Python 2 and its NumPy did for the official batches: protocol 2, byte strings, integer flags."""
    return b"\x80\x02" + _opcodes(value) + b"."


def _opcodes(value: Any) -> bytes:
    match value:
        case dict():
            return b"(" + b"".join(_opcodes(key) + _opcodes(item) for key, item in value.items()) + b"d"
        case list():
            return b"(" + b"".join(map(_opcodes, value)) + b"l"
        case str():
            return _opcodes(value.encode())
        case bytes():
            return b"T" + struct.pack("<I", len(value)) + value
        case int():
            return b"J" + struct.pack("<i", value)
        case np.ndarray():
            dtype = b"cnumpy\ndtype\n(" + _opcodes("u1") + _opcodes(0) + _opcodes(1) + b"tR"
            dtype += b"(" + _opcodes(3) + _opcodes("|") + b"NNN" + _opcodes(-1) + _opcodes(-1) + _opcodes(0) + b"tb"
            blank = (
                b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n("
                + _opcodes(0)
                + b"t"
                + _opcodes("b")
                + b"tR"
            )
            shape = b"(" + b"".join(map(_opcodes, value.shape)) + b"t"
            return blank + b"(" + _opcodes(1) + shape + dtype + b"I00\n" + _opcodes(value.tobytes()) + b"tb"
    raise TypeError(type(value))


def test_python_2_batches_are_read() -> None:
    batch = unpickle_batch(python2_pickle({"data": ARRAY, "labels": [1, 2], "batch_label": "one"}), "batch")
    assert np.array_equal(batch["data"], ARRAY)
    assert batch["labels"] == [1, 2]
    assert batch["batch_label"] == "one"


def test_integer_flags_of_a_dtype_are_taken_for_booleans() -> None:
    flags, warned_about = (_opcodes(align) + _opcodes(1) + b"tR" for align in (0, 1))
    data = python2_pickle({"data": ARRAY})
    assert flags in data
    assert np.array_equal(unpickle_batch(data.replace(flags, warned_about), "batch")["data"], ARRAY)


def test_batches_written_today_are_read() -> None:
    assert np.array_equal(unpickle_batch(pickle.dumps({"data": ARRAY}, protocol=3), "batch")["data"], ARRAY)


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_pickle_that_calls_something_is_refused_and_not_run(tmp_path: Path, protocol: int) -> None:
    hostile = {"data": Call(Path.touch, tmp_path / "touched"), "labels": Call(eval, "1 + 1")}
    for value in (hostile, {"labels": hostile["labels"]}):
        with pytest.raises(InputError, match="expected a CIFAR batch in data_batch_1, got a call of"):
            unpickle_batch(pickle.dumps(value, protocol=protocol), "data_batch_1")
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize(
    "name", ["numpy\nload", "numpy\nfromfile", "builtins\ngetattr", "numpy.core.multiarray\nscalar"]
)
def test_only_arrays_are_admitted_of_numpy(name: str) -> None:
    with pytest.raises(InputError, match=f"got a call of {name.replace(chr(10), '.')}"):
        unpickle_batch(b"\x80\x02c" + name.encode() + b"\n.", "batch")


@pytest.mark.parametrize("data", [b"", b"\x80\x02", python2_pickle({"data": ARRAY})[:500], b"junk", b"\x80\x02R."])
def test_damaged_pickles_are_refused(data: bytes) -> None:
    with pytest.raises(InputError, match=r"expected .* in batch"):
        unpickle_batch(data, "batch")


def test_a_pickle_of_something_else_is_refused() -> None:
    with pytest.raises(InputError, match="expected a dictionary in batch, got list"):
        unpickle_batch(python2_pickle([1]), "batch")


@pytest.fixture
def official(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with a small cifar10 in the official layout, archive and folder, and its checksums as published."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    release = cifar.RELEASES["cifar10"]
    for number, name in enumerate((*release.batches["train"], *release.batches["test"])):
        batch = {"data": np.roll(ARRAY, number), "labels": [number, 1, 2, 3], "batch_label": name}
        (folder / name).write_bytes(python2_pickle(batch))
    (folder / release.meta).write_bytes(python2_pickle({"label_names": [f"class {label}" for label in range(10)]}))
    with tarfile.open(tmp_path / release.archive, "w:gz") as archive:
        archive.add(folder, arcname=folder.name)
    md5s = {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    archive_md5 = hashlib.md5((tmp_path / release.archive).read_bytes()).hexdigest()
    small = replace(release, md5s=md5s, archive_md5=archive_md5, counts={"train": 20, "test": 4})
    monkeypatch.setitem(cifar.RELEASES, "cifar10", small)
    return tmp_path


def drop_folder(data_dir: Path) -> None:
    folder = data_dir / "cifar-10-batches-py"
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


def test_archive_and_folder_give_the_same_images(official: Path) -> None:
    from_folder = {split: load_images("cifar10", split, official) for split in ("train", "test")}
    drop_folder(official)
    for split, images in from_folder.items():
        assert load_images("cifar10", split, official).fingerprint == images.fingerprint
    train = from_folder["train"]
    assert (train.title, train.classes[3], len(train), len(from_folder["test"])) == ("cifar10", "class 3", 20, 4)
    assert train.labels.tolist() == [label for number in range(5) for label in (number, 1, 2, 3)]


def test_planes_become_channels(official: Path) -> None:
    images = load_images("cifar10", "test", official)
    planes = np.roll(ARRAY, 5)[2]
    assert np.array_equal(images.pixels[2, 7, 9], [planes[7 * 32 + 9 + 1024 * channel] for channel in range(3)])


def test_another_archive_is_refused(official: Path) -> None:
    drop_folder(official)
    with (official / "cifar-10-python.tar.gz").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(InputError, match=r"expected MD5 [0-9a-f]{32} of .*cifar-10-python\.tar\.gz, got [0-9a-f]{32}"):
        load_images("cifar10", "test", official)


def test_another_batch_is_refused_before_it_is_read(official: Path) -> None:
    (official / "cifar-10-batches-py" / "test_batch").write_bytes(pickle.dumps(Call(eval, "1 / 0")))
    with pytest.raises(InputError, match=r"expected MD5 .* of .*test_batch"):
        load_images("cifar10", "test", official)
    load_images("cifar10", "train", official)


def test_a_missing_batch_is_named(official: Path) -> None:
    (official / "cifar-10-batches-py" / "data_batch_3").unlink()
    with pytest.raises(InputError, match="expected data_batch_3 in"):
        load_images("cifar10", "train", official)


def test_an_archive_without_a_batch_is_refused(official: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drop_folder(official)
    release = cifar.RELEASES["cifar10"]
    monkeypatch.setitem(
        cifar.RELEASES, "cifar10", replace(release, batches={"train": ("data_batch_9",)}, counts={"train": 4})
    )
    with pytest.raises(InputError, match=r"expected data_batch_9 in .*, got no such member"):
        load_images("cifar10", "train", official)


def test_a_batch_without_labels_is_refused(official: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cifar.RELEASES, "cifar10", replace(cifar.RELEASES["cifar10"], labels_key="fine_labels"))
    with pytest.raises(InputError, match="expected the layout of cifar10"):
        load_images("cifar10", "test", official)
