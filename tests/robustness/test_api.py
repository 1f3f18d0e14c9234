"""The library in one call: any model, any images, one Run."""

from __future__ import annotations

import gc
import json

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import robustness
from data_prep import ImageSet, load_images
from data_prep.errors import InputError
from examples import one_call
from robustness import api
from robustness import run as command
from robustness.analysis.frames import CELL_COLUMNS
from robustness.attack import Attack
from robustness.measure.given import name_models
from robustness.options import RunOptions, read_options, rerun_words
from robustness.suite import Suite

pytestmark = pytest.mark.usefixtures("without_figures")
GRID = {"corruptions": ["contrast"], "severities": [1, 5], "progress": False, "device": "cpu"}


class Brightness(nn.Module):
    """Answers by the brightness of the image, in ten steps; a knob shifts it."""

    def __init__(self, lam: float = 1 / 3) -> None:
        super().__init__()
        self.lam = lam
        self.centres = nn.Parameter(torch.linspace(0, 1, 10))
        self.dropout = nn.Dropout(0.9)

    def forward(self, images: Tensor, lam: float | Tensor = 1 / 3) -> Tensor:
        mean = self.dropout(images.mean((1, 2, 3))) + 0.1 * (torch.as_tensor(lam) - 1 / 3)
        return -(mean[:, None] - self.centres).square()


@pytest.fixture(scope="module")
def images() -> ImageSet:
    return load_images("shapes", split="test").subset(12)


@pytest.fixture(scope="module")
def measured(images: ImageSet) -> robustness.Run:
    net = Brightness()
    net.train()
    models = {"mine": net, "f": lambda x: net(x), "base": "resnet18-shapes"}
    run = robustness.evaluate(models, images, lambdas=[0.2, 1 / 3], baseline="base", **GRID)
    assert net.training, "the module is handed back as it came"
    return run


def test_frames_have_the_columns_of_the_files(measured):
    assert list(measured.cells.columns) == CELL_COLUMNS == list(pd.read_csv(measured.path / "cells.csv").columns)
    summary = pd.read_csv(measured.path / "tables" / "summary.csv")
    assert list(measured.summary.columns) == list(summary.columns)
    np.testing.assert_allclose(measured.summary["accuracy"], summary["accuracy"])
    assert set(measured.cells["model"]) == {"mine", "f", "base"}
    assert len(measured.attacks) == 0
    assert measured.missing == {}


def test_accuracies_are_those_of_the_model(measured, images):
    x = torch.from_numpy(images.pixels.copy()).permute(0, 3, 1, 2) / 255
    right = (Brightness().eval()(x).argmax(1).numpy() == images.labels).mean()
    clean = measured.cells[(measured.cells["perturbation"] == "clean") & (measured.cells["model"] == "f")]
    assert clean["accuracy"].tolist() == pytest.approx([right])
    trained = measured.summary[(measured.summary["model"] == "mine") & (measured.summary["policy"] == "trained")]
    assert set(trained["lam"]) == {0.3333333333}, "the λ of the module, 1/3, is the grid's"


