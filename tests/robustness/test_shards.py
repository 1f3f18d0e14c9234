"""A grid that several runs share: disjoint shards, and the same table once they are joined."""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

from data_prep.arrays import is_whole_archive
from data_prep.errors import InputError, run_command
from robustness import merge, run
from robustness.analysis.frames import CELL_COLUMNS
from robustness.measure.jobs import Job, Shard
from robustness.measure.prepare import prepare
from robustness.measure.request import read_suite
from robustness.options import RunOptions, read_options
from robustness.run_directory import RunDirectory

pytestmark = pytest.mark.usefixtures("without_figures", "drawn_once")
STABLE = [name for name in CELL_COLUMNS if name != "seconds"]


@pytest.fixture
def grid(suite: Path) -> Path:
    """Two corruptions at two severities and a choice of λ on training images."""
    path = suite.with_name("grid.toml")
    path.write_text(suite.read_text().replace("n = 20", 'n = 8\nselection = "same"\nselection_n = 8'))
    return path


@pytest.fixture
def attack_grid(grid: Path) -> Path:
    """The same with PGD at two budgets."""
    path = grid.with_name("attacks.toml")
    attack = 'probe_images = 0\n[[attacks]]\nname = "pgd"\neps = ["1/255", "8/255"]\nsteps = 2\n'
    path.write_text(grid.read_text() + attack)
    return path


def measure(suite: Path, out: Path, *options: str) -> int:
    arguments = ["--suite", str(suite), "--out", str(out), "--device", "cpu", *options]
    return run_command(lambda: run.main(arguments))


def join(out: Path, *shards: Path | str) -> int:
    return run_command(lambda: merge.main([str(out), *map(str, shards)]))


def read_cells(out: Path) -> pd.DataFrame:
    return pd.read_csv(out / "cells.csv")[STABLE]


def plan(suite: Path, *options: str) -> list[Job]:
    options = run.read_options(run.make_parser().parse_args(["--suite", str(suite), *options]))
    return prepare(read_suite(options), options).jobs


@pytest.mark.parametrize("count", [1, 2, 3, 5, 20])
def test_every_job_is_in_exactly_one_shard_whatever_the_order(attack_grid, models, count):
    jobs = plan(attack_grid)
    assert len(jobs) == 5 + 5 + 2 * (3 + 1)
    keys = {job.key for job in jobs}
    taken = [Shard(index + 1, count).take(jobs) for index in range(count)]
    assert sorted(job.key for shard in taken for job in shard) == sorted(keys)
    for kind in (True, False):
        sizes = [sum(job.is_attack == kind for job in shard) for shard in taken]
        assert max(sizes) - min(sizes) <= 1, "every shard gets its share of attacks and of corruptions"
    other = plan(
        attack_grid,
        *("--models", f"{models}/plain.safetensors,{models}/sparse.safetensors"),
        *("--corruptions", "pixelate,gaussian_noise", "--lambdas", "0.5,0.1", "--eps", "8/255,1/255"),
    )
    again = [Shard(index + 1, count).take(other) for index in range(count)]
    assert [{job.key for job in shard} for shard in again] == [{job.key for job in shard} for shard in taken]


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "a/b", "1/3/5", "-1/3", "1/0", "1.5/3", ""])
def test_shards_that_make_no_sense_are_refused(grid, text):
    with pytest.raises(InputError, match="expected --shard i/n with i from 1 to n"):
        plan(grid, f"--shard={text}")


def test_a_shard_is_not_judged(grid):
    with pytest.raises(InputError, match="--strict needs the whole run, and a shard is a part"):
        plan(grid, "--shard", "1/1", "--strict")


def test_merged_shards_are_the_run_of_one_machine(attack_grid, tmp_path):
    """Every table, including attacks and policies, and the samples of the figures."""
    serial, joined = tmp_path / "serial", tmp_path / "joined"
    shards = [tmp_path / str(index) for index in range(3)]
    assert measure(attack_grid, serial) == 0
    for index, shard in enumerate(shards):
        order = ("--corruptions", "pixelate,gaussian_noise") if index == 1 else ()
        assert measure(attack_grid, shard, "--shard", f"{index + 1}/3", *order) == 0
        assert not (shard / "cells.csv").exists(), "a part has no tables of its own"
    files = [{path.name for path in (shard / "outcomes").iterdir()} for shard in shards]
    assert sum(map(len, files)) == len(set.union(*files)) == len(list((serial / "outcomes").iterdir()))
    cut = tmp_path / "cut"
    shutil.copytree(shards[2], cut)
    for path in (*(cut / "adversarial").iterdir(), *(cut / "outcomes").iterdir()):
        path.write_bytes(path.read_bytes()[:-30])
    assert join(joined, cut, *reversed(shards)) == 0
    assert join(tmp_path / "judged", *shards, "--strict") == 1, "without probes every attack is SUSPECT"
    pd.testing.assert_frame_equal(read_cells(joined), read_cells(serial))
    for path in (serial / "tables").glob("*.csv"):
        ours, theirs = (pd.read_csv(folder / "tables" / path.name) for folder in (joined, serial))
        pd.testing.assert_frame_equal(
            ours.drop(columns="seconds", errors="ignore"), theirs.drop(columns="seconds", errors="ignore")
        )
    for path in (serial / "tables").glob("*.md"):
        assert (joined / "tables" / path.name).read_text() == path.read_text(), path.name
    for name in ("samples.npz", "attack_samples.npz"):
        assert (joined / name).exists() == (serial / name).exists(), name
    assert len(list((joined / "adversarial").iterdir())) == 8
    assert all(is_whole_archive(path) for path in (joined / "adversarial").iterdir())
    record = json.loads((joined / "run.json").read_text())
    assert record["status"] == "complete"
    assert {part["shard"] for part in record["shards"]} == {"1/3", "2/3", "3/3"}


