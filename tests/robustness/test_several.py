"""Several suites in one command: each is a run of its own, nothing is loaded or asked twice, one leaderboard."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
import torch
from pictured import write_png
from torch import nn

import robustness
from data_prep.errors import EXIT_DONE, EXIT_SOME_FAILED, InputError
from data_prep.importing import import_tree
from data_prep.shifts import CIFAR10_CLASSES
from robustness import report, run
from robustness.measure import prepare, request, tasks
from robustness.measure.attacker import Attacker
from robustness.suite_folders import check_parent

SUITE = 'data = "shapes"\ndescription = "Made up & <b>escaped</b>"\ncorruptions = [{}]\nseverities = [1]\nn = 20\n'


class Linear(nn.Module):
    """Answers by the mean of each of three stripes: something that corruptions change a little."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.layer = nn.Linear(9, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layer(nn.functional.adaptive_avg_pool2d(images, (3, 1)).flatten(1))


def write_suites(folder: Path) -> list[Path]:
    names = {"noisy": '"gaussian_noise"', "pale": '"contrast"', "both": '"gaussian_noise", "contrast"'}
    for name, corruptions in names.items():
        text = SUITE.format(corruptions) + 'models = ["resnet18-shapes"]\n'
        (folder / f"{name}.toml").write_text(text, encoding="utf-8")
    return [folder / f"{name}.toml" for name in names]


def measure(folder: Path, suites: Any, **options: Any) -> robustness.Runs:
    models = {"one": Linear(0), "two": Linear(1)}
    measured = robustness.evaluate(models, suite=suites, out=folder, device="cpu", progress=False, **options)
    assert isinstance(measured, robustness.Runs)
    return measured


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> robustness.Runs:
    """Two suites, of two models."""
    folder = tmp_path_factory.mktemp("several")
    return measure(folder / "run", write_suites(folder)[:2])


def test_suites_share_images_models_and_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, subjects, answers = (
        Mock(wraps=function) for function in (prepare.load_images, prepare.load_subjects, tasks.evaluate)
    )
    monkeypatch.setattr(prepare, "load_images", images)
    monkeypatch.setattr(request, "load_images", images)
    monkeypatch.setattr(prepare, "load_subjects", subjects)
    monkeypatch.setattr(tasks, "evaluate", answers)
    measured = measure(tmp_path / "run", write_suites(tmp_path))
    assert (images.call_count, subjects.call_count) == (1, 1)
    assert answers.call_count == 2 * 3, "two models: clean, noise and contrast"
    assert {name: len(part.cells) for name, part in measured.suites.items()} == {"noisy": 4, "pale": 4, "both": 6}
    assert list(measured.cells["suite"].value_counts()) == [6, 4, 4]
    assert measured.missing == {}
    clean = measured.cells[measured.cells["perturbation"] == "clean"]
    assert clean.groupby("model")["accuracy"].nunique().tolist() == [1, 1]
    measure(tmp_path / "run", write_suites(tmp_path))
    assert answers.call_count == 6, "the same call finds all of it done"


