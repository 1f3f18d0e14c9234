"""A -C archive of any data set and size, known by its layout alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_prep import load_images
from data_prep.archives_c import CORRUPTIONS_3DCC, ArchiveC, find_archive_c, open_archive_c
from data_prep.errors import InputError

N, SIDE = 6, 36
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (5 * N, SIDE, SIDE, 3), dtype=np.uint8)
LABELS = np.array([0, 1, 1, 0, 2, 2])
CLEAN = load_images((PIXELS[:N], LABELS))


def write_npy(folder: Path) -> np.ndarray:
    np.save(folder / "blur.npy", PIXELS)
    np.save(folder / "labels.npy", LABELS)
    return PIXELS


def write_npz(folder: Path) -> np.ndarray:
    """As MedMNIST-C: grey, compressed, a column of labels."""
    np.savez_compressed(
        folder / "blur.npz", test_images=PIXELS[..., 0], test_labels=np.tile(LABELS, 5)[:, None].astype(np.uint8)
    )
    return PIXELS[..., :1].repeat(3, axis=-1)


@pytest.mark.parametrize("write", [write_npy, write_npz])
def test_images_of_a_severity_are_those_of_its_block(tmp_path: Path, write) -> None:
    expected = write(tmp_path)
    archive = open_archive_c(tmp_path)
    assert isinstance(archive, ArchiveC)
    assert find_archive_c(str(tmp_path), "data") == archive
    assert (archive.corruptions(), archive.count("blur")) == (("blur",), N)
    some = CLEAN.subset(4)
    for severity in range(1, 6):
        rows = archive.match(some, "blur", severity)
        assert np.array_equal(rows[0:4], expected[(severity - 1) * N + some.indices])
    first = archive.fingerprint("blur", 1)
    next(tmp_path.glob("blur.*")).write_bytes(next(tmp_path.glob("blur.*")).read_bytes() + b"x")
    assert open_archive_c(tmp_path).fingerprint("blur", 1) != first


@pytest.mark.parametrize("write", [write_npy, write_npz])
def test_other_labels_sizes_and_corruptions_are_refused(tmp_path: Path, write) -> None:
    write(tmp_path)
    archive = open_archive_c(tmp_path)
    with pytest.raises(InputError, match="labels"):
        archive.match(load_images((PIXELS[:N], LABELS[::-1].copy())), "blur", 1)
    with pytest.raises(InputError, match=r"expected \(33, 36\) like the clean images in .*, got \(36, 36\)"):
        archive.match(load_images((PIXELS[:N, 3:], LABELS)), "blur", 1)
    with pytest.raises(InputError, match=r"expected a file fog\.np[yz] in .*, got only blur"):
        archive.match(CLEAN, "fog", 1)


def test_damaged_and_other_npz_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "blur.npz"
    archive = open_archive_c(tmp_path) if write_npz(tmp_path) is not None else None
    assert archive is not None
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"expected a whole \.npz with test_images and test_labels in .*blur\.npz"):
        archive.count("blur")
    for images, labels, message in (
        (PIXELS[:-1], np.tile(LABELS, 5)[:-1], r"expected uint8 \(5N, H, W, 3\) or \(5N, H, W\)"),
        (PIXELS / 255, np.tile(LABELS, 5), r"got float64"),
        (PIXELS, RNG.integers(0, 3, 5 * N), "the same at every severity"),
        (PIXELS, np.zeros((5 * N, 14)), r"data with several labels an image"),
        (PIXELS, np.array([open] * 5 * N), r"got: ValueError: Object arrays cannot be loaded"),
    ):
        np.savez(path, test_images=images, test_labels=labels)
        with pytest.raises(InputError, match=message):
            archive.match(CLEAN, "blur", 1)


def write_files(folder: Path, corruptions: tuple[str, ...], classes: tuple[str, ...] = ("n1", "n2")) -> Path:
    for corruption in corruptions:
        for severity in range(1, 6):
            for name in classes:
                path = folder / corruption / str(severity) / name
                path.mkdir(parents=True)
                colour = (len(corruption), severity, classes.index(name))
                Image.new("RGB", (SIDE, SIDE), colour).save(path / "val_1.png")
    return folder


def test_folders_of_any_classes_and_corruptions_are_matched(tmp_path: Path) -> None:
    """As Tiny ImageNet-C, ImageNet-64-C and ImageNet-3DCC."""
    folder = write_files(tmp_path / "Tiny-ImageNet-C", ("fog", "flash"))
    for name in ("n1", "n2"):
        (tmp_path / "clean" / "val" / name).mkdir(parents=True)
        Image.new("RGB", (SIDE, SIDE)).save(tmp_path / "clean" / "val" / name / "val_1.png")
    images = load_images(tmp_path / "clean")
    archive = open_archive_c(folder)
    assert archive.corruptions() == ("flash", "fog")
    assert archive.match(images, "flash", 3)[0:2][:, 0, 0].tolist() == [[5, 3, 0], [5, 3, 1]]


def test_imagenet_3dcc_is_found_by_its_name(tmp_path: Path) -> None:
    assert find_archive_c("imagenet3dcc", tmp_path) is None
    folder = write_files(tmp_path / "ImageNet-3DCC", CORRUPTIONS_3DCC)
    archive = find_archive_c("imagenet3dcc", tmp_path)
    assert archive is not None
    assert archive.folder == folder
    assert set(archive.corruptions()) == set(CORRUPTIONS_3DCC)
    assert len(CORRUPTIONS_3DCC) == 12


def test_other_folders_are_no_archives(tmp_path: Path) -> None:
    (tmp_path / "train" / "cat").mkdir(parents=True)
    (tmp_path / "x.npy").write_bytes(b"")
    with pytest.raises(
        InputError, match=r"expected a -C archive in .* got another folder; point at the one that holds"
    ):
        open_archive_c(tmp_path)
