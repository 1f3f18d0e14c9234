"""Small image trees, and archives of them, for the tests of the data sets."""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pictured import write_png

MakeTree = Callable[..., Path]
Pack = Callable[[Path, str], Path]


@pytest.fixture
def make_tree(tmp_path: Path) -> MakeTree:
    """Write PNG files <split>/<class>/<number>.png of random pixels, (width, height) in size."""

    def make(name: str = "tree", *, size: tuple[int, int] = (8, 6), **counts: int) -> Path:
        rng = np.random.default_rng(0)
        for split, count in (counts or {"train": 3, "test": 2}).items():
            for class_name in ("cat", "apple"):
                for number in range(count):
                    pixels = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
                    write_png(tmp_path / name / split / class_name / f"{number}.png", pixels)
        return tmp_path / name

    return make


@pytest.fixture
def tree(make_tree: MakeTree) -> Path:
    return make_tree()


@pytest.fixture
def pack(tmp_path: Path) -> Pack:
    """Pack a folder into an archive of the kind that the suffix says."""

    def pack_tree(folder: Path, suffix: str) -> Path:
        archive = tmp_path / f"{folder.name}{suffix}"
        if suffix == ".zip":
            with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as zipped:
                for path in folder.rglob("*"):
                    zipped.write(path, path.relative_to(folder))
        else:
            with tarfile.open(archive, f"w:{suffix.removeprefix('.tar').removeprefix('.')}") as tar:  # type: ignore[call-overload]
                tar.add(folder, arcname=".")
        return archive

    return pack_tree
