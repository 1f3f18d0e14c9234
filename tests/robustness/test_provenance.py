"""A run directory says of every number what it was measured on, and what lies in it that its tables leave out."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from data_prep.errors import InputError
from robustness import run
from robustness.analysis.frames import Run
from robustness.analysis.provenance import describe_origin
from robustness.measure import measurement
from robustness.run_directory import RunDirectory

ASKED = ["--selection", "none", "--corruptions", "contrast", "--n", "6", "--models", "resnet18-shapes"]


def pretend(monkeypatch, version: str) -> None:
    environment = {"hardware": {"device": "cpu"}, "system": "s", "versions": {"torch": version}, "git": {}}
    monkeypatch.setattr(measurement, "describe_environment", lambda _: environment)


def test_cells_of_several_sessions_keep_their_environments(tmp_path, monkeypatch, without_figures):
    out = tmp_path / "run"
    for version, severities in (("1.0", "1"), ("2.0", "1,3"), ("3.0", "1,3")):
        pretend(monkeypatch, version)
        assert run.main([*ASKED, "--severities", severities, "--out", str(out)]) == 0
    record = json.loads((out / "run.json").read_text())
    assert [session["environment"]["versions"]["torch"] for session in record["sessions"]] == ["1.0", "2.0", "3.0"]
    opened = Run.open(RunDirectory(out))
    counted = [(environment["versions"]["torch"], count) for environment, count in opened.environments]
    assert counted == [("1.0", 2), ("2.0", 1)]
    shown = dict(describe_origin(opened))
    assert shown["versions of 2 cells"] == "torch 1.0"
    assert shown["versions of 1 cell"] == "torch 2.0"
    assert "torch 3.0" not in shown.values()

    (out / "run.json").write_text("damaged")
    with pytest.raises(InputError, match="damaged"):
        RunDirectory(out).read_record()
    assert run.main([*ASKED, "--severities", "1,3", "--out", str(out)]) == 0
    again = [environment["versions"]["torch"] for environment, _ in Run.open(RunDirectory(out)).environments]
    assert again == ["1.0", "2.0"], "each cell says it itself"

    assert run.main([*ASKED, "--severities", "1", "--out", str(out), "--fresh"]) == 0
    assert len(json.loads((out / "run.json").read_text())["sessions"]) == 1


def read_sorted(out: str) -> pd.DataFrame:
    return pd.read_csv(f"{out}/cells.csv").sort_values(["model", "perturbation"], ignore_index=True)


def test_models_that_are_not_asked_for_again_stay_in_the_tables(tmp_path, without_figures, capsys):
    out, both = str(tmp_path / "run"), "resnet18-shapes,sdnet18-shapes"
    few = [*ASKED, "--severities", "1", "--lambdas", "0.1", "--out", out]
    assert run.main([*few, "--models", both]) == 0
    assert "note: " not in capsys.readouterr().err
    before = read_sorted(out)
    for _ in range(2):
        assert run.main(few) == 0
        said = (
            "holds finished cells of models that were not asked for now, and its tables keep them: sdnet18-shapes (2)"
        )
        assert said in capsys.readouterr().err
        pd.testing.assert_frame_equal(read_sorted(out), before)
    record = json.loads((tmp_path / "run/run.json").read_text())
    assert any(said in event for event in record["events"])
    assert len(record["sessions"]) == 3
    assert run.main([*few, "--models", "sdnet18-shapes", "--baseline", "sdnet18-shapes"]) == 0
    assert set(pd.read_csv(f"{out}/cells.csv")["model"]) == set(both.split(",")), (
        "a model of old stays beside a new one"
    )
    assert run.main([*few, "--fresh"]) == 0
    assert set(pd.read_csv(f"{out}/cells.csv")["model"]) == {"resnet18-shapes"}


@pytest.mark.parametrize("other", [["--n", "5"], ["--corruptions", "pixelate"], ["--severities", "2"], ["--seed", "1"]])
def test_of_another_grid_nothing_stays_in_the_tables_and_it_is_said(other, tmp_path, without_figures, capsys):
    out = str(tmp_path / "run")
    first = [*ASKED, "--severities", "1", "--out", out]
    assert run.main(first) == 0
    assert run.main([*first, *other]) == 0
    said = capsys.readouterr().err
    kept = 1 if "--corruptions" in other or "--severities" in other else 2
    assert f"keeps {kept} finished cells that were not asked for now, and its tables leave them out; they were" in said
    assert (
        "asked for by: python -m robustness.run --models resnet18-shapes --corruptions contrast --severities 1" in said
    )
    assert len(pd.read_csv(f"{out}/cells.csv")) == 2
    assert run.main([*first, "--severities", "1,3", "--corruptions", "contrast,pixelate"]) == 0
    capsys.readouterr()
    assert run.main([*first, "--severities", "1,3", "--corruptions", "contrast,pixelate,fog"]) == 0
    assert "note: " not in capsys.readouterr().err, "a larger grid leaves nothing out"
