"""Attacks from the command line: rows of every threat model, resumption, tables and figures."""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from data_prep.errors import InputError, PrerequisiteError, run_command
from robustness import evaluate, report, run
from robustness.analysis.frames import CELL_COLUMNS
from robustness.laws import FittedLaw, law_path, write_law
from robustness.measure.adversarial import AdversarialSet
from robustness.measure.stages import list_stages
from robustness.policies import ResidualLaw
from robustness.run_directory import RunDirectory
from sdnet_core import load_model, weights_fingerprint


@pytest.fixture
def attack_suite(tmp_path: Path, models: Path) -> Path:
    """PGD at two budgets on an SDNet with a residual law and a ResNet; 8 images, two λs, no probes."""
    for name in ("sparse", "plain"):
        (tmp_path / f"{name}.safetensors").write_bytes((models / f"{name}.safetensors").read_bytes())
    sparse = str(tmp_path / "sparse.safetensors")
    law = FittedLaw(ResidualLaw(1e-3, 0.1, 0.05, 0.4), 1.0, (), {"weights": weights_fingerprint(load_model(sparse))})
    write_law(law, law_path(sparse))
    path = tmp_path / "attacks.toml"
    path.write_text(
        f"""
        data = "shapes"
        corruptions = []
        models = ["{sparse}", "{tmp_path}/plain.safetensors"]
        lambdas = [0.1, 0.5]
        n = 8
        baseline = "plain"
        probe_images = 0
        [[attacks]]
        name = "pgd"
        eps = ["1/255", "8/255"]
        steps = 2
        """
    )
    return path


def measure(suite: Path, out: Path, *options: str) -> pd.DataFrame:
    assert run.main(["--suite", str(suite), "--out", str(out), *options]) == 0
    return pd.read_csv(out / "cells.csv")


def test_every_threat_model_has_its_rows(attack_suite, tmp_path, without_figures, capsys, monkeypatch):
    cells = measure(attack_suite, tmp_path / "run")
    assert list(cells.columns) == CELL_COLUMNS
    attacks = cells[cells["norm"].notna()]
    counted = attacks.groupby(["model", "threat"]).size().to_dict()
    assert counted == {
        ("plain", "whitebox"): 2,
        ("sparse", "whitebox"): 8,
        ("sparse", "transfer"): 6,
        ("sparse", "adaptive"): 8,
    }, "two budgets × two λs and two policies; transferred from λ = 0.1 to the other three; ResNets have no λ"
    assert set(attacks["perturbation"]) == {"pgd"}
    assert set(attacks["severity"]) == {0}
    assert attacks["trust"].isin(["OK", "SUSPECT", "INVALID"]).all()
    assert attacks["trust_reason"].str.contains("not checked: the active test").any(), "there were no probes"
    clean = cells[cells["perturbation"] == "clean"]
    assert clean["threat"].isna().all()
    shown = capsys.readouterr().out
    assert "sparse residual" in shown
    assert "sparse matched" in shown
    assert "pgd L∞ 8/255 adaptive" in shown

    wide = ["model", "eps", "lam"]
    accuracy = attacks.fillna({"lam": -1}).pivot_table(index=wide, columns="threat", values="accuracy").loc["sparse"]
    assert (accuracy["adaptive"] <= accuracy["whitebox"]).all(), "the worst case is never better"
    assert not (accuracy["adaptive"] > accuracy["transfer"]).any()

    worst = pd.read_csv(tmp_path / "run/tables/worst_case.csv")
    assert list(worst["attacks"]) == [4, 4, 4, 4, 8, 8, 8, 8, 1, 2]

    told = pd.read_csv(tmp_path / "run/tables/attacks.csv")
    sparse = told[told["model"] == "sparse"]
    trained = sparse[sparse["lam"] == 0.1]
    assert trained["gain"].isna().all()
    for _, row in sparse[sparse["lam"] != 0.1].iterrows():
        threat = "whitebox" if row["threat"] == "transfer" else row["threat"]
        (reference,) = trained.loc[(trained["threat"] == threat) & (trained["eps"] == row["eps"]), "accuracy"]
        assert row["gain"] == pytest.approx(row["accuracy"] - reference)
        assert row["gain_low"] <= row["gain"] <= row["gain_high"]
    plain = told[told["model"] == "plain"].set_index("eps")["accuracy"]
    compared = sparse[sparse["threat"] != "transfer"]
    np.testing.assert_allclose(compared["versus"], compared["accuracy"] - compared["eps"].map(plain))
    assert sparse.loc[sparse["threat"] == "transfer", "versus"].isna().all(), "the baseline has no such row"
    assert told.loc[told["model"] == "plain", "versus"].isna().all()

    for options, code in ([], 0), (["--strict"], 1):
        monkeypatch.setattr("sys.argv", ["report", str(tmp_path / "run"), *options])
        assert report.main() == code, "without probes every attack is SUSPECT"

    transfers = pd.read_csv(tmp_path / "run/tables/transfer.csv")
    assert len(transfers) == 2 * (16 + 1)

    assert attacks.loc[attacks["threat"] == "adaptive", ["residual", "sparsity", "seconds"]].isna().all(axis=None)
    of_training = attacks[(attacks["model"] == "sparse") & (attacks["eps"] > 0.03)].set_index(["threat", "lam"])
    transferred, own = of_training.loc[("transfer", 0.5)], of_training.loc[("whitebox", 0.5)]
    assert transferred["residual"] != own["residual"], "of the images that were shown, not of those crafted there"


