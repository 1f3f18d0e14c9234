"""Arrays, sets and loaders of torch, pairs of pictures and .npz files, as an ``ImageSet``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset

from data_prep import ImageSet, load_images
from data_prep.errors import InputError

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 33, 34, 3), dtype=np.uint8)
LABELS = np.array([2, 0, 1, 1])


@pytest.mark.parametrize(
    "images",
    [
        PIXELS,
        PIXELS.transpose(0, 3, 1, 2),
        (PIXELS / 255).astype(np.float32),
        (PIXELS / 255).transpose(0, 3, 1, 2),
        torch.from_numpy(PIXELS).permute(0, 3, 1, 2) / 255,
        (torch.from_numpy(PIXELS) / 255).requires_grad_(),
    ],
)
@pytest.mark.parametrize("labels", [LABELS, LABELS[:, None], LABELS.tolist(), torch.from_numpy(LABELS).to(torch.uint8)])
def test_arrays_of_every_layout_are_the_same_set(images: object, labels: object) -> None:
    made = load_images((images, labels))
    assert np.array_equal(made.pixels, PIXELS)
    assert made.labels.tolist() == LABELS.tolist()
    assert (made.classes, made.notes, made.title) == (("0", "1", "2"), (), "arrays")


def test_grey_arrays_become_three_equal_channels() -> None:
    for images in (PIXELS[..., 0], PIXELS[..., :1], PIXELS[:, None, ..., 0]):
        made = load_images((images, LABELS), classes=["a", "b", "c", "d"])
        assert np.array_equal(made.pixels, PIXELS[..., :1].repeat(3, axis=-1))
        assert made.classes == ("a", "b", "c", "d")


def test_floats_between_two_values_of_a_pixel_are_rounded_and_it_is_said() -> None:
    made = load_images((np.full((1, 32, 32, 3), 100.4 / 255), [0]))
    assert (made.pixels == 100).all()
    assert made.notes == ("floats were rounded to the 256 values of a pixel, by up to 0.4/255",)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (PIXELS / 128 - 1, LABELS, r"got values -1 to 0\.992; undo the normalisation"),
        (PIXELS.astype(np.float32), LABELS, r"got values 0 to 255; undo"),
        (np.full((4, 32, 32, 3), np.nan), LABELS, "got values NaN or infinity"),
        (PIXELS.astype(np.int64), LABELS, r"got int64 \(4, 33, 34, 3\); transpose or convert"),
        (PIXELS[..., :2], LABELS, r"got uint8 \(4, 33, 34, 2\)"),
        (PIXELS[:, :3], LABELS, r"got uint8 \(4, 3, 34, 3\)"),
        (PIXELS[:0], LABELS[:0], r"got uint8 \(0, 33, 34, 3\)"),
        (np.array([object()] * 4), LABELS, "expected images as numbers, got object"),
        ([[1, 2], [3]], LABELS, "expected images as one array, got values of several shapes"),
        (PIXELS, LABELS[:3], r"expected labels as whole numbers \(4,\), one class per image, got int64 \(3,\)"),
        (PIXELS, np.eye(4, dtype=int), r"got int64 \(4, 4\); give one class for each, as several labels of an image"),
        (PIXELS, LABELS / 2, r"got float64 \(4,\)"),
        (PIXELS, LABELS - 1, "expected labels from 0 to 1, got -1 to 1"),
        (PIXELS, LABELS + 2**40, r"fewer than 100,000 classes, got 1099511627778; number the classes"),
        (PIXELS, LABELS.astype(np.uint64) + 2**63, "one less than there are classes, got 9223372036854775810"),
        (PIXELS // 128, LABELS, "got nothing brighter than 1 of 255; multiply them by 255"),
        (PIXELS / 255**2, LABELS, "got nothing brighter than 1 of 255"),
    ],
)
def test_arrays_that_cannot_be_images_are_refused(images: object, labels: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_images((images, labels))


def test_labels_that_may_count_from_1_are_announced() -> None:
    """A model of more classes answers them all the same, each with the class before it."""
    assert load_images((PIXELS, LABELS)).notes == ()
    (note,) = load_images((PIXELS, LABELS + 1)).notes
    assert note == "no image has the label 0: labels are positions in the model's outputs, from 0"


def test_more_labels_than_classes_are_refused() -> None:
    with pytest.raises(InputError, match="expected labels from 0 to 1, got 0 to 2; give as many classes"):
        load_images((PIXELS, LABELS), classes=["a", "b"])


def test_an_image_set_is_taken_as_it_is() -> None:
    images = load_images((PIXELS, LABELS))
    assert load_images(images) is images
    assert isinstance(load_images(images, n=2), ImageSet)
    with pytest.raises(InputError, match="expected an image set as it is"):
        load_images(images, "train")


@pytest.mark.parametrize("batch_size", [None, 1, 3])
def test_datasets_and_loaders_of_torch_are_sets(batch_size: int | None) -> None:
    dataset = TensorDataset(torch.from_numpy(PIXELS).permute(0, 3, 1, 2) / 255, torch.from_numpy(LABELS))
    source = dataset if batch_size is None else DataLoader(dataset, batch_size)
    made = load_images(source)
    assert made.fingerprint == load_images((PIXELS, LABELS)).fingerprint


def test_pairs_of_pil_images_are_a_set() -> None:
    class Folder:
        classes = ("x", "y", "z")

        def __len__(self) -> int:
            return 4

        def __getitem__(self, index: int) -> tuple[Image.Image, int]:
            return Image.fromarray(PIXELS[index % 4]), int(LABELS[index % 4])

    made = load_images(Folder())
    assert np.array_equal(made.pixels, PIXELS)
    assert (made.labels.tolist(), made.classes) == (LABELS.tolist(), ("x", "y", "z"))
    with pytest.raises(InputError, match=r"expected images of one shape, got \(33, 34, 3\) and, at 1, \(32, 34, 3\)"):
        load_images([(PIXELS[0], 0), (PIXELS[0, 1:], 0)])
    with pytest.raises(InputError, match="expected pairs"):
        load_images([PIXELS[0], PIXELS[1]])
    with pytest.raises(InputError, match="expected at least one pair"):
        load_images([])


@pytest.mark.parametrize(
    ("images", "labels", "split"),
    [
        ("images", "labels", "test"),
        ("x", "y", "test"),
        ("x_test", "y_test", "test"),
        ("val_images", "val_labels", "val"),
    ],
)
def test_npz_files_of_the_usual_names_are_read(tmp_path: Path, images: str, labels: str, split: str) -> None:
    np.savez(tmp_path / "digits.npz", **{images: PIXELS[..., 0], labels: LABELS[:, None]})
    made = load_images(tmp_path / "digits.npz")
    assert (made.title, made.split, made.labels.tolist()) == ("digits", split, LABELS.tolist())
    assert np.array_equal(made.pixels[..., 2], PIXELS[..., 0])


def test_npz_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, pictures=PIXELS)
    with pytest.raises(InputError, match=r"expected arrays images and labels .*, got pictures; rename them"):
        load_images(path)
    np.savez(path, images=np.array([open] * 4), labels=LABELS)
    with pytest.raises(
        InputError, match=r"expected a whole \.npz of plain arrays in .*, got: ValueError: Object arrays"
    ):
        load_images(path)
    np.savez(path, train_images=PIXELS, train_labels=LABELS, test_images=PIXELS[:1], test_labels=LABELS[1:2])
    assert len(load_images(path)) == 1
    assert len(load_images(path, "train")) == 4
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(InputError, match=r"expected a whole \.npz"):
        load_images(path)
