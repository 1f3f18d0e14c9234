"""The corruptions beside an independent reference, on real images."""

from __future__ import annotations

import ctypes
import io
from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

from data_prep.corruptions import corrupt, corruption_names, engine
from data_prep.corruptions.edges import canny, distance_to
from data_prep.corruptions.filters import motion_blur_levels
from data_prep.corruptions.frost_pictures import frost_pictures
from data_prep.corruptions.levels import truncate_planes
from data_prep.corruptions.registry import CORRUPTIONS
from data_prep.corruptions.spatter import _relief

RealImages = Callable[[str, int], np.ndarray]

DETERMINISTIC = [name for name in corruption_names("all") if not CORRUPTIONS[name].random]
RANDOM = [name for name in corruption_names("all") if CORRUPTIONS[name].random]
COVERING = ("frost", "fog", "snow", "spatter")
SEVERITIES = range(1, 6)
SLOW_AT_224 = "glass_blur"  # the reference takes seconds per image


def assert_same(ours: np.ndarray, theirs: np.ndarray) -> None:
    difference = np.abs(ours.astype(int) - theirs)
    assert (difference <= 1).mean() >= 0.99
    assert difference.mean() <= 0.3


def assert_alike(ours: np.ndarray, theirs: np.ndarray, clean: np.ndarray, tolerance: float) -> None:
    """The same distance from the clean images: root mean square and mean absolute."""
    changes = [images.astype(float) - clean for images in (ours, theirs)]
    for measure in (lambda it: np.sqrt((it**2).mean()), lambda it: np.abs(it).mean()):
        mine, expected = map(measure, changes)
        assert mine == pytest.approx(expected, rel=tolerance)


def reference_images(
    reference: ModuleType, profile: str, images: np.ndarray, name: str, severity: int, *, stored: bool = True
) -> np.ndarray:
    draw = reference.Reference(profile, seed=severity, stored=stored)
    return np.stack([draw(image, name, severity) for image in images])


