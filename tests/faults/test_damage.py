"""Files of a run directory that were cut or changed: never a wrong number, and what is missing is named."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from disturbed import Undisturbed, finish, read_table, start_run

from data_prep.errors import InputError
from robustness.analysis.write import write_analysis
from robustness.run_directory import RunDirectory


def flip(path: Path, position: int, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1 << bit
    path.write_bytes(bytes(content))


def make_frame(n: int) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    label, predicted = rng.integers(0, 10, n).astype(np.int16), rng.integers(0, 10, n).astype(np.int16)
    columns = {"index": np.arange(n, dtype=np.int32), "label": label, "predicted": predicted}
    columns |= {
        "confidence": rng.random(n, np.float32),
        "nll": rng.random(n, np.float32),
        "correct": label == predicted,
    }
    return pd.DataFrame({**columns, "broken_by": np.where(label > 5, "apgd-ce", "")})


@pytest.mark.parametrize("every", [11, pytest.param(1, marks=pytest.mark.slow)])
def test_no_flipped_bit_in_an_outcome_goes_unnoticed(every, tmp_path):
    """One bit of every byte of the file, and the cell counts as absent."""
    directory, frame = RunDirectory(tmp_path / "run"), make_frame(30)
    directory.create()
    directory.write_outcome("k", frame, {"seconds": 1.5, "identity": {"lam": 0.1}})
    read, metadata = directory.read_outcome("k", n=30)
    pd.testing.assert_frame_equal(read, frame)
    assert metadata == {"key": "k", "seconds": 1.5, "identity": {"lam": 0.1}}
    assert directory.read_outcome("k", n=29) is directory.read_outcome("absent", n=30) is None
    path, bits = directory.outcomes / "k.parquet", random.Random(0)
    pd.testing.assert_frame_equal(pd.read_parquet(path), frame)  # other readers pass over the seal
    whole = path.read_bytes()
    for position in range(0, len(whole), every):
        flip(path, position, bits.randrange(8))
        assert directory.read_outcome("k", n=30) is None
        assert directory.find_whole(["k"]) == set()
        path.write_bytes(whole)
    for length in range(0, len(whole), every):
        path.write_bytes(whole[:length])
        assert directory.find_whole(["k"]) == set()
    (directory.outcomes / "other.parquet").write_bytes(whole)
    assert directory.find_whole(["other"]) == set(), "a file answers only for its own key"
    assert directory.read_outcome("other", n=30) is None


@pytest.fixture
def measured(undisturbed: Undisturbed, tmp_path: Path) -> tuple[Path, Callable[..., tuple[int, str]]]:
    """A copy of the finished run, and a function that calls a module on it: exit code and what it says."""
    out, log = tmp_path / "run", tmp_path / "log"
    shutil.copytree(undisturbed.out, out)

    def call(module: str) -> tuple[int, str]:
        words = (out,) if module == "robustness.report" else (*undisturbed.arguments, "--out", out)
        return finish(start_run(*words, log=log, module=module)), log.read_text()

    return out, call


def test_damaged_outcomes_are_named_by_the_report_and_measured_again_by_the_run(measured, undisturbed):
    out, call = measured
    cut, *_, flipped = sorted((out / "outcomes").iterdir())
    cut.write_bytes(cut.read_bytes()[:100])
    for position in range(flipped.stat().st_size // 2):
        flip(flipped, position, 3)
    code, said = call("robustness.report")
    assert code == 1
    assert "2 of 26 cells are missing: its file in outcomes/ is damaged or gone" in said
    assert len(read_table(out)) < len(undisturbed.table)
    assert "2 cells are missing" in (out / "report.html").read_text()
    assert call("robustness.run")[0] == 0
    undisturbed.check_finished(out)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 20))])
def test_any_damage_to_any_file_leaves_the_table_right(seed, measured, undisturbed):
    """Cut, flip and remove files at random; the same command mends all of it."""
    out, call = measured
    chance = random.Random(seed)
    for path in sorted(path for path in out.rglob("*") if path.is_file()):
        size = path.stat().st_size
        if size == 0:  # the lock
            continue
        match chance.randrange(4):
            case 0:
                path.write_bytes(path.read_bytes()[: chance.randrange(size)])
            case 1:
                flip(path, chance.randrange(size), chance.randrange(8))
            case 2 if path.name != "run.json":  # without it the folder may be something else's
                path.unlink()
    assert call("robustness.run")[0] == 0
    undisturbed.check_finished(out)


def test_the_report_survives_damaged_samples_and_names_cells_that_were_never_measured(measured):
    out, call = measured
    for path in out.glob("*samples.npz"):
        path.write_bytes(path.read_bytes()[:200])
    record = json.loads((out / "run.json").read_text())
    lost = record["cells"][3]
    lost |= {"status": "missing"}
    (out / "outcomes" / f"{lost['key']}.parquet").unlink()
    (out / "run.json").write_text(json.dumps(record))
    code, said = call("robustness.report")
    assert code == 1
    assert "1 of 26 cells are missing: not measured yet" in said


@pytest.mark.parametrize(
    ("name", "value"), [("model", "plain"), ("perturbation", "fog"), ("severity", 3), ("lam", 0.3), ("eps", 0.5)]
)
def test_a_number_is_not_shown_in_the_place_of_another_whatever_the_record_says(name, value, undisturbed, tmp_path):
    """A digit of λ in ``run.json`` was believed, and the number stood in the row of another λ."""
    shutil.copytree(undisturbed.out, tmp_path / "run")
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    next(cell for cell in record["cells"] if cell.get(name) not in (None, value))[name] = value
    (tmp_path / "run" / "run.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match=rf"expected {name} .*run.json, got {value}, since the file was changed; run"):
        write_analysis(RunDirectory(tmp_path / "run"))