def test_every_image_is_moved_where_it_is_shown_at_another_lambda(attack_suite, tmp_path, without_figures):
    """Images that are wrong at the λ they are crafted for, and those that Square gives back clean, too.

    Nothing is moved that is shown at one λ only.
    """
    square = '[[attacks]]\nname = "autoattack"\neps = "1/255"\nversion = "custom"\nparts = ["square"]\nqueries = 1\n'
    attack_suite.write_text(attack_suite.read_text() + square)
    measure(attack_suite, tmp_path / "run")
    moved, searched = {}, {}
    for cell in json.loads((tmp_path / "run/run.json").read_text())["cells"]:
        outcome = RunDirectory(tmp_path / "run").read_outcome(cell["key"], n=8)[0]
        if "distance" in outcome:
            moved.setdefault(cell["model"], []).append(outcome.loc[~outcome["attacked"], "distance"])
            if cell["perturbation"] == "autoattack":
                searched.setdefault(cell["model"], []).append(outcome.loc[outcome["attacked"], "distance"])
    assert (pd.concat(moved["sparse"]) > 0).all()
    assert (pd.concat(moved["plain"]) == 0).all()
    assert len(pd.concat(moved["sparse"])) > 0 < len(pd.concat(moved["plain"]))
    assert (pd.concat(searched["sparse"]) > 0).all()
    assert len(pd.concat(searched["sparse"])) > 0
    assert (pd.concat(searched["plain"]) == 0).any(), "Square gives something back clean"


def test_apgd_is_left_early_only_where_images_are_shown_at_one_lambda(
    attack_suite, tmp_path, without_figures, monkeypatch
):
    asked = []

    def spy(attack, victim, *, leave_early=True, **options):
        asked.append((victim.network.has_lam, leave_early))
        return list_stages(attack, victim, leave_early=leave_early, **options)

    monkeypatch.setattr("robustness.measure.attacker.Attacker._mover", lambda *_: None)
    monkeypatch.setattr("robustness.measure.attacker.list_stages", spy)
    monkeypatch.setattr("robustness.measure.prepare.check_attacks", lambda *_, **__: None)
    measure(attack_suite, tmp_path / "run")
    assert set(asked) == {(True, False), (False, True)}


def test_samples_of_models_that_are_not_measured_any_more_are_gone(attack_suite, tmp_path, without_figures):
    measure(attack_suite, tmp_path / "run")
    assert len(list((tmp_path / "run").glob("*samples.npz"))) == 2
    measure(attack_suite, tmp_path / "run", "--models", f"{tmp_path}/plain.safetensors")
    assert not list((tmp_path / "run").glob("*samples.npz"))


def test_a_second_run_measures_nothing_and_a_lost_outcome_only_is_measured_again(
    attack_suite, tmp_path, without_figures, monkeypatch
):
    out = tmp_path / "run"
    first = measure(attack_suite, out)
    monkeypatch.setattr("robustness.measure.attacker.craft", lambda *a, **k: pytest.fail("crafted again"))
    pd.testing.assert_frame_equal(measure(attack_suite, out), first)
    for path in sorted((out / "outcomes").iterdir())[::3]:
        path.unlink()
    again = measure(attack_suite, out)
    # measured in other company, a value of a code may round to the other side of its threshold
    pd.testing.assert_frame_equal(again.drop(columns="seconds"), first.drop(columns="seconds"), rtol=1e-3)