def test_what_is_missing_is_named_and_measured_by_the_command_without_a_shard(grid, tmp_path, capsys):
    serial, joined = tmp_path / "serial", tmp_path / "joined"
    shards = [tmp_path / str(index) for index in range(3)]
    measure(grid, serial)
    for index, shard in enumerate(shards):
        measure(grid, shard, "--shard", f"{index + 1}/3")
    damaged = sorted((shards[0] / "outcomes").iterdir())[0]
    damaged.write_bytes(damaged.read_bytes()[:-20])
    assert join(joined, *shards[:2]) == 1
    told = capsys.readouterr().err
    absent = len(list((shards[2] / "outcomes").iterdir())) + 1
    assert sum(int(line.split()[1]) for line in told.splitlines() if line.startswith("missing:")) == absent
    assert "in no shard that was given" in told
    kept = {path.name: path.stat().st_mtime_ns for path in (joined / "outcomes").iterdir()}
    assert join(joined, shards[2]) == 1, "a later merge brings the rest of the shards, and one cell is damaged"
    once = json.loads((joined / "run.json").read_text())["shards"]
    assert sorted(part["shard"] for part in once) == ["1/3", "2/3", "3/3"]
    assert join(joined, *shards) == 1
    assert json.loads((joined / "run.json").read_text())["shards"] == once, "merging again says nothing twice"
    assert measure(grid, joined) == 0
    assert {name: (joined / "outcomes" / name).stat().st_mtime_ns for name in kept} == kept
    pd.testing.assert_frame_equal(read_cells(joined), read_cells(serial))


def test_the_command_that_measures_what_is_missing_forgets_nothing(grid, tmp_path):
    joined = tmp_path / "joined"
    measure(grid, tmp_path / "1", "--shard", "1/2", "--fresh", "--lambdas", "0.1")
    assert join(joined, tmp_path / "1") == 1
    kept = {path: path.stat().st_mtime_ns for path in (joined / "outcomes").iterdir()}
    options = read_options(RunDirectory(joined).read_record())
    assert options == RunOptions(suite=str(grid), device="cpu", lambdas=(0.1,), out=str(joined))
    module, *words = options.to_words()[1:]
    assert module == "robustness.run"
    assert run.main(words) == 0
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--seed", "1"), "seed of the suite: 0 and 1"),
        (("--lambdas", "0.1"), r"lambdas of the suite: 0\.5 in the first only"),
        (("--n", "7"), "n of the data: 8 and 7"),
        (("--severities", "1"), "severities of the suite: 5 in the first only"),
    ],
)
def test_shards_of_another_grid_are_refused(grid, tmp_path, options, message):
    first, second = tmp_path / "first", tmp_path / "second"
    measure(grid, first, "--shard", "1/30")
    measure(grid, second, "--shard", "2/30", *options)
    with pytest.raises(InputError, match=message):
        merge.merge(RunDirectory(tmp_path / "joined"), [RunDirectory(first), RunDirectory(second)])
    assert not (tmp_path / "joined").exists()


def test_other_weights_of_one_name_and_other_protocols_are_refused(grid, models, tmp_path, monkeypatch):
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    measure(grid, first, "--shard", "1/30")
    monkeypatch.setattr("robustness.measure.cells.PROTOCOL_VERSION", 2)
    monkeypatch.setattr("robustness.measure.recording.PROTOCOL_VERSION", 2)
    measure(grid, second, "--shard", "2/30")
    with pytest.raises(InputError, match="protocol version: 1 and 2"):
        merge.check_alike(RunDirectory(first), RunDirectory(second))
    monkeypatch.undo()
    monkeypatch.setattr("robustness.measure.subjects.weights_fingerprint", lambda network: "f" * 64)
    measure(grid, third, "--shard", "2/30")
    with pytest.raises(InputError, match=r"weights of the model sparse: .* and ffff"):
        merge.check_alike(RunDirectory(first), RunDirectory(third))


