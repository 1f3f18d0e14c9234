"""Ablations: what is trained, and what the table says of it."""

from __future__ import annotations

import msgspec
import pandas as pd
import pytest

from data_prep.errors import InputError
from robustness.ablate import main
from robustness.ablation import BASE, list_variants
from robustness.analysis.findings import Findings
from robustness.analysis.frames import Run
from robustness.analysis.page_data import collect
from robustness.options import AblationOptions, read_options, rerun_words
from robustness.run_directory import RunDirectory
from sdnet_core import read_card

TINY = ["--set", "model.width=2", "--set", "epochs=1", "--set", "warmup_epochs=0", "--set", "data=tiny"]


def test_a_variant_changes_one_thing():
    varied = ["model.n_steps=1,4", "lr=0.1"]
    assert list_variants("cifar10-sdnet18-small", ["epochs=3"], varied) == {
        BASE: ["epochs=3"],
        "n_steps=1": ["epochs=3", "model.n_steps=1"],
        "n_steps=4": ["epochs=3", "model.n_steps=4"],
        "lr=0.1": ["epochs=3", "lr=0.1"],
    }


@pytest.mark.parametrize(
    ("varied", "message"),
    [
        ("model.n_steps=2", "to change the recipe"),
        ("model.n_steps", "KEY=A,B"),
        ("model.n_steps=1,,4", "KEY=A,B"),
        ("epoch=1", "expected keys among .*, got epoch$"),
    ],
)
def test_what_cannot_be_varied(varied, message):
    with pytest.raises(InputError, match=message):
        list_variants("cifar10-sdnet18-small", [], [varied])


def test_nothing_is_trained_for_a_suite_that_cannot_be_measured(tmp_path, import_shapes):
    options = ["--recipe", "cifar10-sdnet18-small", "--vary", "model.lam=0.2", "--out", str(tmp_path / "out")]
    with pytest.raises(InputError, match="or a shipped suite"):
        main([*options, "--suite", "nosuch"])
    data = import_shapes("tiny", train=10, test=20)
    options += [*TINY, "--data-dir", str(data)]
    with pytest.raises(InputError, match="expected --n of at most 20"):
        main([*options, "--n", "21"])
    with pytest.raises(InputError, match=r"expected standard corruptions in the suite .*, got none"):
        main([*options, "--suite", "pgd", "--n", "20"])
    suite = tmp_path / "extra.toml"
    suite.write_text('data = "x"\nprofile = "sweep"\ncorruptions = ["speckle_noise"]\nseverities = [1]\n')
    with pytest.raises(InputError, match=r"expected standard corruptions in the suite .*, got none"):
        main([*options, "--suite", str(suite), "--n", "20", "--dry-run"])
    with pytest.raises(InputError, match=r"expected batch_size of the variant base of at most 10, .*, got 128; give"):
        main([*options, "--n", "20"])
    fitting = [*options, "--set", "batch_size=10", "--n", "20"]
    with pytest.raises(
        InputError, match=r"expected batch_size of the variant batch_size=11 of at most 10, .*, got 11; give"
    ):
        main([*fitting, "--vary", "batch_size=11"])
    assert main([*fitting, "--dry-run"]) == 0
    assert not (tmp_path / "out").exists()


def test_a_variant_without_a_lambda_of_its_own_is_measured_at_the_default(tmp_path, import_shapes, without_figures):
    suite, recipe = tmp_path / "s.toml", tmp_path / "r.toml"
    suite.write_text('data = "x"\nprofile = "sweep"\ncorruptions = ["gaussian_noise"]\nseverities = [1]\n')
    recipe.write_text('data = "tiny"\nepochs = 1\nbatch_size = 8\nmodel = { arch = "sdnet18", width = 2 }\n')
    options = ["--recipe", str(recipe), "--vary", "model.lam=0.3", "--vary", "model.arch=resnet18", "--n", "20"]
    data = import_shapes("tiny", train=8, test=20)
    options += ["--suite", str(suite), "--device", "cpu", "--data-dir", str(data), "--out", str(tmp_path / "out")]
    assert main(options) == 0
    cells = pd.read_csv(tmp_path / "out" / "run" / "cells.csv")
    lambdas = {name: set(rows["lam"].dropna()) for name, rows in cells.groupby("model")}
    assert lambdas == {BASE: {0.1, 0.3}, "lam=0.3": {0.1, 0.3}, "arch=resnet18": set()}


def test_every_variant_is_trained_and_compared_with_the_recipe_at_its_own_lambda(tmp_path, import_shapes, capsys):
    suite = tmp_path / "s.toml"
    suite.write_text('data = "x"\nprofile = "sweep"\ncorruptions = ["gaussian_noise"]\nseverities = [1, 2]\n')
    data = import_shapes("tiny", train=130, test=20)
    options = ["--recipe", "cifar10-sdnet18-small", *TINY, "--vary", "model.lam=0.3", "--data-dir", str(data)]
    options += ["--suite", str(suite), "--n", "20", "--out", str(tmp_path / "out"), "--device", "cpu"]
    assert main(options) == 0
    table = pd.read_csv(tmp_path / "out" / "ablation.csv").set_index("variant")
    assert list(table.index) == [BASE, "lam=0.3"]
    card = read_card(tmp_path / "out" / "lam=0.3" / "model.safetensors")
    assert card.config.lam == 0.3
    assert table.loc["lam=0.3", "clean"] == card.accuracy["correct"] / 20
    summary = pd.read_csv(tmp_path / "out" / "run" / "tables" / "summary.csv")
    trained = summary[(summary["policy"] == "trained") & (summary["perturbation"] == "mean of corruptions")]
    assert table["mean"].to_dict() == pytest.approx(dict(zip(trained["model"], trained["accuracy"], strict=True)))
    assert table.loc["lam=0.3", "versus"] == pytest.approx(table.loc["lam=0.3", "mean"] - table.loc[BASE, "mean"])
    assert "to train" in capsys.readouterr().out
    assert main(options) == 0
    assert "to train" not in capsys.readouterr().out
    run = Run.open(RunDirectory(tmp_path / "out" / "run"))
    command = collect(Findings.of(run))["rerun"].splitlines()[0]
    assert command.startswith("python -m robustness.ablate --recipe cifar10-sdnet18-small --set model.width=2")
    assert "--vary model.lam=0.3" in command
    assert read_options(run.record) == msgspec.convert(run.record["options"], AblationOptions)
    assert rerun_words(run.record)[:4] == ["-m", "robustness.ablate", "--recipe", "cifar10-sdnet18-small"]
    assert rerun_words(run.record)[-2:] == ["--out", str(tmp_path / "out")]
    with pytest.raises(InputError, match="training of this recipe, seed, precision"):
        main([*options, "--seed", "1"])
