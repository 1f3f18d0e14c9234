"""``python -m robustness.run`` as a user calls it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from data_prep import load_images
from data_prep.errors import run_command
from robustness.report import main as report
from robustness.run import main, make_parser
from sdnet_core import ModelCard, Network, NetworkConfig, load_model, save_model

pytestmark = pytest.mark.usefixtures("without_figures")


def measure(suite: Path, out: Path, *options: str) -> int:
    return run_command(lambda: main(["--suite", str(suite), "--out", str(out), "--device", "cpu", *options]))


def read_cells(out: Path) -> pd.DataFrame:
    return pd.read_csv(out / "cells.csv")


def written(out: Path) -> dict[str, float]:
    return {path.name: path.stat().st_mtime_ns for path in (out / "outcomes").glob("*.parquet")}


def test_more_lambdas_compute_only_what_is_new(suite, tmp_path, capsys):
    out = tmp_path / "run"
    measure(suite, out)
    first, cells = written(out), read_cells(out)
    assert measure(suite, out, "--lambdas", "0.1,0.3,0.5") == 0
    second = written(out)
    assert {name: second[name] for name in first} == first
    assert len(second) == len(first) + 5
    assert "20 cells, 15 of them done" in capsys.readouterr().out
    merged = read_cells(out)
    kept = merged[merged["lam"] != 0.3].reset_index(drop=True)
    pd.testing.assert_frame_equal(kept, cells)


def test_the_same_run_again_measures_nothing_and_fresh_measures_all(suite, tmp_path):
    out = tmp_path / "run"
    measure(suite, out)
    first = written(out)
    assert measure(suite, out) == 0
    assert written(out) == first
    measure(suite, out, "--fresh")
    assert all(stamp > first[name] for name, stamp in written(out).items())


def test_the_report_needs_neither_models_nor_data(suite, tmp_path, monkeypatch, capsys):
    out = tmp_path / "run"
    measure(suite, out)
    before = {path: path.read_bytes() for path in [out / "cells.csv", out / "report.html", *(out / "tables").iterdir()]}
    for path in before:
        path.unlink()
    monkeypatch.setattr("sys.argv", ["report", str(out)])
    monkeypatch.setattr("data_prep.load_images", None)
    monkeypatch.setattr("torch.nn.Module.__call__", None)
    assert report() == 0
    assert {path: path.read_bytes() for path in before} == before


def test_dry_run_measures_nothing(suite, tmp_path, capsys):
    assert measure(suite, tmp_path / "run", "--dry-run") == 0
    assert not (tmp_path / "run").exists()
    assert "15 cells, 0 of them done" in capsys.readouterr().out


@pytest.mark.parametrize(("model", "expected"), [("sdnet18-shapes", True), ("resnet18-shapes", False)])
def test_the_choice_of_lambda_is_announced_where_a_model_has_one(tmp_path, capsys, model, expected):
    words = ["--suite", "demo", "--models", model, "--n", "8", "--out", str(tmp_path / "run"), "--dry-run"]
    assert main(words) == 0
    assert ("choice of λ" in capsys.readouterr().out) == expected


def test_dry_run_says_what_fresh_would_measure_and_forgets_nothing(suite, tmp_path, capsys):
    out = tmp_path / "run"
    measure(suite, out, "--lambdas", "0.1")
    first = written(out)
    for options, done in (((), 10), (("--fresh",), 0)):
        capsys.readouterr()
        assert measure(suite, out, "--lambdas", "0.1", "--dry-run", *options) == 0
        assert f"10 cells, {done} of them done" in capsys.readouterr().out
    assert written(out) == first


def test_a_card_that_promises_another_clean_accuracy_is_an_error(suite, tmp_path, models, capsys):
    """Trap 6: missing or doubled normalisation shows as another clean accuracy on the full test set."""
    images = load_images("shapes", split="test").subset(20)
    model = load_model(models / "sparse.safetensors")
    path = tmp_path / "promise.safetensors"
    accuracy = {"correct": 20, "n": 20, "data": images.title, "fingerprint": images.fingerprint}
    save_model(model, path, ModelCard(name="p", config=model.config, accuracy=accuracy))
    assert measure(suite, tmp_path / "run", "--models", str(path)) == 2
    assert "expected an accuracy of 100.00%" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--lambdas", "nan"], "expected a finite λ ≥ 0, got"),
        (["--lambdas", "-0.1"], "expected a finite λ ≥ 0, got"),
        (["--corruptions", "gausian_noise"], "gaussian_noise"),
        (["--severities", "6"], "severities 1 to 5"),
        (["--models", "sdnet99"], "got 'sdnet99'; check the name"),
        (["--n", "0"], "at least 1 image"),
        (["--n", "99999"], "expected --n of at most 2000"),
        (["--batch-size", "0"], "at least 1"),
        (["--seed", "-1"], "whole number"),
        (["--eps", "8"], "did you mean 8/255"),
        (["--eps", "8/255"], "has no attack"),
        (["--suite", "nothing"], "got 'nothing'; check the name"),
        (["--suite", "nothing,nothing,"], "got 'nothing'; check the name"),
        (["--corruptions", ""], "expected something after --corruptions, got ''"),
        (["--attacks", ","], "expected something after --attacks, got ','"),
        (["--out", ""], "expected something after --out, got ''"),
        (["--suite", "/proc/self/mem"], "expected a file that can be read"),
        (["--data-dir", "\udcff"], "expected UTF-8 text"),
        (["--suite", "cifar10c", "--data-dir", "nowhere"], "--suite demo"),
        (["--device", "cuda:99"], "cuda"),
    ],
)
def test_bad_input_gets_one_sentence_and_exit_code_2(options, message, suite, tmp_path, capsys):
    assert measure(suite, tmp_path / "run", *options) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert "Traceback" not in error


def test_a_read_only_output_folder_is_named(suite, tmp_path):
    """By a process that even as root has no right to pass over permissions."""
    drop = ["setpriv", "--bounding-set=-dac_override"] if os.geteuid() == 0 else []
    if drop and shutil.which(drop[0]) is None:
        pytest.skip("root may write everywhere, and setpriv is not here to take that right away")
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    words = [*drop, sys.executable, "-m", "robustness.run", "--suite", str(suite), "--out", str(folder / "run")]
    done = subprocess.run([*words, "--device", "cpu"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_output_folder_of_something_else_is_refused(suite, tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    assert measure(suite, tmp_path / "mine") == 2
    assert "holds other files" in capsys.readouterr().err
    assert (tmp_path / "mine" / "thesis.tex").exists()
    (tmp_path / "file").write_text("x")
    assert measure(suite, tmp_path / "file") == 2


def test_a_run_killed_before_its_record_goes_on_and_leaves_no_rubbish(suite, tmp_path):
    out = tmp_path / "run"
    for leftover in (out / ".scratch-x", out / "outcomes" / ".writing-y"):
        leftover.mkdir(parents=True)
        (leftover / "half").write_bytes(b"x")
    (out / "samples.npz").write_bytes(b"copied by a merge, or fetched from a URL")
    assert measure(suite, out) == 0
    assert {path.name for path in out.rglob(".*")} <= {".lock", ".lock-analysis"}


def test_a_model_that_was_trained_on_images_of_another_size_is_named(suite, models, tmp_path, capsys):
    path, config = tmp_path / "large.safetensors", NetworkConfig(arch="resnet18", width=2, image_size=64)
    save_model(Network(config), path, ModelCard(name="large", config=config))
    out = tmp_path / "run"
    assert measure(suite, out, "--models", f"{path},{models}/plain.safetensors", "--n", "2") == 0
    expected = "large: it was made for images 64 pixels high, these have 32 × 32 and are taken as they are"
    assert f"note: {expected}" in (error := capsys.readouterr().err)
    assert "plain: it was" not in error
    assert json.loads((out / "run.json").read_text())["events"][0].startswith(expected)


def test_help_shows_suites_and_examples():
    text = make_parser().format_help()
    for word in ("demo", "cifar10c", "noise", "--lambdas 0.1,0.2,0.5", "exit codes"):
        assert word in text


def test_fast_is_refused_where_exact_gradients_are_needed(tmp_path, capsys):
    arguments = ["--suite", "pgd", "--data-dir", str(tmp_path), "--speed", "fast"]
    assert run_command(lambda: main(arguments)) == 2
    assert "attacks need exact gradients" in capsys.readouterr().err


@pytest.mark.slow
def test_fast_says_what_it_changes_and_is_kept_apart(suite, tmp_path, capsys):
    """Compiling takes half a minute."""
    out = tmp_path / "run"
    assert measure(suite, out, "--speed", "fast") == 0
    assert "sparse: fast and exact agree on 20 of 20 clean images (100.00%)" in capsys.readouterr().out
    record = json.loads((out / "run.json").read_text())
    assert [agreement["same"] for agreement in record["agreement"]] == [20, 20]
    first = written(out)
    assert measure(suite, out) == 0
    assert len(written(out)) == 2 * len(first)