@pytest.mark.parametrize("name", DETERMINISTIC)
@pytest.mark.parametrize(("profile", "count"), [("cifar", 40), ("imagenet", 3)])
def test_deterministic(
    name: str,
    profile: str,
    count: int,
    reference: ModuleType,
    real_images: RealImages,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before the JPEG file that ends the corruptions of ImageNet-C: it makes many levels of one."""
    images = real_images(profile, count)
    monkeypatch.setattr(engine, "STORED_QUALITY", {})
    for severity in SEVERITIES:
        theirs = reference_images(reference, profile, images, name, severity, stored=False)
        ours = corrupt(images, name, severity=severity, profile=profile)
        assert_same(ours, theirs)
        if name in ("jpeg_compression", "pixelate"):
            np.testing.assert_array_equal(ours, theirs)


def test_images_of_imagenet_c_went_through_a_file(
    reference: ModuleType, real_images: RealImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = real_images("imagenet", 2)
    stored = corrupt(images, "fog", severity=3, profile="imagenet")
    monkeypatch.setattr(engine, "STORED_QUALITY", {})
    bare = corrupt(images, "fog", severity=3, profile="imagenet")
    assert (stored != bare).mean() > 0.1
    np.testing.assert_array_equal(stored, [reference.through_jpeg(image, 85) for image in bare])


@pytest.mark.parametrize(("radius", "sigma", "degrees"), [(6, 1.5, -40.0), (15, 12, 17.3), (14, 12, -134.9)])
def test_motion_blur_is_imagemagick_s(radius: int, sigma: float, degrees: float, reference: ModuleType) -> None:
    """The call of the official generators; its last bit is left to rounding inside ImageMagick."""
    wand = pytest.importorskip("wand.image", reason="needs wand and ImageMagick", exc_type=ImportError)
    from wand.api import library

    library.MagickMotionBlurImage.argtypes = (ctypes.c_void_p, *[ctypes.c_double] * 3)
    picture = np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    with wand.Image(blob=file.getvalue()) as moving:
        library.MagickMotionBlurImage(moving.wand, radius, sigma, degrees)
        theirs = np.asarray(Image.open(io.BytesIO(moving.make_blob())))
    levels = torch.from_numpy(picture).permute(2, 0, 1)[None].float().contiguous()
    ours = truncate_planes(motion_blur_levels(levels, radius, sigma, torch.tensor([degrees])))[0].numpy()
    for mine in (ours, reference.motion_blur_levels(picture, radius, sigma, degrees)):
        assert np.abs(mine.astype(int) - theirs).max() <= 1
        assert (mine != theirs).mean() < 0.02


@pytest.mark.parametrize("name", RANDOM)
def test_random(name: str, reference: ModuleType, real_images: RealImages) -> None:
    images = real_images("cifar", 300)
    for severity in (2, 5):
        theirs = reference_images(reference, "cifar", images, name, severity)
        assert_alike(corrupt(images, name, severity=severity), theirs, images, 0.10 if name in COVERING else 0.05)


@pytest.mark.parametrize("name", RANDOM)
def test_random_at_224(name: str, reference: ModuleType, real_images: RealImages) -> None:
    """Few images and therefore wide bounds; the narrow ones are for the slow test."""
    images = real_images("imagenet", {"glass_blur": 1, "fog": 2, "elastic_transform": 60}.get(name, 20))
    theirs = reference_images(reference, "imagenet", images, name, 3)
    assert_alike(corrupt(images, name, severity=3, profile="imagenet"), theirs, images, 0.2)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("name", corruption_names("all"))
@pytest.mark.parametrize("profile", ["cifar", "imagenet"])
def test_all_images_at_every_severity(name: str, profile: str, reference: ModuleType, real_images: RealImages) -> None:
    images = real_images(profile, 20 if (profile, name) == ("imagenet", SLOW_AT_224) else 300)
    for severity in SEVERITIES:
        theirs = reference_images(reference, profile, images, name, severity)
        ours = corrupt(images, name, severity=severity, profile=profile)
        if name in DETERMINISTIC and profile == "cifar":
            assert_same(ours, theirs)
        else:
            assert_alike(ours, theirs, images, 0.10 if name in COVERING else 0.05)


def liquids() -> np.ndarray:
    """Thresholded smooth noise, uint8 (6, 60, 75), as spatter makes it; one without any liquid."""
    from skimage.filters import gaussian

    rng = np.random.default_rng(0)
    noise = [gaussian(rng.normal(0.65, 0.3, (60, 75)), sigma) for sigma in (0.7, 1, 2, 3, 4)]
    layer = np.stack([*noise, np.zeros((60, 75))])
    return (np.where(layer < 0.69, 0, layer).clip(0, 1) * 255).astype(np.uint8)


def test_edges_and_distances_are_opencv_s(reference: ModuleType) -> None:
    import cv2

    for picture in [*liquids(), np.random.default_rng(1).integers(0, 256, (40, 40), dtype=np.uint8)]:
        edges = canny(torch.from_numpy(picture)[None], 50, 150)[0].numpy()
        theirs = cv2.Canny(picture, 50, 150)
        np.testing.assert_array_equal(edges, theirs > 0)
        distance = distance_to(torch.from_numpy(edges)[None], 20)[0].numpy()
        expected = np.minimum(cv2.distanceTransform(255 - theirs, cv2.DIST_L2, 5), 20)
        np.testing.assert_allclose(distance, expected, atol=1e-3)


def test_relief_of_water_is_opencv_s(reference: ModuleType) -> None:
    import cv2

    depths = liquids()
    for depth, ours in zip(depths, _relief(torch.from_numpy(depths)).numpy(), strict=True):
        distance = cv2.distanceTransform(255 - cv2.Canny(depth, 50, 150), cv2.DIST_L2, 5)
        levels = cv2.equalizeHist(cv2.blur(np.minimum(distance, 20), (3, 3)).astype(np.uint8))
        emboss = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])
        expected = cv2.blur(cv2.filter2D(levels, cv2.CV_8U, emboss), (3, 3))
        assert (np.abs(ours - expected) <= 1).mean() > 0.99


def test_pictures_of_frost_are_opencv_s(reference: ModuleType) -> None:
    import cv2

    folder = reference.frost_folder()
    for height, width, scale in ((32, 32, 0.2), (224, 224, 1), (400, 640, 1)):
        pictures = frost_pictures(height, width, scale, torch.device("cpu"))
        for number, (canvas, room) in enumerate(zip(pictures.canvas.numpy(), pictures.room.tolist(), strict=True), 1):
            original = cv2.imread(str(next(folder.glob(f"frost{number}.*"))))
            if scale < 1:
                expected = cv2.resize(original, (0, 0), fx=scale, fy=scale)
            else:
                factor = max(1, 1.1 * max(height / original.shape[0], width / original.shape[1]))
                size = [int(np.ceil(side * factor)) for side in original.shape[1::-1]]
                expected = cv2.resize(original, size, interpolation=cv2.INTER_CUBIC)
            ours = canvas[: room[0], : room[1], ::-1].astype(int)
            expected = expected[: room[0], : room[1]]
            assert ours.shape == expected.shape
            assert (np.abs(ours - expected) <= 1).mean() > 0.99
