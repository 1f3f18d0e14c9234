from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_prep import ImageSet, imageset
from data_prep.errors import InputError


def make_set(n: int = 50) -> ImageSet:
    pixels = np.random.default_rng(0).integers(0, 256, (n, 4, 5, 3), dtype=np.uint8)
    return ImageSet("toy", "toy (copy)", "test", pixels, np.arange(n) % 3, ("a", "b", "c"), np.arange(n))


def test_subset_is_nested_sorted_and_drawn() -> None:
    images = make_set()
    small, large = images.subset(10), images.subset(30)
    assert set(small.indices) <= set(large.indices)
    assert (np.diff(large.indices) > 0).all()
    assert not np.array_equal(small.indices, np.arange(10))
    assert np.array_equal(small.pixels, images.pixels[small.indices])
    assert np.array_equal(small.labels, images.labels[small.indices])
    assert (small.title, small.split, len(small)) == ("toy (copy)", "test", 10)


def test_subset_depends_on_the_seed_alone() -> None:
    images = make_set()
    assert np.array_equal(images.subset(10, seed=1).indices, images.subset(10, seed=1).indices)
    assert not np.array_equal(images.subset(10, seed=1).indices, images.subset(10, seed=2).indices)


def test_subset_of_a_subset_keeps_the_positions_in_the_split() -> None:
    images = make_set()
    twice = images.subset(30).subset(5)
    assert np.array_equal(twice.pixels, images.pixels[twice.indices])


def test_subset_of_everything_is_the_set_itself() -> None:
    images = make_set()
    assert images.subset(50) is images
    assert images.subset(51) is images


def test_empty_subset_is_refused() -> None:
    with pytest.raises(InputError, match="at least 1 image, got 0"):
        make_set().subset(0)


def test_fingerprint_follows_the_content() -> None:
    images = make_set()
    other_pixels, other_labels = images.pixels.copy(), images.labels.copy()
    other_pixels[-1, -1, -1, -1] ^= 1
    other_labels[0] = 2
    changed = (
        replace(images, pixels=other_pixels),
        replace(images, labels=other_labels),
        replace(images, indices=images.indices + 1),
        replace(images, pixels=images.pixels.reshape(50, 5, 4, 3)),
    )
    assert len({images.fingerprint, *(other.fingerprint for other in changed)}) == 5
    assert images.fingerprint == replace(images, pixels=np.asfortranarray(images.pixels)).fingerprint


def test_fingerprint_is_the_same_mapped_and_in_any_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = make_set()
    np.save(tmp_path / "pixels.npy", images.pixels)
    monkeypatch.setattr(imageset, "FINGERPRINT_CHUNK_BYTES", 7 * images.pixels[0].nbytes)
    mapped = replace(images, pixels=np.load(tmp_path / "pixels.npy", mmap_mode="r"))
    chunked = mapped.fingerprint
    monkeypatch.undo()
    assert chunked == images.fingerprint


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("pixels", np.zeros((50, 4, 5, 3), np.float32), "expected pixels as uint8"),
        ("pixels", np.zeros((50, 3, 4, 5), np.uint8), "expected pixels as uint8"),
        ("labels", np.zeros(49, np.int64), r"expected labels as int64 \(50,\)"),
        ("labels", np.zeros(50, np.int32), "expected labels as int64"),
        ("indices", np.zeros(49, np.int64), "expected indices as int64"),
        ("files", np.array(["1.png"]), r"expected file names as text \(50,\)"),
        ("files", np.zeros(50), "expected file names as text"),
        ("labels", np.full(50, 3), "expected labels 0 to 2, got 3 to 3"),
        ("labels", np.full(50, -1), "expected labels 0 to 2, got -1 to -1"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(field: str, value: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        replace(make_set(), **{field: value})
