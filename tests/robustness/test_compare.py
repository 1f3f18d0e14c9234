"""Two runs side by side."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from fabricate import fabricate_run
from small_models import ByBrightness

import robustness
from data_prep import ImageSet
from data_prep.corruptions.sequences import perturb
from data_prep.errors import InputError, run_command
from data_prep.shifts import CIFAR10_CLASSES
from robustness.analysis.comparison import compare_runs
from robustness.analysis.sequences import MEAN_OF_SEQUENCES
from robustness.compare import main
from robustness.flips import flips_of_sequences, top5_distances
from robustness.statistics import paired_interval
from robustness.suite import Suite


@pytest.fixture
def pair(tmp_path):
    """Two runs on the same images; the second has 6 of 40 right answers more everywhere."""
    answers = {"worse": {"correct": np.arange(40) < 10}, "better": {"correct": np.arange(40) < 16}}
    return [fabricate_run(tmp_path / name, answer=lambda *_: it, severities=(1,)) for name, it in answers.items()]  # noqa: B023


def test_differences_are_paired_image_by_image(pair):
    table = compare_runs(*pair).table
    assert {"clean", "gaussian_noise", "contrast", "mean of corruptions"} == set(table["perturbation"])
    row = table[(table["perturbation"] == "contrast") & (table["policy"] == "trained")].iloc[0]
    assert (row["first"], row["second"], row["n"]) == (0.25, 0.4, 40)
    assert row["difference"] == pytest.approx(0.15)
    assert 0 < row["low"] < 0.15 < row["high"]
    same = compare_runs(pair[0], pair[0]).table
    assert (same[["difference", "low", "high"]] == 0).all(axis=None)


def test_a_model_may_be_held_against_another_of_the_other_run(pair):
    table = compare_runs(*pair, models=("plain", "plain")).table
    assert set(table["model"]) == {"plain"}
    with pytest.raises(InputError, match="got 'other'; choose one of them"):
        compare_runs(*pair, models=("plain", "other"))


def test_policies_that_chose_from_other_lambdas_are_left_out_by_name(tmp_path, capsys):
    """Residual, validated and oracle choose among the λs of a run: with other λs they answer another question."""
    options = {"severities": (1,), "selection": ("speckle_noise", "saturate")}
    first = fabricate_run(tmp_path / "a", **options)
    second = fabricate_run(tmp_path / "b", **options, lambdas=(0.1, 0.3, 0.5))
    comparison = compare_runs(first, second)
    assert set(comparison.table["policy"]) == {"none", "fixed", "trained"}
    assert comparison.left_out == (
        "sparse: validated, residual, matched, oracle are left out, since the λ grids differ: 0.1, 0.5 and 0.1, 0.3, "
        "0.5",
    )
    assert main([str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    assert "since the λ grids differ" in capsys.readouterr().out
    assert {"validated", "oracle"} < set(compare_runs(first, first).table["policy"])
    third = fabricate_run(tmp_path / "c", severities=(1,), selection=("speckle_noise",))
    comparison = compare_runs(first, third)
    assert set(comparison.table["policy"]) == {"none", "fixed", "trained", "oracle"}
    assert "validated is left out" in comparison.left_out[0]
    assert "speckle_noise, saturate, n = 40 and speckle_noise, n = 40" in comparison.left_out[0]


def test_means_are_of_cells_that_both_have_in_full(tmp_path):
    whole = fabricate_run(tmp_path / "whole", severities=(1, 3))
    few = fabricate_run(tmp_path / "few", severities=(3,))
    rows = compare_runs(whole, few).table.query("policy == 'none'").set_index("perturbation")
    assert rows["severities"].to_dict() == {"clean": 1, "gaussian_noise": 1, "contrast": 1, "mean of corruptions": 2}
    gap = fabricate_run(tmp_path / "gap", severities=(1, 3), missing=lambda c: c["key"] == "test-contrast-3-plain-None")
    rows = compare_runs(whole, gap).table.query("policy == 'none'").set_index("perturbation")
    assert rows["severities"].to_dict() == {"clean": 1, "gaussian_noise": 2, "contrast": 1}
    one = fabricate_run(tmp_path / "one", severities=(1, 3), corruptions=("contrast",))
    for pair in ((whole, one), (one, whole)):
        assert "mean of corruptions" not in set(compare_runs(*pair).table["perturbation"]), "means of other corruptions"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": {"n": 39}}, "n 40 and 39"),
        ({"data": {"fingerprint": "other"}}, "fingerprint of the images f and other"),
        ({"data": {"source": "official"}}, "source of the corruptions generated and official"),
        ({"suite": {"seed": 1}}, "seed 0 and 1"),
        ({"suite": {"profile": "sweep"}}, "parameters of the corruptions cifar and sweep"),
        ({"agreement": [{"model": "sparse", "same": 40, "n": 40}]}, "speed exact and fast"),
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
    assert "| plain none, contrast | 1 | 40 | 25.0 | 40.0 | +15.0 [" in capsys.readouterr().out
    assert set(pd.read_csv(out)["policy"]) == {"none"}
    assert run_command(lambda: main([*paths, "--models", "other"])) == 2
    assert "got 'other'; choose one of them" in capsys.readouterr().err


def test_a_comma_in_the_name_of_a_model_is_no_separator(tmp_path, capsys):
    """The names come from the runs: the folders that the models came from need not be there."""
    names = ("lr=0.1,wd=5e-4", "lr=0.2,wd=5e-4")
    fabricate_run(tmp_path / "run", names=names, severities=(1,))
    paths = [str(tmp_path / "run")] * 2
    assert run_command(lambda: main([*paths, "--models", ",".join(names)])) == 0
    assert run_command(lambda: main([*paths, "--models", names[1]])) == 0
    assert f"{names[1]} none, contrast" in capsys.readouterr().out
    assert run_command(lambda: main([*paths, "--models", "a,b,c"])) == 2
    assert "with a backslash before a comma within a name" in capsys.readouterr().err


SPANS = {"first": 10.0, "second": 14.0}
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (19, 32, 32, 3), dtype=np.uint8) // 2 + RNG.integers(0, 100, (19, 1, 1, 3), np.uint8)
LABELS = np.arange(19) % 10


def measure(folder: Path, name: str, suite: str | Suite, shifted: int = 7) -> Path:
    """Write a run of one of two models, both called net, on 12 images, and 7 others as CIFAR-10.2."""
    (folder / name).mkdir(exist_ok=True)
    np.savez(folder / name / "cifar102_test.npz", images=PIXELS[-shifted:], labels=LABELS[-shifted:])
    images = ImageSet("cifar10", "made up", "test", PIXELS[:12], LABELS[:12], CIFAR10_CLASSES, np.arange(12))
    options = {"data_dir": folder / name, "out": folder / name / "run", "device": "cpu", "progress": False}
    robustness.evaluate({"net": ByBrightness(SPANS[name])}, images, suite=suite, **options)
    return folder / name / "run"


def answer(name: str, pixels: np.ndarray) -> np.ndarray:
    """Logits of a model for (..., 32, 32, 3) images."""
    images = torch.from_numpy(pixels).flatten(0, -4).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        return ByBrightness(SPANS[name])(images).numpy().reshape(*pixels.shape[:-3], 10)


def test_natural_shifts_are_paired_image_by_image(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [measure(tmp_path, name, "shifts") for name in SPANS]
    table = robustness.open_run(paths[0]).compare(paths[1])
    assert table["perturbation"].tolist() == ["clean", "CIFAR-10.2"]
    row = table.set_index("perturbation").loc["CIFAR-10.2"]
    right = [answer(name, PIXELS[-7:]).argmax(1) == LABELS[-7:] for name in SPANS]
    assert (row["n"], row["measure"], row["policy"]) == (7, "accuracy", "none")
    assert (row["first"], row["second"]) == (right[0].mean(), right[1].mean())
    assert row["first"] != row["second"]
    expected = paired_interval(right[1].astype(float) - right[0])
    assert row[["difference", "low", "high"]].tolist() == pytest.approx(expected)
    assert table.attrs["left_out"] == []
    other = measure(tmp_path, "second", "shifts", shifted=6)
    assert main([str(paths[0]), str(other)]) == 0
    shown = capsys.readouterr().out
    assert "CIFAR-10.2 is left out, since its images differ between the runs." in shown
    assert ", CIFAR-10.2 |" not in shown


def test_sequences_are_paired_image_by_image(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ("brightness", "gaussian_noise")
    fields = {"data": "cifar10", "archive": "cifar10p", "models": ("net",), "corruptions": ()}
    paths = [measure(tmp_path, name, Suite(name="p", sequences=names, **fields)) for name in SPANS]
    assert main([*map(str, paths), "--out", str(tmp_path / "difference.csv")]) == 0
    assert "| net none, brightness: flips (%) | 1 | 12 |" in capsys.readouterr().out
    table = pd.read_csv(tmp_path / "difference.csv").set_index(["perturbation", "measure"])
    expected = {"flips": [], "top5_distance": []}
    for name in names:
        frames = perturb(PIXELS[:12], name, difficulty=1, indices=np.arange(12))
        logits, noise = [answer(model, frames) for model in SPANS], name == "gaussian_noise"
        flips = [flips_of_sequences(it.argmax(2), noise=noise) for it in logits]
        expected["flips"].append(flips[1] - flips[0])
        distances = [top5_distances(it, noise=noise) for it in logits]
        expected["top5_distance"].append(distances[1] - distances[0])
        assert table.loc[(name, "flips"), "second"] == pytest.approx(flips[1].mean(), abs=1e-6)
    for measured, largest in (("flips", 1), ("top5_distance", 15)):
        for title, parts in (
            *zip(names, np.array(expected[measured])[:, None]),
            (MEAN_OF_SEQUENCES, expected[measured]),
        ):
            interval = largest * np.array(paired_interval(np.mean(parts, axis=0) / largest))
            row = table.loc[(title, measured)]
            assert row[["difference", "low", "high"]].tolist() == pytest.approx(interval, abs=1e-5)
            assert row["severities"] == len(parts)
    assert (table.loc[(MEAN_OF_SEQUENCES, "flips"), "difference"]) != 0
    fewer = measure(tmp_path, "second", Suite(name="p", sequences=names[:1], **fields))
    assert main([str(paths[0]), str(fewer)]) == 0
    shown = capsys.readouterr().out
    assert f"only {paths[0]} has gaussian_noise, left out here." in shown
    assert MEAN_OF_SEQUENCES not in shown


def test_a_model_that_is_marked_in_its_run_is_marked_in_the_comparison(pair, capsys):
    found = {"lam": None, "n": 16, "has_weights": True, "error": ""}
    changes = [{"kind": "batch", "logits": 0.75, "classes": 0.5}]
    record = pair[1].record | {"soundness": [{**found, "model": "plain", "changes": changes}]}
    pair[1].directory.write_record(record)
    assert main([str(run.directory.path) for run in pair]) == 0
    assert f"INVALID: plain of {pair[1].directory.path}: 75% of 16 answers depend" in capsys.readouterr().out
    assert main([str(pair[0].directory.path), str(pair[1].directory.path), "--models", "sparse"]) == 0
    assert "INVALID" not in capsys.readouterr().out


def test_attacks_are_left_out_with_a_note(pair):
    pair[1].record["suite"]["attacks"] = [{"about": "pgd"}]
    assert "attacks are left out" in compare_runs(*pair).left_out[0]