def test_one_leaderboard_and_a_page_for_each_suite(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    names = ",".join(map(str, write_suites(tmp_path)[:2]))
    words = ["--suite", names, "--out", str(folder), "--device", "cpu", "--quiet", "--json"]
    assert run.main(words) == EXIT_DONE
    values = json.loads(capsys.readouterr().out)
    assert {row["suite"] for row in values["leaderboard"]} == set(values["suites"]) == {"noisy", "pale"}
    board = pd.read_csv(folder / "leaderboard.csv")
    assert len(board) == 2
    own = {name: robustness.open_run(folder / name) for name in ("noisy", "pale")}
    for row in board.to_dict("records"):
        table = own[row["suite"]].findings.board.table.set_index("model")
        assert row["value"] == pytest.approx(table.loc[row["model"], "mean"])
        assert (row["rank_from"], row["rank_to"]) == tuple(table.loc[row["model"], ["rank_from", "rank_to"]])
    page = (folder / "report.html").read_text(encoding="utf-8")
    links = re.findall(r'href="([^"]+report.html)"', page)
    assert links == ["noisy/report.html", "pale/report.html"]
    assert all((folder / link).is_file() for link in links)
    assert '<a href="../report.html">all suites</a>' in (folder / "noisy" / "report.html").read_text(encoding="utf-8")
    assert "<b>escaped</b>" not in page
    assert "Made up &amp; &lt;b&gt;" in page
    for name in ("report.html", "leaderboard.csv", "noisy/report.html"):
        (folder / name).unlink()
    assert report.main([str(folder)]) == EXIT_DONE
    assert "noisy: corrupted" in capsys.readouterr().out
    assert (folder / "report.html").read_text(encoding="utf-8") == page
    assert (folder / "noisy/report.html").is_file()
    assert run.main([*words[:4], "--device", "cpu", "--dry-run"]) == EXIT_DONE
    assert capsys.readouterr().out.count("suite ") == 2


def test_models_are_in_the_order_of_their_ranks(measured: robustness.Runs) -> None:
    board = measured.leaderboard
    middle = ((board["rank_from"] + board["rank_to"]) / 2).groupby(board["model"]).mean()
    order = list(dict.fromkeys(board["model"]))
    assert middle[order].is_monotonic_increasing
    table = pd.read_csv(measured.path / "leaderboard.csv")
    assert list(dict.fromkeys(table["model"])) == order


def test_several_runs_show_what_each_says(measured: robustness.Runs) -> None:
    assert {name.partition("/")[0] for name in measured.figures} == {"noisy", "pale"}
    assert measured.plot(measured.figures[0]).axes
    assert measured.headline.startswith("noisy: ")
    assert measured.report() == measured.path / "report.html"
    assert set(measured.compare(measured.path)["suite"]) == {"noisy", "pale"}
    assert "<table" in measured._repr_html_()
    with pytest.raises(InputError, match="expected a figure as SUITE/NAME"):
        measured.plot("samples")
    with pytest.raises(InputError, match="expected a run of the suites noisy, pale"):
        measured.compare(measured.path / "noisy")
    with pytest.raises(InputError, match=r"expected a run of one suite, got .*; name one of noisy, pale"):
        measured.suites["noisy"].compare(measured)
    with pytest.raises(InputError, match=r"expected one suite, got noisy, pale; use runs\.suites"):
        measured.findings  # noqa: B018


def test_shifts_are_those_of_the_images_of_the_other_suites(tmp_path: Path) -> None:
    """Their clean accuracy comes from the clean images of the other suite, which are classified once."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
    for index, image in enumerate(pixels):
        write_png(tmp_path / "tree" / "test" / CIFAR10_CLASSES[index % 10] / f"{index}.png", image)
    import_tree(tmp_path / "tree", name="cifar10", data_dir=tmp_path / "data")
    np.savez(tmp_path / "data" / "cifar102_test.npz", images=pixels[:7], labels=np.arange(7))
    suites = [write_suites(tmp_path)[0], "shifts"]
    suites[0].write_text(suites[0].read_text(encoding="utf-8").replace("shapes", "cifar10", 1), encoding="utf-8")
    measured = measure(tmp_path / "run", suites, data_dir=tmp_path / "data", n=12)
    shifts = measured.shifts
    assert shifts[["suite", "n", "clean_n"]].to_numpy().tolist() == [["shifts", 7, 12], ["shifts", 7, 12]]
    clean = measured.suites["noisy"].cells.query("perturbation == 'clean'").set_index("model")["accuracy"]
    assert shifts.set_index("model")["clean_accuracy"].to_dict() == clean.to_dict()
    assert set(measured.leaderboard["measure"]) == {"mean", "shifts"}


def write_attacks(folder: Path) -> list[Path]:
    """Two suites with an attack in common, under another label and beside another attack, and one with other probes."""
    pgd = '[[attacks]]\nname = "pgd"\neps = "8/255"\nsteps = 2\nlosses = ["ce"]\n{}'
    head = 'data = "shapes"\ncorruptions = []\nn = 12\nmodels = ["resnet18-shapes"]\nprobe_images = {}\n'
    texts = {
        "both": head.format(0) + pgd.format("") + pgd.replace("8/255", "1/255").format(""),
        "one": head.format(0) + pgd.format('label = "mine"\n'),
        "probed": head.format(2) + pgd.format(""),
    }
    for name, text in texts.items():
        (folder / f"{name}.toml").write_text(text, encoding="utf-8")
    return [folder / f"{name}.toml" for name in texts]


def test_an_attack_in_several_suites_is_crafted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its cells are the same; with other trust probes only these are measured anew, on the same images."""
    suites = write_attacks(tmp_path)
    words = ["--suite", ",".join(map(str, suites)), "--out", str(tmp_path / "run"), "--dry-run", "--json", "--quiet"]
    assert run.main(words) == EXIT_DONE
    passes = {name: plan["passes"] for name, plan in json.loads(capsys.readouterr().out)["suites"].items()}
    assert (passes["both"]["attacks"] > 0, passes["one"], set(passes["probed"])) == (
        True,
        {},
        {"attacks", "trust probes"},
    )
    crafted, attacked = (Mock(side_effect=method) for method in (Attacker._craft, Attacker.run))
    monkeypatch.setattr(Attacker, "_craft", lambda *given: crafted(*given))
    monkeypatch.setattr(Attacker, "run", lambda *given: attacked(*given))
    measured = measure(tmp_path / "run", suites)
    assert (crafted.call_count, attacked.call_count) == (4, 6), "two models: two attacks, then the probes of one"
    robust = measured.attacks.query("threat == 'whitebox' and eps > 0.01")[["suite", "model", "n", "accuracy"]]
    assert len(robust) == 6
    assert robust.groupby("model")["accuracy"].nunique().tolist() == [1, 1]
    own = robustness.evaluate(
        {"one": Linear(0), "two": Linear(1)}, suite=suites[1], out=tmp_path / "own", progress=False
    )
    assert own.attacks["accuracy"].tolist() == measured.suites["one"].attacks["accuracy"].tolist()
    assert {path.name for path in (tmp_path / "own" / "outcomes").iterdir()} == {
        path.name for path in (tmp_path / "run" / "one" / "outcomes").iterdir()
    }
    before = crafted.call_count, attacked.call_count
    measure(tmp_path / "run", suites)
    assert (crafted.call_count, attacked.call_count) == before, "the same call finds all of it done"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"corruptions": "frost"}, "--corruptions is for one suite, and 2 are requested"),
        ({"attacks": "pgd"}, "--attacks is for one suite"),
        ({"out": "memory://runs"}, "expected a folder as --out of several suites"),
    ],
)
def test_what_belongs_to_one_suite_is_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    given = {"out": tmp_path / "run", "suite": write_suites(tmp_path)[:2], "progress": False, **options}
    with pytest.raises(InputError, match=message):
        robustness.evaluate({"one": Linear(0)}, **given)


