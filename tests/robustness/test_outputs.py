"""Outputs of a run: tables, figures, the record, the printed table."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from fabricate import fabricate_run
from PIL import Image
from scipy.stats import t as student_t

from data_prep import load_images
from robustness.analysis.findings import Findings
from robustness.analysis.frames import CELL_COLUMNS, Run
from robustness.analysis.tables import describe, widen, write_tables
from robustness.analysis.texts import to_terminal
from robustness.analysis.write import write_analysis
from robustness.measure.evaluate import evaluate
from robustness.measure.loaders.loaded import Wanted
from robustness.measure.perturbations import Perturbation, PerturbedImages
from robustness.measure.samples import collect_samples
from robustness.measure.subjects import load_subjects
from robustness.run import main
from robustness.run_directory import RunDirectory
from sdnet_core.augment import to_images


def test_a_run_writes_everything_that_it_promises(suite, tmp_path, capsys):
    out = tmp_path / "run"
    suite.write_text(suite.read_text() + 'baseline = "plain"\n')
    assert main(["--suite", str(suite), "--out", str(out), "--device", "cpu"]) == 0
    cells = pd.read_csv(out / "cells.csv")
    assert list(cells.columns) == CELL_COLUMNS
    assert len(cells) == (1 + 2 * 2) * (2 + 1)
    assert set(cells["source"]) == {"generated"}
    assert (cells["n"] == 20).all()
    assert ((cells["ci_low"] <= cells["accuracy"]) & (cells["accuracy"] <= cells["ci_high"])).all()
    plain = cells[cells["model"] == "plain"]
    assert plain[["lam", "residual", "sparsity"]].isna().all(axis=None)
    assert cells[cells["model"] == "sparse"][["lam", "residual", "sparsity"]].notna().all(axis=None)
    assert cells[["norm", "eps", "threat"]].isna().all(axis=None)
    for name in (
        "accuracy_by_lambda",
        "accuracy_by_severity_sparse",
        "against_baseline_sparse",
        "dictionary",
        "samples",
    ):
        with Image.open(out / "figures" / f"{name}.png") as picture:
            assert min(picture.size) > 200
    assert not list((out / "figures").glob("*.pdf"))
    assert (out / "tables" / "summary.md").read_text().startswith("| accuracy (%) |")
    assert r"\toprule" in (out / "tables" / "summary.tex").read_text()
    record = json.loads((out / "run.json").read_text())
    assert record["status"] == "complete"
    assert record["data"]["n"] == 20
    assert record["batch_size"] == 250
    assert record["environment"]["versions"]["torch"]
    printed = capsys.readouterr().out
    assert "mean of corruptions" in printed
    assert "sparse λ=0.1 (trained)" in printed


def test_the_summary_pairs_every_lambda_with_that_of_training(suite, tmp_path, without_figures):
    """Gain and interval by hand, from the outcomes of the images."""
    out = tmp_path / "run"
    main(["--suite", str(suite), "--out", str(out), "--device", "cpu"])
    run = Run.open(RunDirectory(out))
    summary = Findings.of(run).summary
    row = summary[(summary["perturbation"] == "pixelate") & (summary["lam"] == 0.5) & (summary["policy"] == "fixed")]

    def answers(lam: float) -> np.ndarray:
        cells = run.cells[(run.cells["perturbation"] == "pixelate") & (run.cells["lam"] == lam)]
        return run.correct(list(cells["key"])).mean(axis=0)

    paired = answers(0.5) - answers(0.1)
    largest = np.abs(paired).max() or 1.0
    with_two_more = np.append(paired, [largest, -largest])
    half = student_t.ppf(0.975, 19) * with_two_more.std() / np.sqrt(22)
    assert row["accuracy"].item() == answers(0.5).mean()
    assert row["gain"].item() == paired.mean()
    centre = with_two_more.mean()
    np.testing.assert_allclose([row["gain_low"].item(), row["gain_high"].item()], [centre - half, centre + half])
    assert (summary.loc[summary["policy"] == "trained", ["gain", "gain_low", "gain_high"]] == 0).all(axis=None)
    assert summary.loc[summary["policy"] == "none", "gain"].isna().all()
    oracle = summary[(summary["policy"] == "oracle") & (summary["perturbation"] == "pixelate")]["accuracy"].item()
    assert oracle >= max(answers(0.1).mean(), answers(0.5).mean())


def test_extra_corruptions_are_averaged_apart(suite, tmp_path, without_figures):
    """The mean of the standard corruptions is the same with and without extra ones in the run."""
    arguments = ["--suite", str(suite), "--device", "cpu", "--severities", "1", "--n", "5", "--lambdas", "0.1"]
    tables = {}
    for names in ("contrast,pixelate", "saturate,contrast,gaussian_blur,pixelate", "saturate"):
        out = tmp_path / names
        main([*arguments, "--corruptions", names, "--out", str(out)])
        run = Run.open(RunDirectory(out))
        tables[names] = widen(Findings.of(run).summary, run)
    standard, both, extra = tables.values()
    means = ("mean of corruptions", "mean of extra corruptions")
    assert list(standard.index) == ["clean", "contrast", "pixelate", means[0]]
    assert list(both.index) == [*standard.index, "saturate", "gaussian_blur", means[1]]
    assert list(extra.index) == ["clean", "saturate", means[1]]
    pd.testing.assert_frame_equal(both.loc[standard.index], standard)
    np.testing.assert_allclose(both.loc[means[1]], both.loc[["saturate", "gaussian_blur"]].mean())
    np.testing.assert_allclose(both.loc[means[0]], both.loc[["contrast", "pixelate"]].mean())
    assert [line.split("  ")[0] for line in to_terminal(both, 200).splitlines()[2:]] == list(both.index)


def test_a_run_of_models_without_lambda_alone_has_its_table(suite, models, tmp_path, capsys):
    out = tmp_path / "run"
    arguments = ["--suite", str(suite), "--device", "cpu", "--corruptions", "contrast", "--severities", "1", "--n", "5"]
    assert main([*arguments, "--models", f"{models}/plain.safetensors", "--out", str(out)]) == 0
    summary = pd.read_csv(out / "tables" / "summary.csv")
    assert summary["perturbation"].tolist() == ["clean", "contrast", "mean of corruptions"]
    assert set(summary["policy"]) == {"none"}
    assert "plain" in capsys.readouterr().out


def test_nothing_outlives_the_outcomes_that_it_was_made_of(tmp_path, monkeypatch):
    monkeypatch.setattr("robustness.analysis.write.write_figures", lambda *_, **__: None)
    directory = fabricate_run(tmp_path / "run", corruptions=("contrast",), severities=(1,), n=4).directory
    shown = [directory.path / name for name in ("cells.csv", "report.html", "tables", "figures")]
    old = [directory.path / folder / "severities_gone.csv" for folder in ("tables", "figures")]

    def make_old() -> None:
        for path in old:
            path.parent.mkdir(exist_ok=True)
            path.write_text("old")

    make_old()
    write_analysis(directory)
    assert [path.exists() for path in (*shown[:3], *old)] == [True, True, True, False, False]
    make_old()
    for path in directory.outcomes.iterdir():
        path.write_bytes(path.read_bytes()[:-1])
    write_analysis(directory)
    assert not any(path.exists() for path in shown)
    make_old()
    directory.clear()
    assert not any(path.exists() for path in old)


def test_a_long_grid_has_samples_at_some_of_its_lambdas(models):
    """Evenly spread, with the training λ, and each with what belongs to it; a short grid has them at all."""
    images, device = load_images("shapes", split="test").subset(2), torch.device("cpu")
    (subject,) = load_subjects((f"{models}/sparse.safetensors",), Wanted(num_classes=10), device=device)
    clean = Perturbation(name="clean", severity=0, source="generated")

    def collect(grid: tuple[float, ...]) -> dict[str, np.ndarray]:
        return collect_samples(subject, grid, [clean], images, seed=0, archive=None, device=device)

    grid = tuple(round(0.01 * i, 2) for i in range(75))
    samples = collect(grid)
    lambdas = samples["lambdas"].tolist()
    assert len(lambdas) == 21
    assert {0.0, subject.lam, 0.74} <= set(lambdas) <= set(grid)
    assert np.diff(lambdas).max() < 0.06
    few = collect((0.0, 0.74))
    assert few["lambdas"].tolist() == [0.0, 0.74]
    assert len(samples["codes"]) == samples["reconstructed"].shape[2] == 21
    np.testing.assert_array_equal(samples["reconstructed"][:, :, [0, -1]], few["reconstructed"])


def test_top_five_is_stored_for_every_image(models):
    """The label is among the five largest logits; of ten classes an untrained network has it there half of the time."""
    images, device = load_images("shapes", split="test").subset(40), torch.device("cpu")
    (subject,) = load_subjects((f"{models}/plain.safetensors",), Wanted(num_classes=10), device=device)
    shown = PerturbedImages(images.pixels, images.labels)
    (frame,) = evaluate(subject.network, shown, images.indices, [None], device=device, batch_size=7)
    with torch.inference_mode():
        ranks = subject.network(to_images(torch.from_numpy(images.pixels))).argsort(dim=1, descending=True).numpy()
    expected = [label in row[:5] for label, row in zip(images.labels, ranks, strict=True)]
    assert frame["top5"].tolist() == expected
    assert 0 < sum(expected) < 40
    assert (frame["top5"] >= frame["correct"]).all()


def test_the_leaderboard_and_the_classes_count_by_hand(tmp_path):
    """40 images of four classes, the first 30 of them right: 7 or 8 of 10 in each class."""
    run = fabricate_run(tmp_path, names=("mine",), answer=lambda *_: {"correct": np.arange(40) < 30}, severities=(1, 2))
    findings = Findings.of(run)
    classes = findings.classes.set_index("class")
    assert classes["n"].tolist() == [10] * 4
    assert classes["clean"].tolist() == classes["mean"].tolist() == [0.8, 0.8, 0.7, 0.7]
    assert (classes["clean_low"] < classes["clean"]).all()
    assert findings.board.table[["clean_top5", "mce"]].isna().all(axis=None), "neither was stored nor can be had"
    write_tables(findings)
    assert "| mine | 1 | 75.0 [59.8, 85.8] | 75.0 [59.8, 85.8] |" in (tmp_path / "tables/leaderboard.md").read_text()
    assert "| contrast | 75.0 [59.8, 85.8] |" in (tmp_path / "tables/summary.md").read_text()


def test_in_the_summary_only_what_beats_every_other_column_is_bold(tmp_path):
    """20, 30 and 31 of 40: one image tells the last two apart, and nothing is bold; without it the best is."""
    right = {"a": 5, "b": 30, "c": 31}
    for names, text in ((("a", "b", "c"), "75.0 [59.8, 85.8] | 77.5 ["), (("a", "b"), "| **75.0 [59.8, 85.8]** |")):
        run = fabricate_run(
            tmp_path / names[-1], names=names, answer=lambda model, *_: {"correct": np.arange(40) < right[model]}
        )
        write_tables(Findings.of(run))
        assert text in (tmp_path / names[-1] / "tables/summary.md").read_text()


@pytest.mark.parametrize(
    ("profile", "corruptions", "source"),
    [
        ("cifar", ("fog",), "CIFAR-10-C"),
        ("cifar", ("sparkles", "lines"), "CIFAR-10-C-bar"),
        ("imagenet", ("sparkles", "fog"), "ImageNet-C-bar and ImageNet-C"),
    ],
)
def test_the_source_of_the_parameters_is_the_set_of_the_corruptions(tmp_path, profile, corruptions, source):
    run = fabricate_run(tmp_path, corruptions=corruptions, n=4)
    run.record["suite"]["profile"] = profile
    assert describe(run).endswith(f"with the parameters of {source}")


def test_a_report_waits_for_another_one_and_then_shows_what_came_meanwhile(tmp_path, monkeypatch, without_figures):
    """A report that was begun before the end of a run wrote over the tables of the whole run."""
    lost = fabricate_run(tmp_path / "run", corruptions=("contrast",), severities=(1,), n=4).directory
    other = next(lost.outcomes.iterdir())
    away = other.rename(tmp_path / other.name)
    held = []

    @contextmanager
    def wait(path: Path) -> Iterator[None]:
        assert path == lost.path / ".lock-analysis"
        away.rename(other)  # the end of the run
        held.append(True)
        yield
        held.pop()

    def write(findings: Findings) -> None:
        assert held
        write_tables(findings)

    monkeypatch.setattr("robustness.run_directory.locked", wait)
    monkeypatch.setattr("robustness.analysis.write.write_tables", write)
    assert not write_analysis(lost).run.missing
    assert not held
