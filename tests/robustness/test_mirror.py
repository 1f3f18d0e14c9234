"""A run directory at a URL, with fsspec's file system in memory."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pandas as pd
import pytest

from data_prep.arrays import write_arrays
from data_prep.errors import InputError, PrerequisiteError, run_command
from robustness import merge, mirror, run
from robustness.analysis.frames import CELL_COLUMNS
from robustness.mirror import Mirror, local_folder
from robustness.run_directory import RunDirectory

pytestmark = pytest.mark.usefixtures("without_figures")
STABLE = [name for name in CELL_COLUMNS if name != "seconds"]
URL = "memory://bucket/run"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[fsspec.AbstractFileSystem]:
    """An empty store, and an empty working directory."""
    monkeypatch.chdir(tmp_path)
    store = fsspec.filesystem("memory")
    yield store
    store.store.clear()
    store.pseudo_dirs[:] = [""]


def measure(suite: Path, out: str, *options: str) -> int:
    return run_command(lambda: run.main(["--suite", str(suite), "--out", out, "--device", "cpu", *options]))


def list_outcomes(store: fsspec.AbstractFileSystem) -> set[str]:
    return {Path(path).name for path in store.find("/bucket/run/outcomes")}


def forget_local_copy() -> None:
    local_folder(URL).rename("forgotten")


def test_a_run_at_a_url_is_that_of_a_folder_and_goes_on_elsewhere(suite, store, tmp_path, monkeypatch, capsys):
    assert measure(suite, str(tmp_path / "folder")) == 0
    assert measure(suite, URL, "--lambdas", "0.1") == 0
    first = list_outcomes(store)
    assert {"run.json", "cells.csv", "report.html", "samples.npz"} <= {Path(p).name for p in store.find("/bucket/run")}
    assert not [path for path in store.find("/bucket/run") if "/." in path]
    forget_local_copy()
    assert measure(suite, URL) == 0
    assert f"15 cells, {len(first)} of them done" in capsys.readouterr().out
    assert list_outcomes(store) == {path.name for path in (tmp_path / "folder" / "outcomes").iterdir()}
    with store.open("/bucket/run/cells.csv") as file:
        there = pd.read_csv(file)
    pd.testing.assert_frame_equal(there[STABLE], pd.read_csv(tmp_path / "folder" / "cells.csv")[STABLE])


def test_what_is_finished_is_at_the_url_before_the_run_ends(suite, store, monkeypatch):
    """Nobody needs the machine that was lost: what it had finished by the last copy is there."""
    monkeypatch.setattr(mirror, "PUSH_SECONDS", 0.0)
    pushed, push = [], Mirror.push

    def lose_the_machine(self: Mirror) -> None:
        push(self)
        pushed.append(list_outcomes(store))
        if len(pushed) == 2:
            monkeypatch.setattr(Mirror, "push", lambda self: None)
            raise KeyboardInterrupt

    monkeypatch.setattr(Mirror, "push", lose_the_machine)
    assert measure(suite, URL) == 130
    assert 0 < len(pushed[0]) < len(pushed[1]) < 15
    monkeypatch.setattr(Mirror, "push", push)
    forget_local_copy()
    before = {path: store.modified(path) for path in store.find("/bucket/run/outcomes")}
    assert measure(suite, URL) == 0
    assert {path: store.modified(path) for path in before} == before
    assert len(list_outcomes(store)) == 15


def test_a_truncated_copy_is_measured_again_and_fresh_forgets_all(suite, store):
    measure(suite, URL)
    path = store.find("/bucket/run/outcomes")[0]
    store.pipe_file(path, store.cat_file(path)[:-10])
    forget_local_copy()
    assert measure(suite, URL) == 0
    assert RunDirectory(local_folder(URL)).read_outcome(Path(path).stem, n=20) is not None
    measure(suite, URL, "--fresh", "--lambdas", "0.1")
    assert len(list_outcomes(store)) == 10


@pytest.mark.parametrize("name", ["outcomes/k.parquet", "adversarial/k.npz", "samples.npz", "run.json"])
def test_a_truncated_copy_never_replaces_a_whole_file_and_is_mended(store, tmp_path, name):
    directory = RunDirectory(tmp_path / "run")
    directory.write_outcome("k", pd.DataFrame({"correct": [True, False]}), {"seconds": 1.0})
    write_arrays(directory.adversarial / "k.npz", {"images": np.arange(9)})
    directory.write_samples({"images": np.arange(9)})
    directory.write_record({"cells": []})
    Mirror(directory, URL).push()
    whole = store.cat_file(f"/bucket/run/{name}")
    store.pipe_file(f"/bucket/run/{name}", whole[:-10])
    again = Mirror(directory, URL)
    again.pull()
    assert (directory.path / name).read_bytes() == whole
    again.push()
    assert store.cat_file(f"/bucket/run/{name}") == whole
    (directory.path / name).write_bytes(whole[:-9])
    Mirror(directory, URL).pull()
    assert (directory.path / name).read_bytes() == whole, "a whole copy mends what is damaged here"
    assert not list(directory.path.rglob(".writing-*"))


def test_a_run_goes_on_after_a_first_copy_that_broke_off(suite, store, monkeypatch, capsys):
    put = type(store).put_file

    def lose_the_line(self: object, path: str, place: str) -> None:
        if place.endswith("report.html"):
            raise ConnectionError("the line is down")
        put(self, path, place)

    with monkeypatch.context() as patch:
        patch.setattr(type(store), "put_file", lose_the_line)
        assert measure(suite, URL) == 2
    assert store.exists("/bucket/run/cells.csv")
    assert not store.exists("/bucket/run/run.json")
    forget_local_copy()
    assert measure(suite, URL) == 0
    assert "15 cells, 15 of them done" in capsys.readouterr().out
    assert store.exists("/bucket/run/run.json")


def test_what_an_attack_under_way_has_written_stays_here(store, tmp_path):
    directory = RunDirectory(tmp_path / "run")
    write_arrays(directory.adversarial / "k.partial" / "00-00000.npz", {"images": np.arange(9)})
    directory.write_record({"cells": []})
    Mirror(directory, URL).push()
    assert store.find("/bucket/run") == ["/bucket/run/run.json"]


def test_a_file_url_gets_its_folders(suite, store, tmp_path, capsys):
    url = (tmp_path / "far" / "away").as_uri()
    assert measure(suite, url, "--lambdas", "0.1") == 0
    assert {"run.json", "outcomes", "report.html"} <= {path.name for path in (tmp_path / "far" / "away").iterdir()}
    local_folder(url).rename("forgotten")
    assert measure(suite, url, "--lambdas", "0.1") == 0
    assert "10 cells, 10 of them done" in capsys.readouterr().out


@pytest.mark.parametrize("entry", [{}, {"size": None}], ids=["no size", "size None"])
def test_a_store_that_knows_no_sizes_is_fetched_from_and_checked(entry, suite, store, monkeypatch, capsys):
    """Plain HTTP servers are such."""
    find = type(store).find
    monkeypatch.setattr(type(store), "find", lambda *place, detail: dict.fromkeys(find(*place), entry))
    measure(suite, URL, "--lambdas", "0.1")
    path = find(store, "/bucket/run/outcomes")[0]
    store.pipe_file(path, store.cat_file(path)[:-10])
    forget_local_copy()
    assert measure(suite, URL, "--lambdas", "0.1") == 0
    assert "10 cells, 9 of them done" in capsys.readouterr().out


def test_shards_at_urls_are_fetched_and_joined(suite, store, tmp_path):
    for index in (1, 2):
        assert measure(suite, f"memory://bucket/{index}", "--shard", f"{index}/2") == 0
    assert run_command(lambda: merge.main(["joined", "memory://bucket/1", "memory://bucket/2"])) == 0
    assert measure(suite, "serial") == 0
    pd.testing.assert_frame_equal(*(pd.read_csv(f"{name}/cells.csv")[STABLE] for name in ("joined", "serial")))


def test_a_merge_into_a_url_is_refused(store, tmp_path):
    with pytest.raises(
        InputError, match=r"expected OUT as a folder .*, got memory://bucket/joined; merge into a folder"
    ):
        merge.main(["memory://bucket/joined", "shard"])
    assert not list(tmp_path.iterdir())


def test_names_from_a_url_stay_in_the_folder(store, tmp_path):
    for name in ("run.json", "outcomes/../../../evil.npz", "report.html", "outcomes/.hidden"):
        store.pipe_file(f"/bucket/run/{name}", json.dumps({}).encode())
    RunDirectory(tmp_path / "c").write_outcome("x", pd.DataFrame({"correct": [True]}), {})
    store.put_file(str(tmp_path / "c" / "outcomes" / "x.parquet"), "/bucket/run/outcomes/x.parquet")
    shutil.rmtree(tmp_path / "c")
    Mirror(RunDirectory(tmp_path / "a" / "b"), URL).pull()
    fetched = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert fetched == {"a/b/run.json", "a/b/outcomes/x.parquet"}


def test_urls_that_cannot_be_used_are_named(suite, store, monkeypatch, capsys):
    store.pipe_file("/bucket/run/thesis.tex", b"x")
    with pytest.raises(InputError, match="holds other files"):
        run.main(["--suite", str(suite), "--out", URL])
    with pytest.raises(InputError, match=r"expected a URL that fsspec can read, got nonsense"):
        run.main(["--suite", str(suite), "--out", "nonsense://bucket/run"])

    def refuse(*arguments: object, **options: object) -> None:
        raise PermissionError("Access Denied")

    monkeypatch.setattr(type(store), "put_file", refuse)
    monkeypatch.setattr(mirror, "PUSH_SECONDS", 0.0)
    with pytest.raises(PrerequisiteError, match=r"cannot be read or written .*Access Denied.*is kept in results/runs"):
        run.main(["--suite", str(suite), "--out", "memory://bucket/other"])
    assert "warning: memory://bucket/other cannot be" in capsys.readouterr().err, "tried during the run, too"
    assert len(list((local_folder("memory://bucket/other") / "outcomes").iterdir())) == 15


@pytest.mark.parametrize("place", ["://", "s3://", "memory:///", "://bucket", "1:2://x"])
def test_urls_without_a_place_are_refused_before_any_work(place, suite):
    with pytest.raises(InputError, match="expected a URL of a run directory"):
        run.main(["--suite", str(suite), "--out", place, "--dry-run"])


def test_no_two_urls_share_a_local_folder():
    places = ["s3://bucket/run", "s3://bucket-run", "s3://bucket_run", "gs://bucket/run", "s3://bucket//run"]
    assert len({local_folder(place) for place in places}) == len(places)


def test_a_copy_that_fails_once_is_made_the_next_time_and_hides_no_other_error(store, tmp_path, monkeypatch, capsys):
    directory = RunDirectory(tmp_path / "run")
    directory.create()
    (directory.path / "run.json").write_text("{}")
    monkeypatch.setattr(mirror, "PUSH_SECONDS", 0.0)
    put, broken = type(store).put_file, [True]

    def put_sometimes(*arguments: object, **options: object) -> None:
        if broken[0]:
            raise ConnectionError("the line is down")
        put(*arguments, **options)

    monkeypatch.setattr(type(store), "put_file", put_sometimes)
    with mirror.mirrored(directory, URL, fresh=False) as push_if_due:
        push_if_due()
        assert "the line is down" in capsys.readouterr().err
        broken[0] = False
        push_if_due()
        assert store.exists("/bucket/run/run.json")
        (directory.path / "run.json").write_text("{ }")
        broken[0] = True
        push_if_due()
        broken[0] = False
    assert store.cat_file("/bucket/run/run.json") == b"{ }"
    broken[0] = True
    with pytest.raises(KeyError, match="the cause"), mirror.mirrored(directory, URL, fresh=False):  # noqa: PT012
        (directory.path / "run.json").write_text("{  }")
        raise KeyError("the cause")