def test_folders_of_something_else_are_left_alone(tmp_path: Path) -> None:
    suites = write_suites(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match=r"holds other files and no suites\.json"):
        measure(tmp_path / "run", suites)
    (tmp_path / "killed" / ".writing-x").mkdir(parents=True)
    check_parent(tmp_path / "killed")  # before its list was there
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / "noisy.toml").write_text(suites[0].read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.raises(InputError, match="got two called noisy"):
        measure(tmp_path / "other", [suites[0], tmp_path / "again" / "noisy.toml"])
    for names in ('["../x"]', "7", '[".x"]'):
        (tmp_path / "run" / "suites.json").write_text(f'{{"suites": {names}}}')
        with pytest.raises(InputError, match=r"expected a list of suites in .*suites\.json, got damaged text"):
            robustness.open_run(tmp_path / "run")


def test_suites_that_failed_or_were_not_begun_are_left_out(measured: robustness.Runs, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"or a shipped suite .*, got '';"):
        robustness.evaluate({"one": Linear(0)}, suite="", progress=False)
    folder = tmp_path / "run"
    shutil.copytree(measured.path, folder)
    for outcome in (folder / "pale" / "outcomes").iterdir():
        outcome.unlink()
    assert set(robustness.open_run(folder).cells["suite"]) == {"noisy"}
    assert report.main([str(folder)]) == EXIT_SOME_FAILED
    assert "pale/report.html" not in (folder / "report.html").read_text(encoding="utf-8")
