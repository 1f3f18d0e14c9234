"""Models that expect other images than RGB in [0, 1]: told once by their clean predictions, others are not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from data_prep import ImageSet, load_images
from robustness.analysis.frames import Run
from robustness.analysis.provenance import describe_origin
from robustness.measure.loaders.loaded import Wanted
from robustness.measure.preprocessing import PREPROCESSINGS, note_preprocessing
from robustness.measure.subjects import load_subject
from robustness.run import main
from robustness.run_directory import RunDirectory

CPU = torch.device("cpu")
SHAPES = load_images("shapes", split="test").subset(600)
_LEVELS = (25 * SHAPES.labels)[:, None, None].repeat(32, 1).repeat(32, 2)
MANY = replace(SHAPES, pixels=np.stack([_LEVELS, _LEVELS // 2, 0 * _LEVELS], axis=3).astype(np.uint8))
"""Classes that differ in the level of red and green, from 0 to 225."""
IMAGES = MANY.subset(150)


class Levels(nn.Module):
    """Reads the class off the level of red, behind the inverse of a preprocessing: right after that one only."""

    def __init__(self, invert: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.levels, self.invert = nn.Parameter(torch.arange(10) * 25 / 255), invert

    def forward(self, images: Tensor) -> Tensor:
        return -(self.invert(images)[:, :1].mean((2, 3)) - self.levels).abs()


def invert(name: str) -> Callable[[Tensor], Tensor]:
    """Invert a map that is affine in every channel, or one that only reorders them."""
    change = PREPROCESSINGS[name]
    if name.startswith("with the channels"):
        return change
    zero, one = change(torch.zeros(1, 3, 1, 1)), change(torch.ones(1, 3, 1, 1))
    return lambda x: (x - zero) / (one - zero)


def look(
    model: Callable[[Tensor], Tensor], timeout: float | None = None, images: ImageSet = IMAGES, batch_size: int = 50
) -> list[str]:
    subject = load_subject(model, Wanted(num_classes=10, image_size=(32, 32)), device=CPU, name="mine")
    return list(note_preprocessing(subject, images, device=CPU, batch_size=batch_size, timeout=timeout))


@pytest.mark.parametrize("name", PREPROCESSINGS)
def test_a_model_that_expects_other_images_is_named_with_what_it_expects(name):
    (note,) = look(Levels(invert(name)))
    assert note.startswith(f"mine: 100% of 128 clean images are right {name}, and ")


def test_a_gain_that_is_too_small_for_few_images_is_looked_for_among_many():
    """The last class alone is read off blue, which is red after a change of the channels; the first is never right."""
    levels = torch.arange(10) * 25 / 255

    def model(images: Tensor) -> Tensor:
        red, _, blue = images.mean((2, 3)).T
        read = torch.where(torch.maximum(red, blue) > 220 / 255, blue, torch.maximum(red, blue))
        return -(torch.where(read == 0, 0.5, read)[:, None] - levels).abs()

    (note,) = look(model, images=MANY, batch_size=1000)
    assert " of 512 clean images are right with the channels blue, green, red, and " in note


def test_a_model_that_is_hardly_better_than_chance_afterwards_is_not_named():
    """It is right on two classes of ten after a change of the channels, and on none before."""

    def weak(images: Tensor) -> Tensor:
        red, _, blue = (255 * images.mean((2, 3))).T
        read = torch.maximum(red, blue).div(25).round().long()
        is_right = (blue > red) & (read <= 2)
        return nn.functional.one_hot(torch.where(is_right, read, (read + 1) % 10), 10).float()

    assert look(weak, images=MANY, batch_size=1000) == []


def test_models_that_get_what_they_expect_are_not_named():
    torch.manual_seed(0)
    chance = nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))
    scaled = nn.Sequential(nn.InstanceNorm2d(3), nn.Flatten(), nn.Linear(3072, 10))
    half = Levels(lambda x: torch.where(x.mean((1, 2, 3), keepdim=True) > 0.2, x, 1 - x))
    for model in (Levels(lambda x: x), half, chance, scaled, lambda x: x.new_zeros(len(x), 10)):
        assert look(model) == []


def test_a_model_that_fails_or_hangs_is_left_to_the_grid():
    def fails(images: Tensor) -> Tensor:
        raise ValueError("only on Sundays")

    def fails_later(images: Tensor) -> Tensor:
        if images.max() > 1:
            raise ValueError("values above 1")
        return images.flatten(1)[:, :10]

    def hangs(images: Tensor) -> Tensor:
        while True:
            pass

    assert look(fails) == look(fails_later) == look(hangs, timeout=0.2) == []


def test_a_run_says_so_once_and_not_when_nothing_is_measured(write, tmp_path, capsys, without_figures):
    file = write(
        "mine.py",
        "from sdnet_core import load_model\nfrom torch import nn\n"
        "class Bytes(nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        self.network = load_model('resnet18-shapes')\n"
        "    def forward(self, images):\n        return self.network(images / 255)\n",
    )
    words = ["--suite", "demo", "--corruptions", "contrast", "--severities", "1", "--n", "50"]
    words += ["--models", f"{file}:Bytes", "--out", str(tmp_path / "run")]
    said = "clean images are right with values from 0 to 255"
    assert main(words) == 0
    assert capsys.readouterr().err.count(said) == 1
    (note,) = (text for title, text in describe_origin(Run.open(RunDirectory(tmp_path / "run"))) if title == "note")
    assert said in note
    assert main(words) == 0
    assert said not in capsys.readouterr().err
