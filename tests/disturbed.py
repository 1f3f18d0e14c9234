"""Runs in processes of their own, which can be killed at any moment, and what must hold whatever happens to them."""

from __future__ import annotations

import multiprocessing
import os
import resource
import sys
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pandas as pd

from robustness.analysis.frames import CELL_COLUMNS
from robustness.run_directory import RunDirectory

_STABLE = [name for name in CELL_COLUMNS if name != "seconds"]
_CONTEXT = multiprocessing.get_context("forkserver")
# imported once: a run then starts in milliseconds
_CONTEXT.set_forkserver_preload(["robustness.session", "robustness.run", "torchattacks"])


@dataclass(frozen=True)
class Undisturbed:
    """The arguments of a run, and what it measured when nothing happened to it: outcomes by key, and the table."""

    arguments: tuple[object, ...]
    out: Path
    outcomes: dict[str, pd.DataFrame]
    table: pd.DataFrame

    @classmethod
    def read(cls, arguments: tuple[object, ...], out: Path) -> Undisturbed:
        """Read the finished run in ``out``."""
        return cls(arguments, out, read_outcomes(out), read_table(out))

    def check(self, out: Path) -> set[str]:
        """Every finished cell of ``out`` holds what was measured here; returns their keys."""
        found = read_outcomes(out)
        for key, frame in found.items():
            expected = self.outcomes[key]
            kept = [name for name in expected.columns if not name.endswith("_passes")]  # of the last session only
            pd.testing.assert_frame_equal(frame[kept], expected[kept])
        return set(found)

    def check_finished(self, out: Path) -> None:
        """``out`` holds all of it, the same table, and no rubbish."""
        assert self.check(out) == set(self.outcomes)
        pd.testing.assert_frame_equal(read_table(out), self.table)
        assert {path.name for path in (*out.rglob(".*"), *out.rglob("*.partial"))} <= {".lock", ".lock-analysis"}


def start_run(
    *arguments: object,
    log: Path,
    module: str = "robustness.run",
    figures: bool = False,
    largest_file: int | None = None,
    grace: float = 30.0,
) -> ForkServerProcess:
    """Start ``python -m module`` with ``arguments``; what it prints goes to ``log``.

    largest_file: bytes that a file may have, as a quota would have it. grace: of the time limit, in seconds.
    """
    words = [str(argument) for argument in arguments]
    process = _CONTEXT.Process(target=_run, args=(module, words, str(log), figures, largest_file, grace))
    process.start()
    return process


def finish(process: ForkServerProcess) -> int:
    """Wait for a run; its exit code."""
    process.join(240)
    assert process.exitcode is not None, "the run hangs"
    return process.exitcode


def _run(
    module: str, words: list[str], log: str, figures: bool, largest_file: int | None, grace: float
) -> None:  # in the new process
    from importlib import import_module

    from data_prep.errors import run_command
    from robustness.analysis import write
    from robustness.measure import time_limit

    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(file, stream.fileno())
    if not figures:
        write.write_figures = lambda *_, **__: None
    time_limit._GRACE = grace
    if largest_file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    sys.argv = [module, *words]
    sys.exit(run_command(import_module(module).main))


def read_table(out: Path) -> pd.DataFrame:
    """``cells.csv`` without its times."""
    return pd.read_csv(out / "cells.csv")[_STABLE]


def read_outcomes(out: Path) -> dict[str, pd.DataFrame]:
    """Every finished cell of a run directory, by its key."""
    directory, found = RunDirectory(out), {}
    for path in directory.outcomes.glob("*.parquet"):
        outcome = directory.read_outcome(path.stem, n=len(pd.read_parquet(path, columns=["index"])))
        assert outcome is not None, f"{path} is there and not whole"
        found[path.stem] = outcome[0]
    return found
