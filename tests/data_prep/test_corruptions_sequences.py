"""The sequences of CIFAR-10-P, beside Pillow, OpenCV and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image

from data_prep.corruptions import corrupt
from data_prep.corruptions.sequences import FIXED, NOISES, SEQUENCES, perturb
from data_prep.errors import InputError


def pictures(count: int = 3, side: int = 32) -> np.ndarray:
    coarse = np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    return np.stack([np.asarray(Image.fromarray(it).resize((side, side), Image.Resampling.BICUBIC)) for it in coarse])


@pytest.mark.parametrize("name", SEQUENCES)
def test_a_sequence_depends_on_its_image_index_and_seed(name: str) -> None:
    images = pictures()
    together = perturb(images, name, seed=1, indices=[4, 9, 2])
    assert together.dtype == np.uint8
    assert together.shape == (3, {"motion_blur": 21, "translate": 16}.get(name, 31), 32, 32, 3)
    np.testing.assert_array_equal(perturb(images[1:2], name, seed=1, indices=[9])[0], together[1])
    assert (perturb(images, name, seed=2, indices=[4, 9, 2]) != together).any() == (name not in FIXED)
    assert perturb(images[:0], name).shape == (0, *together.shape[1:])


@pytest.mark.parametrize("name", NOISES)
def test_noises_begin_clean_and_grow_with_difficulty(name: str) -> None:
    images = pictures(6)
    changes = []
    for difficulty in (1, 2, 3):
        frames = perturb(images, name, difficulty=difficulty)
        np.testing.assert_array_equal(frames[:, 0], images)
        changes.append(np.std(frames[:, 1:].astype(float) - images[:, None]))
        assert (frames[:, 1] != frames[:, 2]).any()
    expected = [math.sqrt(p) for p in (1 / 700, 1 / 400, 1 / 200)] if name == "shot_noise" else (0.02, 0.04, 0.06)
    np.testing.assert_allclose(np.array(changes) / changes[0], np.array(expected) / expected[0], rtol=0.06)


def test_steady_frames() -> None:
    images = pictures()
    np.testing.assert_array_equal(perturb(images, "zoom_blur")[:, 0], images)
    np.testing.assert_array_equal(perturb(images, "rotate")[:, 15], images)
    np.testing.assert_array_equal(perturb(images, "scale")[:, 15], images)
    moved = perturb(images, "translate")
    np.testing.assert_array_equal(moved[:, 7], images)
    np.testing.assert_array_equal(moved[:, 0, :, :-7], images[:, :, 7:])
    np.testing.assert_array_equal(moved[:, 15, :, 8:], images[:, :, :-8])
    assert not moved[:, 0, :, -7:].any()
    assert not moved[:, 15, :, :8].any()


def test_brightness_goes_from_dark_to_bright() -> None:
    images = pictures()
    frames = perturb(images, "brightness")
    np.testing.assert_array_equal(frames[:, 25], corrupt_by(images, 0.15))
    peaks = frames.max(axis=-1).astype(int)
    inside = (images.max(axis=-1) > 60) & (images.max(axis=-1) < 190)
    for frame in (0, 30):
        shift = 255 * 0.015 * (frame - 15)
        assert np.abs(peaks[:, frame] - images.max(axis=-1) - shift)[inside].max() <= 1


def corrupt_by(images: np.ndarray, shift: float) -> np.ndarray:
    severity = {0.05: 1, 0.1: 2, 0.15: 3}[shift]
    return corrupt(images, "brightness", severity=severity, profile="cifar")


def test_turning_is_about_the_middle_as_it_was() -> None:
    """A single bright pixel goes where the rotation takes it: clockwise about (16.5, 16.5) in pixel edges."""
    image = np.zeros((1, 32, 32, 3), np.uint8)
    image[0, 16, 26] = 255
    turned = perturb(image, "rotate")[0, 30, ..., 0].astype(float)  # 15 degrees
    rows, columns = np.indices(turned.shape)
    found = [(turned * axis).sum() / turned.sum() + 0.5 for axis in (rows, columns)]
    angle = math.radians(15)
    assert found[1] == pytest.approx(16.5 + 10 * math.cos(angle), abs=0.1)
    assert found[0] == pytest.approx(16.5 + 10 * math.sin(angle), abs=0.1)
    larger = perturb(image, "scale")[0, 30, ..., 0].astype(float)  # 1.3 times
    assert (larger * columns).sum() / larger.sum() + 0.5 == pytest.approx(16.5 + 13, abs=0.1)


def test_tilt_is_opencv_s() -> None:
    cv2 = pytest.importorskip("cv2", reason="compared with OpenCV")
    images = pictures(2)
    ours = perturb(images, "tilt")
    for frame in (0, 15, 30):
        angle = math.radians(0.75 * (frame - 15))
        c, s, f = math.cos(angle), math.sin(angle), math.hypot(32, 32)
        flat = np.array([[1, 0, -16], [0, 1, -16], [0, 0, 1], [0, 0, 1]])
        about_x = np.array([[1, 0, 0, 0], [0, c, -s, 0], [0, s, c, 0], [0, 0, 0, 1]])
        about_y = np.array([[c, 0, -s, 0], [0, 1, 0, 0], [s, 0, c, 0], [0, 0, 0, 1]])
        away = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, f], [0, 0, 0, 1]])
        seen = np.array([[f, 0, 16, 0], [0, f, 16, 0], [0, 0, 1, 0]])
        matrix = seen @ away @ about_x @ about_y @ flat
        theirs = np.stack([cv2.warpPerspective(image, matrix, (32, 32)) for image in images])
        difference = np.abs(ours[:, frame].astype(int) - theirs)
        assert difference.mean() < 0.5  # OpenCV rounds places to 1/32 pixel
        assert (difference <= 4).mean() > 0.99


def test_snow_falls_in_another_direction_in_each_frame() -> None:
    black = np.zeros((8, 32, 32, 3), np.uint8)
    frames = perturb(black, "snow").astype(int)
    base = frames.min(axis=(1, 2, 3, 4))
    assert (base >= int(0.15 * 127.5)).all()
    np.testing.assert_array_equal(frames, frames[:, :, ::-1, ::-1])  # the flakes lie on it in two ways
    assert (frames[:, 0] != frames[:, 30]).any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "fog"}, "expected a sequence .gaussian_noise, .*, got 'fog'"),
        ({"difficulty": 2}, "expected a difficulty of 1 for tilt, got 2"),
        ({"name": "shot_noise", "difficulty": 4}, "expected a difficulty of 1 to 3, got 4"),
        ({"pixels": np.zeros((1, 20, 20, 3), np.uint8)}, "at least 32 × 32, got 20 × 20"),
        ({"indices": [1]}, r"indices as integers \(3,\)"),
    ],
)
def test_what_cannot_be_used_is_named(change: dict[str, object], message: str) -> None:
    arguments = {"pixels": pictures(), "name": "tilt"} | change
    with pytest.raises(InputError, match=message):
        perturb(**arguments)
