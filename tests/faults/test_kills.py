"""SIGKILL at random moments: nothing finished is lost, nothing wrong is kept, the table at the end is the same."""

from __future__ import annotations

import json
import random
import shutil
import time
from collections import Counter
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pandas as pd
import pytest
from disturbed import Undisturbed, finish, read_table, start_run


def run_campaign(undisturbed: Undisturbed, folder: Path, *, kills: int, seed: int, figures: bool) -> Counter[str]:
    """Kill a run ``kills`` times at moments drawn over its whole length; it resumes after every kill.

    Returns:
        How many kills hit a run before its first, between its first and its last, and after its last finished cell.
    """
    out, log = folder / "killed", folder / "log"
    arguments = (*undisturbed.arguments, "--out", out)
    started = time.monotonic()
    assert finish(start_run(*arguments, log=log, figures=figures)) == 0
    length = time.monotonic() - started
    undisturbed.check_finished(out)
    shutil.rmtree(out)
    moments, hits, kept = random.Random(seed), Counter[str](), set[str]()
    while hits.total() < kills:
        process = start_run(*arguments, log=log, figures=figures)
        if hits.total() == 0:  # one at work for certain, however fast the machine is
            wait_for_an_outcome(out, process)
        else:
            process.join(moments.uniform(0, length))
        was_killed = process.exitcode is None
        process.kill()
        process.join()
        finished = undisturbed.check(out)
        if was_killed and kept < finished < set(undisturbed.outcomes):
            assert json.loads((out / "run.json").read_text())["status"] == "running"
        assert kept <= finished, "what was finished before the kill is lost"
        kept = finished
        if (out / "cells.csv").exists():
            pd.testing.assert_frame_equal(read_table(out), undisturbed.table)
        if was_killed:
            hits["before" if not kept else "after" if kept == set(undisturbed.outcomes) else "between"] += 1
        else:
            assert process.exitcode == 0, log.read_text()
            undisturbed.check_finished(out)
        if not was_killed or (len(kept) == len(undisturbed.outcomes) and moments.random() < 0.5):
            shutil.rmtree(out)  # all over again
            kept = set()
    assert finish(start_run(*arguments, log=log, figures=figures)) == 0
    undisturbed.check_finished(out)
    return hits


def wait_for_an_outcome(out: Path, process: ForkServerProcess) -> None:
    while process.is_alive() and not list(out.glob("outcomes/*.parquet")):
        time.sleep(0.002)


def test_a_few_kills(undisturbed, tmp_path):
    hits = run_campaign(undisturbed, tmp_path, kills=4, seed=0, figures=False)
    assert hits["between"] > 0, "no kill hit a run at work"


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_hundred_kills(undisturbed, tmp_path, capsys):
    hits = run_campaign(undisturbed, tmp_path, kills=100, seed=1, figures=True)
    with capsys.disabled():
        print(f"\n{hits.total()} kills: {dict(hits)}")
    assert min(hits["between"], hits["after"]) > 0