def test_a_run_shows_itself(measured, tmp_path):
    assert measured.headline in repr(measured)
    assert measured.headline.replace("<", "&lt;") in measured._repr_html_()
    assert "<table" in measured._repr_html_()
    assert measured.report(tmp_path / "r.html") == tmp_path / "r.html"
    assert measured.headline in (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "accuracy_by_lambda" in measured.figures
    assert measured.plot("accuracy_by_severity").axes[0].lines
    with pytest.raises(InputError, match=r"expected a figure of the run \(accuracy_by_lambda, .*, got 'nonsense'"):
        measured.plot("nonsense")


def test_runs_are_compared_pair_by_pair(measured):
    table = measured.compare(measured, models=("mine", "mine"))
    assert (table["difference"] == 0).all()
    assert table.attrs["left_out"] == []


def test_the_record_says_what_was_asked(measured):
    record = json.loads((measured.path / "run.json").read_text(encoding="utf-8"))
    options = read_options(record)
    assert options.objects == ("model", "data")
    (_, code) = rerun_words(record)
    assert code.startswith("import robustness; robustness.evaluate({'mine': ..., 'f': ..., 'base': ...}, data=...")
    assert "lambdas=[0.2, 0.3333333333], corruptions=['contrast'], severities=[1, 5]" in code
    assert "out" not in code, "a temporary directory is nobody's wish"


def test_a_temporary_run_directory_lives_as_long_as_its_run(images):
    run = robustness.evaluate("resnet18-shapes", images, **{**GRID, "corruptions": []})
    folder = run.path
    assert folder.is_dir()
    del run
    gc.collect()
    assert not folder.exists()


def test_one_grid_from_python_and_from_the_shell(tmp_path):
    names = ["resnet18-shapes", "sdnet18-shapes"]
    run = robustness.evaluate(names, "shapes", lambdas=[0.1], n=8, out=tmp_path / "a", **GRID)
    words = rerun_words(json.loads((run.path / "run.json").read_text(encoding="utf-8")))
    assert words[:2] == ["-m", "robustness.run"]
    suite = tmp_path / "s.toml"
    suite.write_text('data = "shapes"\ncorruptions = ["contrast"]\nseverities = [1, 5]\nn = 8\nlambdas = [0.1]\n')
    options = ["--suite", str(suite), "--models", ",".join(names), "--device", "cpu", "--out", str(tmp_path / "b")]
    assert command.main(options) == 0
    theirs = robustness.open_run(tmp_path / "b")
    columns = [name for name in CELL_COLUMNS if name != "seconds"]
    pd.testing.assert_frame_equal(run.cells[columns], theirs.cells[columns])
    keys = [{cell["key"] for cell in json.loads((it.path / "run.json").read_text())["cells"]} for it in (run, theirs)]
    assert keys[0] == keys[1], "what one has measured the other finds done"


@pytest.mark.parametrize("kind", ["arrays", "floats first", "dataset", "loader"])
def test_images_in_any_form_are_the_same_images(images, kind):
    x = torch.from_numpy(images.pixels.copy()).permute(0, 3, 1, 2) / 255
    y = torch.from_numpy(images.labels.copy())
    data = {
        "arrays": (images.pixels, images.labels),
        "floats first": (x, y),
        "dataset": TensorDataset(x, y),
        "loader": DataLoader(TensorDataset(x, y), batch_size=5),
    }[kind]
    run = robustness.evaluate(Brightness(), data, **GRID)
    expected = robustness.evaluate(Brightness(), images, **GRID)
    columns = ["model", "perturbation", "severity", "n", "accuracy", "lam"]
    pd.testing.assert_frame_equal(run.cells[columns], expected.cells[columns])


def test_a_suite_with_keys_replaced(images):
    suite = Suite(name="s", data="shapes", corruptions=("pixelate", "contrast"), severities=(3,), models=("m",))
    run = robustness.evaluate(Brightness(), images, suite=suite, corruptions="pixelate", progress=False, device="cpu")
    assert set(run.cells["perturbation"]) == {"clean", "pixelate"}
    assert set(run.cells["severity"]) == {0, 3}


def test_attacks_on_a_model_without_lambda_are_written_without_threat_models(images):
    model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, len(images.classes)))
    few, table = images.take(np.arange(4)), {"name": "pgd", "steps": 1}
    run = robustness.evaluate({"plain": model}, few, attacks=[table], eps="2/255", progress=False, device="cpu")
    written = (run.path / "tables" / "attacks_linf.md").read_text()
    assert "pgd L∞ 2/255" in written
    assert "whitebox" not in written
    assert "λ" not in written


