"""A tiny suite on the procedural shapes, with small untrained models."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from data_prep import load_images


@pytest.fixture
def suite(tmp_path: Path, models: Path) -> Path:
    """A suite file: two corruptions, two severities, two λs, two models, 20 images."""
    path = tmp_path / "tiny.toml"
    path.write_text(
        f"""
        data = "shapes"
        corruptions = ["gaussian_noise", "pixelate"]
        severities = [1, 5]
        models = ["{models}/sparse.safetensors", "{models}/plain.safetensors"]
        lambdas = [0.1, 0.5]
        n = 20
        """
    )
    return path


_draw = cache(load_images)


@pytest.fixture
def drawn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing the training split of the shapes takes most of the time of a tiny run that chooses λ on it."""
    monkeypatch.setattr("robustness.measure.prepare.load_images", _draw)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """``write("name.py", source)``: a file in a folder of its own."""

    def make_file(name: str, source: str, folder: str = "code") -> Path:
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / name).write_text(source)
        return tmp_path / folder / name

    return make_file
