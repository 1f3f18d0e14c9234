"""A tiny suite on the procedural shapes, with small untrained models."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch

from data_prep import load_images
from sdnet_core import ModelCard, build_model, save_model


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``sparse.safetensors`` (an SDNet) and ``plain.safetensors`` (a ResNet) for ten classes."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    for name, arch in (("sparse", "sdnet18"), ("plain", "resnet18")):
        model = build_model(arch, width=2)
        model(torch.rand(16, 3, 32, 32))
        save_model(model, folder / f"{name}.safetensors", ModelCard(name=name, config=model.config))
    return folder


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
    monkeypatch.setattr("robustness.run.load_images", _draw)


@pytest.fixture
def without_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures take most of the time of a tiny run; one test draws and looks at them."""
    monkeypatch.setattr("robustness.analysis.write.write_figures", lambda run: None)