def test_attacks_by_name_and_budget(images):
    few = images.take(np.arange(4))
    table = {"name": "pgd", "steps": 1}
    run = robustness.evaluate(Brightness(), few, attacks=[table], eps=["2/255", 0.03], progress=False, device="cpu")
    assert set(run.cells["perturbation"]) == {"clean", "pgd"}, "without corruptions where only attacks are named"
    assert sorted(set(run.attacks["eps"])) == [2 / 255, 0.03]
    assert {"trust", "gain"} <= set(run.attacks.columns)
    assert "pgd" in run._repr_html_()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": []}, "expected at least one model, got none"),
        (
            {"model": ["resnet18-shapes", "resnet18-shapes"]},
            "expected models of different names, got two called 'resnet18-shapes'; give a dict",
        ),
        ({"model": nn.Identity(), "data": None}, "expected images or a suite, got neither"),
        ({"model": Brightness(), "eps": "2/255"}, "expected attacks for eps, got none; name one"),
        ({"model": Brightness(), "lambdas": [-1]}, "expected a finite λ ≥ 0, got -1"),
        ({"model": Brightness(), "n": 13}, "expected --n of at most 12, the images of"),
        ({"model": {"a": lambda x: x[:, :, 0, 0]}}, "got a, which has 3"),
        ({"model": Brightness}, "got the class Brightness; give an object of it"),
        ({"model": Brightness(), "severities": "weak"}, "expected severities as whole numbers from 1"),
    ],
)
def test_what_cannot_be_used_is_said_in_a_sentence(images, arguments, message):
    with pytest.raises(InputError, match=message):
        robustness.evaluate(**{"data": images, **GRID, **arguments})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"n": "12"}, "evaluate: expected n as a whole number or empty, got '12'"),
        ({"n": 1.5}, "expected n as a whole number or empty, got 1.5"),
        ({"severities": (1.5,)}, r"expected severities\[0\] as a whole number, got 1.5"),
        ({"baseline": 3}, "expected baseline as text or empty, got 3"),
        ({"timeout": "1"}, "expected timeout as a number or empty, got '1'"),
    ],
)
def test_values_of_another_type_are_named(given, message):
    with pytest.raises(InputError, match=message):
        api._read_options(**given)


def test_single_values_and_those_of_numpy_are_taken(images):
    options = api._read_options(n=np.int64(5), severities=(np.int64(3),), lambdas=(np.float64(0.2),), models=("a",))
    assert options == RunOptions(n=5, severities=(3,), lambdas=(0.2,), models=("a",))
    assert [type(value) for value in (options.n, *options.severities)] == [int, int]
    run = robustness.evaluate(Brightness(), images, lambdas=0.2, **{**GRID, "severities": 3, "n": 5})
    assert set(run.cells["severity"]) == {0, 3}
    assert set(run.cells["lam"]) == {0.2}


def test_models_are_named_by_key_class_or_file():
    assert list(name_models([Brightness(), "resnet18-shapes"])) == ["Brightness", "resnet18-shapes"]
    assert list(name_models(Brightness().forward)) == ["forward"]
    assert list(name_models([Brightness(), nn.Identity(), Brightness()])) == [
        "Brightness-1",
        "Identity",
        "Brightness-2",
    ]
    with pytest.raises(InputError, match="a: expected a module, a function images → logits or a name, got int"):
        name_models({"a": 3})


def test_the_example_runs(capsys):
    run = one_call.main(steps=2, n=6)
    assert set(run.cells["model"]) == {"mine", "base"}
    assert run.headline in capsys.readouterr().out


def test_an_attack_object_is_taken_as_it_is(images):
    from robustness.measure.request import _make_attacks
    from robustness.options import RunOptions

    own = Attack(name="pgd", norm="l2", eps=0.25, steps=3)
    options = RunOptions(eps=(("", 2 / 255), ("l2", 0.5)))
    made = _make_attacks(("pgd", own), options, "cifar")
    assert [(attack.norm, attack.eps) for attack in made] == [("linf", 2 / 255), ("l2", 0.5), ("l2", 0.25)]
