"""Run directories that earlier versions wrote are still read, with the same numbers."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from robustness import open_run
from robustness.report import main as report

STORED = Path(__file__).with_name("stored_runs")
CELL = ["model", "perturbation", "severity", "norm", "eps", "threat", "lam"]
NUMBERS = ["n", "accuracy", "ci_low", "ci_high"]


@pytest.fixture(scope="module", params=sorted(path.name for path in STORED.iterdir() if path.is_dir()))
def rebuilt(request, tmp_path_factory):
    """Name of a stored run, and a copy whose tables the current version has written anew."""
    folder = tmp_path_factory.mktemp("stored") / request.param
    shutil.copytree(STORED / request.param, folder, ignore=shutil.ignore_patterns("*.csv"))
    assert report([str(folder)]) == 0
    return request.param, folder


@pytest.mark.parametrize(
    ("table", "keys"),
    [
        ("cells.csv", CELL),
        ("tables/attacks.csv", [*CELL, "policy"]),
        ("tables/summary.csv", ["model", "policy", "lam", "perturbation"]),
    ],
)
def test_numbers_are_the_same(rebuilt, table, keys):
    name, folder = rebuilt
    then, now = (pd.read_csv(path / table) for path in (STORED / name, folder))
    numbers = [column for column in NUMBERS if column in then]
    then, now = (frame.set_index(keys)[numbers].sort_index() for frame in (then, now))
    assert_frame_equal(now.loc[now.index.isin(then.index)], then)


def test_results_of_earlier_checks_still_count(rebuilt):
    """PGD-100 broke three of 15 survivors in the run that has this check."""
    name, folder = rebuilt
    attacks = pd.read_csv(folder / "tables/attacks.csv").set_index(["model", "threat", "lam"])
    row = attacks.loc[("sdnet18-shapes", "whitebox", 0.1)]
    assert row["trust"] != "OK"
    if name == "before_options":
        assert "PGD-100: 3 of 15 images" in row["trust_reason"]
        assert "the active test: measured by an earlier version, measure again with --fresh" in row["trust_reason"]
        assert "raise probe_images" not in row["trust_reason"]


def test_frames_are_read(rebuilt):
    _, folder = rebuilt
    run = open_run(folder)
    assert set(run.cells["model"]) == {"sdnet18-shapes", "resnet18-shapes"}
    assert "sdnet18-shapes" in run.headline
