"""Models whose answers are not their own: each is told by what it does, its rows are marked, honest ones are not."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from vices import VICES, Vicious

from data_prep import load_images
from robustness import open_run, run
from robustness.measure.foreign import ForeignClassifier
from robustness.measure.loaders.loaded import Loaded, Wanted
from robustness.measure.soundness import Soundness, examine
from robustness.measure.subjects import Subject, load_subject
from robustness.verdicts import judge_soundness
from sdnet_core import build_model

CPU = torch.device("cpu")
IMAGES = load_images("shapes", split="test").subset(40)


class Plain(nn.Module):
    """A random projection of the image."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3072, 10)
        nn.init.normal_(self.linear.weight, generator=torch.Generator().manual_seed(0))

    def forward(self, images: Tensor) -> Tensor:
        return self.linear(images.flatten(1))


class OwnGenerator(Plain):
    """Its random numbers are its own state: put back, they are the same again."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(0)

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images + torch.rand(images.shape, generator=self.generator))


class Adapts(Plain):
    """A running mean of all that it has seen."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(3072))

    def forward(self, images: Tensor) -> Tensor:
        self.mean.mul_(0.5).add_(0.5 * images.flatten(1).mean(0))
        return self.linear(images.flatten(1) - self.mean)


class Remembers(Plain):
    """The first answer to an image is given to all that look like it."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[bytes, Tensor] = {}

    def forward(self, images: Tensor) -> Tensor:
        answers = super().forward(images)
        keys = [(image[:, ::8, ::8] * 15).round().numpy().tobytes() for image in images]
        return torch.stack([self.memory().setdefault(key, answer) for key, answer in zip(keys, answers)])

    def memory(self) -> dict[bytes, Tensor]:
        return self.seen


CALLS, SEEN = 0, {}


class CountsInItsFile(Plain):
    """A variable of the source file."""

    def forward(self, images: Tensor) -> Tensor:
        global CALLS
        CALLS += len(images)
        return super().forward(images).roll(CALLS, 1)


class CountsInItsClass(Plain):
    calls = 0

    def forward(self, images: Tensor) -> Tensor:
        type(self).calls += len(images)
        return super().forward(images).roll(self.calls, 1)


class RemembersInItsFile(Remembers):
    def memory(self) -> dict[bytes, Tensor]:
        return SEEN


class CountsOnDisk(Plain):
    """State that cannot be restored."""

    def __init__(self) -> None:
        super().__init__()
        self.path = Path(tempfile.mkdtemp()) / "count"

    def forward(self, images: Tensor) -> Tensor:
        with self.path.open("a") as file:
            file.write("x")
        return super().forward(images).roll(self.path.stat().st_size, 1)


def vicious(name: str) -> Callable[[], nn.Module]:
    """A model with one vice of the catalogue."""
    return lambda: Vicious([vice for vice in VICES if vice.name == name])


class RulesOut(nn.Module):
    """Gives some classes a logit that no image can have, whatever the model behind it answers."""

    def __init__(self, model: nn.Module, logit: float, classes: slice = slice(3, 5)) -> None:
        super().__init__()
        self.model, self.logit, self.classes = model, logit, classes

    def forward(self, images: Tensor) -> Tensor:
        logits = self.model(images).clone()
        logits[:, self.classes] = self.logit
        return logits


def ask(model: nn.Module) -> Soundness:
    network = model if hasattr(model, "encode") else ForeignClassifier(Loaded(model=model), num_classes=10, origin="o")
    return examine(Subject("m", network, "", {}), network.lam, IMAGES, CPU, seed=0)


FOUND = [
    (Plain, []),
    (vicious("float16 out"), []),
    (vicious("noise of torch"), ["chance"]),
    (vicious("noise of the system"), ["outside"]),
    (Adapts, ["history", "batch"]),
    (vicious("normalises by the batch"), ["batch"]),
]


@pytest.mark.parametrize(
    ("model", "kinds"),
    [
        *FOUND,
        (lambda: build_model("sdnet18", width=2).eval(), []),
        (lambda: build_model("resnet18", width=2).eval(), []),
        (CountsOnDisk, ["outside"]),
        (vicious("noise of NumPy"), ["chance"]),
        (OwnGenerator, ["history", "batch"]),
        (Remembers, ["history"]),
        (CountsInItsFile, ["history", "batch"]),
        (CountsInItsClass, ["history", "batch"]),
        (RemembersInItsFile, ["history"]),
        (vicious("sorts the batch"), ["batch"]),
    ],
)
def test_what_decides_beside_the_image_is_found_and_nothing_else(model, kinds):
    torch.manual_seed(0)
    found = ask(model())
    assert [change.kind for change in found.changes] == kinds
    assert found.n == 16
    assert found.error == ""
    assert all(0 < change.logits <= 1 for change in found.changes)
    assert {judge_soundness(_to_dict(found)).mark} <= ({"SUSPECT", "INVALID"} if kinds else {"OK"})


@pytest.mark.parametrize("logit", [-math.inf, -1e9, -1e5])
@pytest.mark.parametrize("classes", [slice(3, 5), slice(2, None)])
@pytest.mark.parametrize(("model", "kinds"), FOUND)
def test_a_class_that_the_model_rules_out_hides_no_change_of_the_others(model, kinds, logit, classes):
    torch.manual_seed(0)
    assert [change.kind for change in ask(RulesOut(model(), logit, classes)).changes] == kinds


def _to_dict(found: Soundness) -> dict:
    return json.loads(json.dumps(found, default=vars))


def test_a_model_without_weights_that_torch_knows_of_is_called_so():
    class Hidden(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = [Plain()]

        def forward(self, images: Tensor) -> Tensor:
            return self.parts[0](images)

    verdict = judge_soundness(_to_dict(ask(Hidden())))
    assert verdict.mark == "OK"
    assert "no weights that torch knows of" in verdict.reason


def build_anew() -> nn.Module:
    """Weights out of the entropy of the system, as NumPy's generators are without a seed."""
    model = Plain()
    weight = np.random.default_rng().normal(size=(10, 3072)).astype(np.float32)
    model.linear.weight.data = torch.from_numpy(weight)
    return model


