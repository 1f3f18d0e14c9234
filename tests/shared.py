"""Real images and weights, which are not part of the project."""

from __future__ import annotations

from pathlib import Path

import pytest


def find_shared(folder: Path, name: str) -> Path:
    """Find a file in the folder of the real images, or skip the test."""
    if not (path := folder / name).is_file():
        pytest.skip(f"no {name} in {folder}")
    return path


def find_resnet20(folder: Path) -> Path:
    """Find the weights that ``examples/resnet20.py`` takes."""
    return find_shared(folder, "resnet-cifar10-reference/resnet20-12fca82f.th")
