"""Shapes in type annotations are checked while the tests run; markers say why a test is skipped."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from jaxtyping import install_import_hook
from PIL import Image

from data_prep import load_images
from data_prep.importing import import_tree

hook = install_import_hook(["sdnet_core", "robustness"], "typechecker.check")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the tests marked slow, too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if "slow" in item.keywords and not config.getoption("--slow"):
            item.add_marker(pytest.mark.skip(reason="takes minutes: run with --slow"))
        if "gpu" in item.keywords and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture
def import_shapes(tmp_path: Path) -> Callable[..., Path]:
    """``import_shapes("name", train=300, test=20)``: a data directory with a small imported set of drawn shapes."""

    def make(name: str, **counts: int) -> Path:
        for split, count in counts.items():
            images = load_images("shapes", split=split)
            for index in range(count):
                folder = tmp_path / "tree" / split / images.classes[images.labels[index]]
                folder.mkdir(parents=True, exist_ok=True)
                Image.fromarray(images.pixels[index]).save(folder / f"{index:05}.png")
        import_tree(tmp_path / "tree", name=name, data_dir=tmp_path / "data")
        return tmp_path / "data"

    return make


@pytest.fixture
def shared_data() -> Path:
    """The folder of the real images, which are not part of the project."""
    folder = Path(os.environ.get("SDNET_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real images in {folder}: set SDNET_SHARED_DATA to their folder")
    return folder