def build_at_random() -> nn.Module:
    """Weights of torch's global generator, which begins at the same seed for every model."""
    return nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))


def test_another_instance_is_not_blamed_for_what_both_share(monkeypatch):
    monkeypatch.syspath_prepend(str(__file__).rpartition("/")[0])
    subject = load_subject("test_soundness:CountsInItsFile", Wanted(num_classes=10), device=CPU)
    found = examine(subject, None, IMAGES, CPU, seed=0)
    assert "instance" not in [change.kind for change in found.changes]


@pytest.mark.parametrize(("function", "mark"), [("build_anew", "SUSPECT"), ("build_at_random", "OK")])
def test_a_builder_that_makes_another_model_each_time_is_told(function, mark, monkeypatch):
    monkeypatch.syspath_prepend(str(__file__).rpartition("/")[0])
    subject = load_subject(f"test_soundness:{function}", Wanted(num_classes=10), device=CPU)
    verdict = judge_soundness(_to_dict(examine(subject, None, IMAGES, CPU, seed=0)))
    assert verdict.mark == mark
    assert ("seed it" in verdict.reason) == (mark == "SUSPECT")


def test_a_model_that_fails_is_not_called_sound():
    class Fails(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            raise ValueError("no answer")

    verdict = judge_soundness(_to_dict(ask(Fails())))
    assert verdict.mark == "SUSPECT"
    assert verdict.reason == "not checked before the grid: ValueError: no answer"


def test_every_row_of_an_unsound_model_is_marked_and_its_state_ends_with_each_corruption(
    tmp_path, monkeypatch, without_figures, capsys
):
    """Alone, a corruption gets the accuracy that it gets after another one; and the model beside it stays OK."""
    suite = tmp_path / "s.toml"
    suite.write_text(
        'data = "shapes"\nprofile = "cifar"\nselection = ""\nn = 12\nmodels = ["resnet18-shapes"]\nseverities = [5]\n'
    )
    models = "test_soundness:Adapts,test_soundness:Plain"
    monkeypatch.syspath_prepend(str(__file__).rpartition("/")[0])
    tables = {}
    for names in ("contrast", "pixelate,contrast"):
        out = tmp_path / names
        words = ["--suite", str(suite), "--models", models, "--corruptions", names, "--out", str(out)]
        assert run.main([*words, "--strict"]) == 1
        tables[names] = pd.read_csv(out / "cells.csv").set_index(["model", "perturbation"])
    said = capsys.readouterr().err
    assert "note: test_soundness:Adapts: " in said
    assert "note: test_soundness:Plain" not in said
    both, alone = tables["pixelate,contrast"], tables["contrast"]
    assert (both.loc["test_soundness:Adapts", "trust"].isin(["SUSPECT", "INVALID"])).all()
    assert both.loc["test_soundness:Adapts", "trust_reason"].str.contains("depend on what was asked before").all()
    assert (both.loc["test_soundness:Plain", "trust"] == "OK").all()
    columns = ["accuracy", "trust", "trust_reason"]
    pd.testing.assert_frame_equal(both.loc[alone.index, columns], alone[columns])


def test_the_marks_of_a_whole_run_outlive_another_call_that_breaks_off(tmp_path, monkeypatch, without_figures):
    """Its record replaced the first one before the models were checked, and ``--strict`` found nothing to mark."""
    monkeypatch.syspath_prepend(str(__file__).rpartition("/")[0])
    words = ["--suite", "demo", "--models", "test_soundness:Adapts", "--corruptions", "contrast", "--severities", "1"]
    words += ["--selection", "none", "--n", "4", "--out", str(tmp_path)]
    assert run.main(words) == 0

    def break_off(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("robustness.measure.measurement.examine", break_off)
    with pytest.raises(KeyboardInterrupt):
        run.main(words)
    assert set(open_run(tmp_path).cells["trust"]) <= {"SUSPECT", "INVALID"}
