"""One look before the grid: a model that cannot work is refused once, with what to do."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from data_prep import load_images
from data_prep.errors import InputError
from robustness import run
from robustness.measure.first_look import find_other_weights, look_at_answers
from robustness.measure.loaders.loaded import Wanted
from robustness.measure.subjects import load_subject
from robustness.run_directory import RunDirectory

CPU = torch.device("cpu")
IMAGES = load_images("shapes", split="test").subset(6)


def look(model: nn.Module | Callable[[Tensor], object]) -> list[str]:
    subject = load_subject(model, Wanted(num_classes=10, image_size=(32, 32)), device=CPU, name="mine")
    return look_at_answers([subject], IMAGES, device=CPU)


class Grey(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, 10, 32)

    def forward(self, images: Tensor) -> Tensor:
        return self.convolution(images).flatten(1)


class Knob(nn.Module):
    lam = 0.1

    def forward(self, images: Tensor, lam: Tensor) -> Tensor:
        return images.flatten(1)[:, :10] * lam


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Sequential(Knob()), "its part 0 takes lam and the model itself does not; let its forward take lam"),
        (
            nn.Sequential(nn.Flatten(), nn.LazyLinear(3)),
            "expected a model of 10 classes, .* got mine, which has 3",
        ),
        (lambda x: x.flatten(1)[:1, :10], r"expected logits \(4, 10\) from .*, got \(1, 10\)"),
        (lambda x: x[:, 0, 0, 0], r"expected logits .*, got \(4,\)"),
        (lambda x: None, "mine: expected logits .*, got NoneType"),
        (
            Grey(),
            r"fails on 4 images of 3 channels and 32 × 32 pixels: .*; its first convolution takes 1 channel: ",
        ),
        (nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 10)), "another size, give --input-size; otherwise mend it"),
    ],
)
def test_a_model_that_cannot_answer_is_refused_with_what_to_do(model, message):
    with pytest.raises(InputError, match=message):
        look(model)


def test_probabilities_are_told_from_logits():
    linear = nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))
    assert look(linear) == []
    (note,) = look(lambda images: linear(images).softmax(1))
    assert "mine: its answers look like probabilities" in note
    assert look(lambda images: linear(images).abs()) == []


def test_a_look_leaves_nothing_behind_in_a_model_that_counts():
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("calls", torch.zeros(1))

        def forward(self, images: Tensor) -> Tensor:
            self.calls += 1
            return images.flatten(1)[:, :10]

    look(model := Counting())
    assert model.calls == 0


def test_memory_that_is_short_is_left_to_the_grid():
    def greedy(images: Tensor) -> Tensor:
        raise MemoryError

    assert look(greedy) == []


def test_a_model_that_hangs_is_left_to_the_grid():
    def hangs(images: Tensor) -> Tensor:
        while True:
            pass

    subject = load_subject(hangs, Wanted(num_classes=10), device=CPU)
    assert look_at_answers([subject], IMAGES, device=CPU, timeout=0.2) == []


def test_a_run_ends_before_its_grid_and_notes_are_recorded(tmp_path, capsys, without_figures):
    (tmp_path / "mymodel.py").write_text(
        "from torch import nn\n"
        "def few():\n    return nn.Sequential(nn.Flatten(), nn.Linear(3072, 3))\n"
        "def soft():\n    return nn.Sequential(nn.Flatten(), nn.Linear(3072, 10), nn.Softmax(1))\n"
    )
    options = ["--suite", "demo", "--corruptions", "contrast", "--severities", "1", "--n", "4", "--out"]
    few, soft = (f"{tmp_path}/mymodel.py:{name}" for name in ("few", "soft"))
    with pytest.raises(InputError, match=r"got mymodel.py:few, which has 3"):
        run.main([*options, str(tmp_path / "run"), "--models", f"resnet18-shapes,{few}"])
    assert not (tmp_path / "run").exists()
    assert run.main([*options, str(tmp_path / "run"), "--models", f"resnet18-shapes,{soft}"]) == 0
    assert "note: mymodel.py:soft: its answers look like probabilities" in capsys.readouterr().err
    record = json.loads((tmp_path / "run/run.json").read_text())
    assert any("look like probabilities" in event for event in record["events"])


def test_images_are_enlarged_for_models_from_elsewhere_and_the_run_says_so(tmp_path, capsys, without_figures):
    (tmp_path / "large.py").write_text(
        "from torch import nn\ndef build():\n    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 40 * 40, 10))\n"
    )
    options = ["--suite", "demo", "--corruptions", "contrast", "--severities", "1", "--n", "4"]
    options += ["--models", f"{tmp_path}/large.py:build,resnet18-shapes", "--out", str(tmp_path / "run")]
    with pytest.raises(InputError, match=r"fails on 4 images .* 32 × 32 pixels: .*another size, give --input-size"):
        run.main(options)
    assert run.main([*options, "--input-size", "40"]) == 0
    assert "note: large.py:build: images of 32 × 32 pixels are brought to 40 × 40 for it" in capsys.readouterr().err
    with pytest.raises(InputError, match="expected --input-size from 1 to 4096 pixels, got 0"):
        run.main([*options, "--input-size", "0"])


def test_a_function_that_draws_other_weights_every_time_is_named(tmp_path, monkeypatch):
    """Nothing would ever count as done; a function that seeds nothing is no such one, see ``test_loaders``."""
    directory = RunDirectory(tmp_path)
    subject = load_subject(nn.Flatten(), Wanted(num_classes=10), device=CPU, name="mine")
    assert find_other_weights([subject], directory) == []
    models = [{"name": "mine", "weights": subject.fingerprint}, {"name": "other", "weights": "0"}]
    monkeypatch.setattr(RunDirectory, "read_record", lambda _: {"models": models})
    assert find_other_weights([subject], directory) == []
    models[0]["weights"] = "1"
    (note,) = find_other_weights([subject], directory)
    assert note.startswith("mine: its weights are others than when this directory was last measured")
