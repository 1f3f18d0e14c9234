"""Real images for the comparisons, and the reference that ``reference.py`` makes of them."""

from __future__ import annotations

import functools
import importlib.util
import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

RealImages = Callable[[str, int], np.ndarray]
ARCHIVES = {"cifar": ("cifar10-jpeg.tar.xz", 200), "imagenet": ("imagenet-sample.tar", 3)}
MOST_IMAGES, SIDE = 300, 224


@pytest.fixture(scope="session")
def reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference", Path(__file__).with_name("reference.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if (reason := module.unavailable()) is not None:
        pytest.skip(reason)
    return module


@pytest.fixture
def real_images(shared_data: Path) -> RealImages:
    """uint8 (N, H, W, 3) for a profile: CIFAR-10 images of all classes, or the centres of ImageNet photographs."""

    def read(profile: str, count: int) -> np.ndarray:
        name, stride = ARCHIVES[profile]
        if not (shared_data / name).is_file():
            pytest.skip(f"no {name} in {shared_data}")
        pictures = read_archive(shared_data / name, stride)
        return pictures[:: max(1, MOST_IMAGES // count)][:count]

    return read


@functools.cache
def read_archive(path: Path, stride: int) -> np.ndarray:
    """Every ``stride``-th picture."""
    images = []
    with tarfile.open(path) as tar:
        files = (member for member in tar if member.isfile() and member.name.lower().endswith((".jpg", ".jpeg")))
        for number, member in enumerate(files):
            if number % stride == 0:
                with Image.open(io.BytesIO(tar.extractfile(member).read())) as picture:
                    images.append(centre(picture.convert("RGB")))
            if len(images) == MOST_IMAGES:
                break
    return np.stack(images)


def centre(picture: Image.Image) -> np.ndarray:
    width, height = (min(length, SIDE) for length in picture.size)
    left, top = (picture.width - width) // 2, (picture.height - height) // 2
    return np.asarray(picture.crop((left, top, left + width, top + height)))