def test_a_shard_without_any_job_is_whole_and_a_failed_cell_keeps_its_reason(grid, tmp_path, monkeypatch, capsys):
    empty, rest = tmp_path / "empty", tmp_path / "rest"
    assert measure(grid, empty, "--shard", "50/50") == 0
    assert "shard 50/50: 0 of the cells" in capsys.readouterr().out

    def fail(*arguments: object, **options: object) -> None:
        raise ValueError("it is broken")

    monkeypatch.setattr("robustness.measure.tasks.evaluate", fail)
    assert measure(grid, rest, "--shard", "1/2") == 1
    assert join(tmp_path / "joined", empty, rest) == 1
    assert "ValueError: it is broken" in capsys.readouterr().err
    assert json.loads((tmp_path / "joined" / "run.json").read_text())["status"] == "failed"


def test_two_runs_never_write_to_one_folder(grid, tmp_path, capsys):
    """The lock is the system's: it holds against another process, and ends when that is killed."""
    directory = RunDirectory(tmp_path / "run")
    directory.create()
    hold = "import sys, time; from pathlib import Path; from robustness.run_directory import RunDirectory\n"
    hold += "with RunDirectory(Path(sys.argv[1])).lock(): print('held', flush=True); time.sleep(100)"
    with subprocess.Popen([sys.executable, "-c", hold, str(directory.path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        unfinished = directory.outcomes / ".writing-x"
        unfinished.mkdir()
        assert measure(grid, directory.path) == 2
        assert "another run is writing to" in capsys.readouterr().err
        assert unfinished.exists(), "what another run is writing is not cleared away"
        process.kill()
    assert measure(grid, directory.path, "--shard", "1/30") == 0
    assert not unfinished.exists()


def test_out_of_memory_is_tried_again_with_smaller_batches_and_reported(grid, tmp_path, monkeypatch, capsys):
    from robustness.measure.tasks import evaluate

    sizes = []

    def fit(*arguments: object, **options: int) -> list[pd.DataFrame]:
        sizes.append(options["batch_size"])
        if options["batch_size"] > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return evaluate(*arguments, **options)

    narrowed = ("--batch-size", "8", "--corruptions", "pixelate", "--severities", "1")
    measure(grid, tmp_path / "roomy", *narrowed)
    monkeypatch.setattr("robustness.measure.tasks.evaluate", fit)
    assert measure(grid, tmp_path / "narrow", *narrowed) == 0
    assert sizes[:3] == [8, 4, 2]
    assert set(sizes[3:]) == {2}, "the jobs that follow start at the size that fits"
    pd.testing.assert_frame_equal(read_cells(tmp_path / "narrow"), read_cells(tmp_path / "roomy"), rtol=1e-4)
    events = json.loads((tmp_path / "narrow" / "run.json").read_text())["events"]
    assert "out of memory; attempt 2 of 4 at batch size 4" in events[0]
    assert events[0] in capsys.readouterr().err

    from robustness.measure.perturbations import corrupt

    def fit_corrupted(images: torch.Tensor, *arguments: object, **options: object) -> torch.Tensor:
        if len(images) > 6:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return corrupt(images, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr("robustness.measure.tasks.evaluate", evaluate)
        patch.setattr("robustness.measure.perturbations.corrupt", fit_corrupted)
        assert measure(grid, tmp_path / "making", *narrowed) == 0
    pd.testing.assert_frame_equal(read_cells(tmp_path / "making"), read_cells(tmp_path / "roomy"), rtol=1e-4)
    assert "out of memory; attempt 2 of 4" in json.loads((tmp_path / "making" / "run.json").read_text())["events"][0]

    monkeypatch.setattr("robustness.measure.tasks.evaluate", lambda *_, **__: fit(batch_size=9))
    assert measure(grid, tmp_path / "hopeless", *narrowed[2:]) == 1
    assert "out of memory (attempt 4, batch size 31)" in capsys.readouterr().err


def test_a_file_system_without_locks_is_warned_of_and_used(tmp_path, monkeypatch, capsys):
    def fail(lock: object, **options: object) -> None:
        raise OSError(number, "No locks available")

    directory = RunDirectory(tmp_path / "run")
    directory.create()
    monkeypatch.setattr("filelock.FileLock.acquire", fail)
    number = errno.ENOLCK
    with directory.lock():
        assert "has no locks" in capsys.readouterr().err
    number = errno.EIO
    with pytest.raises(OSError, match="No locks"), directory.lock():
        pass
