from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from hostile import Call

from data_prep.archives_c import find_archive_c
from data_prep.cifar_c import CifarC
from data_prep.errors import InputError

N = 4


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small CIFAR-10-C with two corruptions, labels of length 5N."""
    folder = tmp_path / "CIFAR-10-C"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("fog", "frost"):
        np.save(folder / f"{name}.npy", rng.integers(0, 256, (5 * N, 32, 32, 3), dtype=np.uint8))
    np.save(folder / "labels.npy", np.tile(np.array([3, 1, 0, 9], np.uint8), 5))
    return folder


def test_severities_are_the_blocks_of_the_file(folder: Path) -> None:
    whole = np.load(folder / "fog.npy")
    for severity in range(1, 6):
        pixels, labels = CifarC(folder).load("fog", severity)
        assert np.array_equal(pixels, whole[(severity - 1) * N : severity * N])
        assert labels.tolist() == [3, 1, 0, 9]
        assert labels.dtype == np.int64
    assert isinstance(pixels, np.memmap)


def test_a_fingerprint_is_of_the_bytes_of_a_file(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    first = CifarC(folder)
    assert first.fingerprint("fog", 1) == first.fingerprint("fog", 5) == CifarC(copy).fingerprint("fog", 1)
    assert first.fingerprint("fog", 1) != first.fingerprint("frost", 1)
    np.save(copy / "fog.npy", 255 - np.load(copy / "fog.npy"))
    assert CifarC(copy).fingerprint("fog", 1) != first.fingerprint("fog", 1)


def test_labels_of_length_n_are_the_same_for_every_severity(folder: Path) -> None:
    np.save(folder / "labels.npy", np.array([3, 1, 0, 9], np.int32))
    assert CifarC(folder).load("fog", 5)[1].tolist() == [3, 1, 0, 9]


def test_folders_are_found_by_name(folder: Path) -> None:
    assert find_archive_c("cifar10c", folder.parent) == CifarC(folder)
    assert find_archive_c("cifar100c", folder.parent) is None
    assert CifarC(folder).corruptions() == ("fog", "frost")
    (folder / "manifest.json").write_text("{}")
    with pytest.raises(InputError, match=r"got a set that was generated here.*call it CIFAR-10-C-generated"):
        find_archive_c("cifar10c", folder.parent)
    with pytest.raises(InputError, match=r"expected a -C archive \(cifar10c, .*\) or its folder, got 'cifar10'"):
        find_archive_c("cifar10", folder.parent)


@pytest.mark.parametrize("corruption", ["snow", "labels", "../CIFAR-10-C/fog", ""])
def test_other_corruptions_are_refused(folder: Path, corruption: str) -> None:
    for ask in (CifarC(folder).load, CifarC(folder).fingerprint):
        with pytest.raises(InputError, match=rf"expected a file {corruption}\.npy in .*, got only fog, frost"):
            ask(corruption, 1)


def test_an_empty_folder_is_said_to_be_empty(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"fog\.npy in .*, got no corruption at all; remove .* and get it again"):
        CifarC(tmp_path).load("fog", 1)


@pytest.mark.parametrize("severity", [0, 6, -1])
def test_other_severities_are_refused(folder: Path, severity: int) -> None:
    with pytest.raises(InputError, match=f"expected a severity from 1 to 5, got {severity}"):
        CifarC(folder).load("fog", severity)


@pytest.mark.parametrize(
    ("file", "array", "message"),
    [
        ("fog", np.zeros((5 * N, 32, 32, 3), np.float32), r"expected uint8 \(5N, 32, 32, 3\) in .*fog\.npy"),
        ("fog", np.zeros((5 * N, 3, 32, 32), np.uint8), r"expected uint8 \(5N, 32, 32, 3\) in .*fog\.npy"),
        ("fog", np.zeros((5 * N - 1, 32, 32, 3), np.uint8), r"expected uint8 \(5N, 32, 32, 3\) in .*fog\.npy"),
        ("fog", np.zeros((5 * N, 32, 32), np.uint8), r"expected uint8 \(5N, 32, 32, 3\) in .*fog\.npy"),
        ("fog", np.zeros((0, 32, 32, 3), np.uint8), r"expected uint8 \(5N, 32, 32, 3\) in .*fog\.npy"),
        ("labels", np.zeros(N + 1, int), r"expected 4 or 20 integers in .*labels\.npy"),
        ("labels", np.zeros(N, float), r"expected 4 or 20 integers in .*labels\.npy"),
        ("labels", np.zeros((5, N), int), r"expected 4 or 20 integers in .*labels\.npy"),
        ("labels", np.arange(5 * N) % 10, "expected the same labels for every severity"),
    ],
)
def test_arrays_of_another_layout_are_refused(folder: Path, file: str, array: np.ndarray, message: str) -> None:
    np.save(folder / f"{file}.npy", array)
    with pytest.raises(InputError, match=message):
        CifarC(folder).load("fog", 1)


@pytest.mark.parametrize("file", ["fog.npy", "labels.npy"])
def test_truncated_files_are_named(folder: Path, file: str) -> None:
    data = (folder / file).read_bytes()
    for kept in (len(data) - 1, 40, 0):
        (folder / file).write_bytes(data[:kept])
        with pytest.raises(InputError, match=f"expected a whole array in .*{file}"):
            CifarC(folder).load("fog", 1)


def test_a_pickle_in_place_of_an_array_is_not_run(folder: Path) -> None:
    (folder / "fog.npy").write_bytes(pickle.dumps(Call(Path.touch, folder / "touched")))
    with pytest.raises(InputError, match=r"expected a whole array in .*fog\.npy") as caught:
        CifarC(folder).load("fog", 1)
    assert "allow_pickle" not in str(caught.value)
    assert not (folder / "touched").exists()


def test_missing_labels_are_named(folder: Path) -> None:
    (folder / "labels.npy").unlink()
    with pytest.raises(InputError, match=r"expected an array in .*labels\.npy, got no such file"):
        CifarC(folder).load("fog", 1)
