from __future__ import annotations

import math

import numpy as np
import pytest

from data_prep import ImageSet, load_images
from data_prep.errors import InputError
from data_prep.outlines import OUTLINES
from data_prep.shapes import make_shapes


@pytest.fixture(scope="module")
def train() -> ImageSet:
    return make_shapes("train", n=5_000)


@pytest.fixture(scope="module")
def test() -> ImageSet:
    return load_images("shapes", "test")


def as_rows(images: ImageSet) -> np.ndarray:
    return images.pixels.reshape(len(images), -1).astype(np.float32) / 255 - 0.5


def test_the_test_split_is_balanced(test: ImageSet) -> None:
    assert test.pixels.shape == (2_000, 32, 32, 3)
    assert len(test.classes) == 10
    assert np.bincount(test.labels).tolist() == [200] * 10


def test_the_seed_decides_everything() -> None:
    first, again, other = (make_shapes("test", n=30, seed=seed) for seed in (3, 3, 4))
    assert first.fingerprint == again.fingerprint
    assert not (first.pixels == other.pixels).all(axis=(1, 2, 3)).any()


def test_the_splits_share_no_image(train: ImageSet, test: ImageSet) -> None:
    assert not {image.tobytes() for image in train.pixels} & {image.tobytes() for image in test.pixels}


def test_a_linear_classifier_does_not_get_far(train: ImageSet, test: ImageSet) -> None:
    rows, targets = as_rows(train), np.eye(10, dtype=np.float32)[train.labels]
    for ridge in (100.0, 10_000.0):
        gram = rows.T @ rows + np.float32(ridge) * np.eye(rows.shape[1], dtype=np.float32)
        weights = np.linalg.solve(gram, rows.T @ targets)
        accuracy = ((as_rows(test) @ weights).argmax(axis=1) == test.labels).mean()
        assert accuracy < 0.25


def test_the_classes_are_as_bright_and_as_full_of_contrast_as_each_other(train: ImageSet) -> None:
    rows = as_rows(train)
    for statistic in (rows.mean(axis=1), rows.std(axis=1)):
        means = np.array([statistic[train.labels == label].mean() for label in range(10)])
        assert np.ptp(means) < statistic.std()


def test_figures_are_brighter_than_their_ground_as_often_as_darker(train: ImageSet) -> None:
    small = as_rows(train)[
        np.isin(train.labels, [train.classes.index(name) for name in ("crescent", "star", "triangle")])
    ]
    skewness = ((small - small.mean(axis=1, keepdims=True)) ** 3).mean(axis=1)
    assert 0.4 < (skewness > 0).mean() < 0.6


def lens_area(first: float, second: float, apart: float) -> float:
    """Area of the intersection of two discs."""
    to_first = (apart**2 + first**2 - second**2) / (2 * apart)
    to_second = apart - to_first
    parts = ((first, to_first), (second, to_second))
    return sum(radius**2 * math.acos(to / radius) - to * math.sqrt(radius**2 - to**2) for radius, to in parts)


AREAS = {
    "checkerboard": 5 * 0.6**2,
    "crescent": np.pi * 0.95**2 - lens_area(0.95, 0.8, 0.45),
    "cross": 4 * 2 * 0.6 / 2 - 0.6**2,
    "disc": np.pi * 0.85**2,
    "frame": 4 * (0.83**2 - 0.47**2),
    "ring": np.pi * (0.9**2 - 0.5**2),
    "square": 4 * 0.8**2,
    "star": 5 * 1.1 * 0.45 * np.sin(np.pi / 5),
    "stripes": 3 * 0.36 * 1.8,
    "triangle": 3 * np.sqrt(3) * 0.55**2,
}


def grid(n: int = 800) -> tuple[np.ndarray, np.ndarray]:
    line = (np.arange(n) + 0.5) / n * 2.4 - 1.2
    return line[None, :], line[:, None]


@pytest.mark.parametrize("name", OUTLINES)
def test_every_outline_has_its_area_and_room(name: str) -> None:
    inside = OUTLINES[name](*np.broadcast_arrays(*grid())) < 0
    assert inside.mean() * 2.4**2 == pytest.approx(AREAS[name], rel=0.01)
    assert not inside[[0, -1]].any()
    assert not inside[:, [0, -1]].any()


def test_no_outline_turns_into_another() -> None:
    x, y = np.broadcast_arrays(*grid(120))
    fixed = {name: outline(x, y) < 0 for name, outline in OUTLINES.items()}
    for angle in np.deg2rad(np.arange(0, 360, 5)):
        turned_x, turned_y = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
        for name, outline in OUTLINES.items():
            turned = outline(turned_x, turned_y) < 0
            for other, mask in fixed.items():
                assert name == other or (turned & mask).sum() < 0.9 * (turned | mask).sum()


def test_bad_requests_are_refused() -> None:
    with pytest.raises(InputError, match=r"expected a split of shapes \(train, test\), got 'val'"):
        make_shapes("val")
    with pytest.raises(InputError, match="expected at least 1 image of shapes, got 0"):
        make_shapes("test", n=0)