def test_autoattack_killed_in_mid_attack_resumes_to_the_same_table(tmp_path, models, without_figures):
    """SIGKILL while an attack is running: its finished batches are kept, and the table is the undisturbed one."""
    suite = tmp_path / "suite.toml"
    suite.write_text(
        f"""
        data = "shapes"
        corruptions = []
        models = ["{models}/plain.safetensors"]
        n = 8
        probe_images = 0
        [[attacks]]
        name = "autoattack"
        eps = "1/255"
        version = "custom"
        parts = ["apgd-ce", "square"]
        queries = 60
        batch_size = 1
        """
    )
    out = tmp_path / "killed"
    command = [sys.executable, "-m", "robustness.run", "--suite", str(suite), "--out", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while not list(out.glob("adversarial/*.partial/*.npz")) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert list(out.glob("adversarial/*.partial/*.npz")), "the kill came too late to show anything"
    resumed, undisturbed = measure(suite, out), measure(suite, tmp_path / "undisturbed")
    pd.testing.assert_frame_equal(resumed.drop(columns="seconds"), undisturbed.drop(columns="seconds"))
    assert not list(out.glob("adversarial/*.partial"))


def test_a_full_disk_stops_the_run_and_is_no_failure_of_the_model(attack_suite, tmp_path, monkeypatch, capsys):
    def write(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("robustness.measure.craft.Journal.write", write)
    arguments = ["--suite", str(attack_suite), "--out", str(tmp_path / "run")]
    assert run_command(lambda: run.main(arguments)) == 2
    assert "the disk is full" in capsys.readouterr().err


def test_attacks_that_cannot_run_are_named_before_the_work(attack_suite, tmp_path, monkeypatch):
    text = attack_suite.read_text()
    attack_suite.write_text(text.replace('name = "pgd"', 'name = "PGDD"').replace("steps = 2", ""))
    with pytest.raises(InputError, match="got 'PGDD'; choose one"):
        run.main(["--suite", str(attack_suite), "--dry-run"])
    attack_suite.write_text(text)

    def absent(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr("robustness.measure.stages.metadata.version", absent)
    assert run.main(["--suite", str(attack_suite), "--dry-run"]) == 0, "probe_images = 0"
    attack_suite.write_text(text.replace("probe_images = 0", "probe_images = 4"))
    with pytest.raises(PrerequisiteError, match=r"attack pgd \(with its probes\) needs the package torchattacks"):
        run.main(["--suite", str(attack_suite), "--dry-run"])


def test_adversarial_images_are_stored_once_for_all_lambdas_that_they_are_shown_at(
    attack_suite, tmp_path, without_figures
):
    measure(attack_suite, tmp_path / "run")
    assert len(list((tmp_path / "run/adversarial").iterdir())) == 2 * (4 + 1)
    record = json.loads((tmp_path / "run/run.json").read_text())
    assert sum(cell.get("norm") is not None for cell in record["cells"]) == 2 * (16 + 1)


def test_what_is_measured_is_what_was_stored(attack_suite, tmp_path, without_figures, monkeypatch):
    """Perturbations that are lost on the way to the disk are missed at once, and not only by the next run."""
    write = AdversarialSet.write

    def write_clean(images: AdversarialSet, path: Path) -> None:
        nothing = {"exact": images.exact[:0], "exact_index": images.exact_index[:0]}
        write(dataclasses.replace(images, codes=np.zeros_like(images.codes), **nothing), path)

    monkeypatch.setattr(AdversarialSet, "write", write_clean)
    attacks = measure(attack_suite, tmp_path / "run").dropna(subset=["norm"])
    assert attacks["trust_reason"].str.contains("that the attack turned are answered rightly afterwards").any()


def test_whitebox_only_asks_for_no_other_pair(attack_suite, tmp_path, without_figures):
    attack_suite.write_text('threats = ["whitebox"]\n' + attack_suite.read_text())
    attacks = measure(attack_suite, tmp_path / "run").dropna(subset=["norm"])
    assert set(attacks["threat"]) == {"whitebox"}
    assert len(attacks) == 2 * (2 + 1)


def test_the_lambda_of_training_is_attacked_even_if_the_grid_lacks_it(attack_suite, tmp_path, without_figures):
    """Otherwise there would be nothing to transfer from."""
    attacks = measure(attack_suite, tmp_path / "run", "--lambdas", "0.5").dropna(subset=["norm"])
    assert set(attacks.loc[attacks["threat"] == "transfer", "lam"].dropna()) == {0.5}
    assert set(attacks["lam"].dropna()) == {0.1, 0.5}


def test_budgets_come_from_the_command_line(attack_suite, tmp_path, without_figures):
    attacks = measure(attack_suite, tmp_path / "run", "--eps", "4/255").dropna(subset=["norm"])
    np.testing.assert_allclose(attacks["eps"].unique(), [4 / 255])
    for eps, message in [("l2:128", "did you mean l2:128/255"), ("-1/255", "expected ε in .0, 1.*got -1/255")]:
        with pytest.raises(InputError, match=message):
            run.main(["--suite", str(attack_suite), "--eps", eps])


def test_the_figures_are_drawn_and_redrawn_without_models(attack_suite, tmp_path):
    out = tmp_path / "run"
    measure(attack_suite, out)
    names = ["accuracy_by_eps", "adversarial_images", "transfer_sparse_pgd_linf"]
    drawn = {path.stem for path in (out / "figures").glob("*.png")}
    assert set(names) <= drawn
    for path in (out / "figures").iterdir():
        path.unlink()
    for path in tmp_path.glob("*.safetensors"):
        path.unlink()
    assert report.main([str(out), "--pdf"]) == 0
    for suffix, start in (("png", b"\x89PNG"), ("pdf", b"%PDF")):
        assert {p.stem for p in (out / "figures").glob(f"*.{suffix}") if p.read_bytes().startswith(start)} == drawn


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('threats = ["blackbox"]', "expected threats among .*, got blackbox"),
        ('threats = ["transfer"]', "expected whitebox among the threats"),
        ("probe_images = -1", "expected probe_images of 0 or at least 2"),
        ("probe_images = 1", "expected probe_images of 0 or at least 2"),
        ("attacks = 3", "expected attacks as tables"),
    ],
)
def test_suites_with_attacks_that_make_no_sense_are_refused(tmp_path, line, message):
    path = tmp_path / "bad.toml"
    path.write_text(f'data = "shapes"\nmodels = ["resnet18-shapes"]\n{line}\n')
    with pytest.raises(InputError, match=message):
        run.main(["--suite", str(path), "--dry-run"])


class Brightest(nn.Module):
    """The brightest quarter of the rows is the class; with ``votes``, all that is told, and no gradient."""

    def __init__(self, *, votes: bool) -> None:
        super().__init__()
        self.votes, self.scale = votes, nn.Parameter(torch.tensor(10.0), requires_grad=False)

    def forward(self, images: Tensor) -> Tensor:
        logits = self.scale * images.unflatten(2, (4, -1)).mean((1, 3, 4))
        return nn.functional.one_hot(logits.argmax(1), 4) + 0 * logits if self.votes else logits


def test_a_model_without_a_gradient_is_beaten_through_another_model_of_the_run():
    """Nothing is shipped for images of 8 pixels: alone, a small surrogate learns from the votes of the model."""
    pixels = np.random.default_rng(0).integers(0, 256, (24, 8, 8, 3)).astype(np.uint8)
    labels = pixels.reshape(24, 4, -1).mean(2).argmax(1)
    votes, plain = Brightest(votes=True), Brightest(votes=False)
    options = {"data": (pixels, labels), "corruptions": [], "attacks": ["pgd"], "eps": ["16/255"]}
    tried = []
    for models in ({"votes": votes}, {"votes": votes, "plain": plain}):
        measured = evaluate(models, **options)  # its files live as long as it does
        key = measured._run.cells.query("model == 'votes' and norm == 'linf'")["key"].item()
        tried.append(measured._run.outcome(key)["transfer"])
    alone, beside = (answers[answers >= 0] for answers in tried)
    assert (beside == 0).mean() > max((alone == 0).mean(), 0.9)
