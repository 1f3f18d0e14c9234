"""Training by two processes on the CPU: the same steps as one process with the same batch."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from data_prep.errors import InputError
from sdnet_core import read_card, train
from sdnet_core.processes import ALONE, Processes

TINY = ["--recipe", "shapes-sdnet18", "--set", "data=tiny", "--set", "batch_size=16", "--set", "warmup_epochs=0"]
TINY += ["--set", "model.width=4", "--set", "lr=0.02", "--threads", "1", "--device", "cpu"]


def train_by_two(*command: str) -> str:
    """Run ``command`` under torchrun and return what it prints."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    paths = {**os.environ, "PYTHONPATH": str(Path(train.__file__).parents[1])}
    done = subprocess.run([*launcher, *command], capture_output=True, text=True, timeout=240, env=paths, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def assert_same_weights(one: Path, two: Path, tolerance: float) -> None:
    expected, found = (load_file(folder / "model.safetensors") for folder in (one, two))
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        torch.testing.assert_close(
            found[name], value, atol=tolerance, rtol=tolerance, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.fixture
def double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("double")
def test_two_processes_take_the_steps_of_one(tmp_path, import_shapes: Callable[..., Path]):
    """Adversarial training with every convolution sparse: augmentation, start, BatchNorms, gradients and projection."""
    options = [*TINY, "--set", "epochs=1", "--set", "model.arch=sdnet18_all", "--set", "model.shortcut=false"]
    options += ["--adversarial", "pgd", "--set", "adversarial_steps=2"]
    options += ["--data-dir", str(import_shapes("tiny", train=50, test=30))]
    assert train.main([*options, "--out", str(tmp_path / "one")]) == 0
    train_by_two(str(Path(__file__).with_name("train_in_double.py")), *options, "--out", str(tmp_path / "two"))
    assert_same_weights(tmp_path / "one", tmp_path / "two", 1e-8)
    logs = [pd.read_csv(tmp_path / name / "log.csv") for name in ("one", "two")]
    assert logs[1]["train_loss"].tolist() == pytest.approx(logs[0]["train_loss"].tolist(), rel=1e-8)


@pytest.mark.slow
def test_two_processes_finish_what_one_began(tmp_path, import_shapes: Callable[..., Path], monkeypatch):
    """The first epoch by one process, which is then interrupted, the second by two; a single file of each kind."""
    options = [*TINY, "--set", "epochs=2", "--data-dir", str(import_shapes("tiny", train=50, test=30))]
    assert train.main([*options, "--out", str(tmp_path / "one")]) == 0

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sdnet_core.training.write_log", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train.main([*options, "--out", str(tmp_path / "two")])
    printed = train_by_two("-m", "sdnet_core.train", *options, "--out", str(tmp_path / "two"))
    assert printed.count("written:") == 1
    assert_same_weights(tmp_path / "one", tmp_path / "two", 1e-3)
    cards = [read_card(tmp_path / name / "model.safetensors") for name in ("one", "two")]
    assert cards[0].accuracy == cards[1].accuracy
    assert [card.record["processes"] for card in cards] == [1, 2]
    assert len(pd.read_csv(tmp_path / "two" / "log.csv")) == 2


def test_shares_are_equal_and_make_up_the_batch():
    batch = torch.arange(12).view(6, 2)
    assert torch.equal(torch.cat([Processes(rank, 3).share(batch) for rank in range(3)]), batch)
    assert torch.equal(ALONE.share(batch), batch)
    with pytest.raises(InputError, match="expected a batch divisible among 4 processes, got 6 images; choose another"):
        Processes(0, 4).share(batch)
