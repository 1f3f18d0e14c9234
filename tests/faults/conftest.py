"""The run that the fault campaign disturbs, and what it comes to undisturbed."""

from __future__ import annotations

from pathlib import Path

import pytest
from disturbed import Undisturbed, finish, start_run
from pictured import write_png

from data_prep import load_images
from data_prep.importing import import_tree


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, models: Path) -> Undisturbed:
    """20 images under two corruptions and PGD, on an SDNet at two λs and a ResNet: 20 cells, 5 of them of PGD."""
    folder = tmp_path_factory.mktemp("undisturbed")
    images = load_images("shapes", split="test")
    for index in range(20):
        write_png(folder / "tree" / "test" / f"{images.labels[index]}" / f"{index}.png", images.pixels[index])
    import_tree(folder / "tree", name="few", data_dir=folder / "data")
    suite = folder / "disturbed.toml"
    suite.write_text(
        f"""
        data = "few"
        corruptions = ["gaussian_noise", "pixelate"]
        severities = [1, 5]
        models = ["{models}/sparse.safetensors", "{models}/plain.safetensors"]
        lambdas = [0.1, 0.5]
        probe_images = 0
        [[attacks]]
        name = "pgd"
        eps = "1/255"
        steps = 2
        restarts = 3
        batch_size = 2
        """
    )
    arguments = ("--suite", suite, "--data-dir", folder / "data")
    assert finish(start_run(*arguments, "--out", folder / "run", log=folder / "log")) == 0
    return Undisturbed.read(arguments, folder / "run")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four images of two classes."""
    folder = tmp_path_factory.mktemp("tree") / "tree"
    for index, pixels in enumerate(load_images("shapes", "test").pixels[:4]):
        write_png(folder / "test" / "ab"[index % 2] / f"{index}.png", pixels)
    return folder
