from __future__ import annotations

import os
import signal
import time

import pytest
import torch

from data_prep.errors import EXIT_BAD_INPUT, InputError, run_command
from data_prep.generate import generate_archive_c
from robustness import ablate, fit, run
from sdnet_core import train

SHORT = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has …"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
    MemoryError(),
]


@pytest.mark.parametrize("error", SHORT, ids=lambda error: type(error).__name__)
def test_a_command_that_runs_out_of_memory_says_so_in_one_line(error, capsys):
    def load_a_large_model() -> int:
        raise error

    assert run_command(load_a_large_model) == EXIT_BAD_INPUT
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: out of memory")
    assert "--device" in line


def test_another_error_of_the_runtime_is_raised():
    def divide() -> int:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        run_command(divide)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_ends_a_command_lets_it_put_things_in_order(number, capsys):
    """A scheduler's SIGTERM left scratch files, and ``run.json`` said that the run was running."""
    usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    before, ended = signal.signal(number, usual), []  # the tests may run where it is ignored

    def work() -> int:
        try:
            os.kill(os.getpid(), number)
            time.sleep(60)
        finally:
            ended.append(number)

    try:
        assert run_command(work) == 128 + number
        assert ended == [number]
        assert signal.getsignal(number) is usual
    finally:
        signal.signal(number, before)
    assert capsys.readouterr().err == "interrupted: finished work is kept; the same command resumes it\n"


def test_an_ignored_signal_stays_ignored():
    """As ``nohup`` does."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert run_command(lambda: os.kill(os.getpid(), signal.SIGHUP) or 7) == 7
    finally:
        signal.signal(signal.SIGHUP, before)


COMMANDS = {
    "run": (run.main, ["--dry-run"]),
    "fit": (fit.main, ["sdnet18-shapes", "--data", "shapes", "--n", "2"]),
    "ablate": (ablate.main, ["--recipe", "shapes-sdnet18", "--vary", "model.n_steps=1", "--dry-run"]),
    "train": (train.main, ["--recipe", "shapes-sdnet18"]),
}


@pytest.mark.parametrize("seed", ["-1", str(2**63)])
@pytest.mark.parametrize("name", COMMANDS)
def test_seeds_out_of_range_are_refused_before_the_work(name, seed, tmp_path):
    main, words = COMMANDS[name]
    with pytest.raises(InputError, match=r"expected --seed as a whole number from 0 to 2\^63"):
        main([*words, "--seed", seed, *(["--out", str(tmp_path / "out")] if name != "fit" else [])])
    assert not (tmp_path / "out").exists()


def test_corruptions_of_a_negative_seed_are_refused(tmp_path):
    with pytest.raises(InputError, match="expected --seed as"):
        generate_archive_c("cifar10c", data_dir=tmp_path, corruptions=["contrast"], n=1, seed=-1)
