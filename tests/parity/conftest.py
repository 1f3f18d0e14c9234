"""Real images for the comparisons, and the reference that ``reference.py`` makes of them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from parity import reference as reference_module
from parity.real_images import archive_of, read_images

RealImages = Callable[[str, int], np.ndarray]
MOST_IMAGES = 300


@pytest.fixture(scope="session")
def reference() -> ModuleType:
    if (reason := reference_module.unavailable()) is not None:
        pytest.skip(reason)
    return reference_module


@pytest.fixture
def real_images(shared_data: Path) -> RealImages:
    """uint8 (N, H, W, 3) for a profile, at most 300: see ``read_images``."""

    def read(profile: str, count: int) -> np.ndarray:
        if not (archive := archive_of(profile, shared_data)).is_file():
            pytest.skip(f"no {archive.name} in {shared_data}")
        return read_most(profile, shared_data)[:: MOST_IMAGES // count][:count]

    return read


@functools.cache
def read_most(profile: str, folder: Path) -> np.ndarray:
    return read_images(profile, MOST_IMAGES, folder)
