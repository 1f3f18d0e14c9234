"""Two runs side by side."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from fabricate import fabricate_run

from data_prep.errors import InputError, run_command
from robustness.analysis.comparison import compare_runs
from robustness.compare import main


def answer_worse(model, perturbation, severity, lam, split, n):
    return {"correct": np.arange(n) < 10, "residual": np.zeros(n)}


def answer_better(model, perturbation, severity, lam, split, n):
    return {"correct": np.arange(n) < 16, "residual": np.zeros(n)}


@pytest.fixture
def pair(tmp_path):
    """Two runs on the same images; the second has 6 of 40 right answers more everywhere."""
    return [fabricate_run(tmp_path / a.__name__, answer=a, severities=(1,)) for a in (answer_worse, answer_better)]


def test_differences_are_paired_image_by_image(pair):
    table = compare_runs(*pair)
    assert {"clean", "gaussian_noise", "contrast", "mean of corruptions"} == set(table["perturbation"])
    row = table[(table["perturbation"] == "contrast") & (table["policy"] == "trained")].iloc[0]
    assert (row["first"], row["second"], row["n"]) == (0.25, 0.4, 40)
    assert row["difference"] == pytest.approx(0.15)
    assert 0 < row["low"] < 0.15 < row["high"]
    same = compare_runs(pair[0], pair[0])
    assert (same[["difference", "low", "high"]] == 0).all(axis=None)


def test_a_model_may_be_held_against_another_of_the_other_run(pair):
    table = compare_runs(*pair, models=("plain", "plain"))
    assert set(table["model"]) == {"plain"}
    with pytest.raises(InputError, match="has no model 'other'"):
        compare_runs(*pair, models=("plain", "other"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": {"n": 39}}, "n 40 and 39"),
        ({"data": {"fingerprint": "other"}}, "fingerprint of the images f and other"),
        ({"data": {"source": "official"}}, "source of the corruptions generated and official"),
        ({"suite": {"seed": 1}}, "seed 0 and 1"),
        ({"suite": {"profile": "sweep"}}, "parameters of the corruptions cifar and sweep"),
        ({"protocol": 2}, "protocol version 1 and 2"),
    ],
)
def test_mismatched_protocols_are_refused_by_name(pair, change, message):
    for key, value in change.items():
        pair[1].record[key] = {**pair[1].record[key], **value} if isinstance(value, dict) else value
    with pytest.raises(InputError, match=message):
        compare_runs(*pair)


def test_the_command_prints_and_writes_the_table(pair, tmp_path, capsys):
    paths = [str(run.directory.path) for run in pair]
    out = tmp_path / "difference.csv"
    assert run_command(lambda: main([*paths, "--models", "plain", "--out", str(out)])) == 0
    assert "| plain none, contrast | 25.0 | 40.0 | +15.0 [" in capsys.readouterr().out
    assert set(pd.read_csv(out)["policy"]) == {"none"}
    assert run_command(lambda: main([*paths, "--models", "other"])) == 2
    assert "has no model 'other'" in capsys.readouterr().err
