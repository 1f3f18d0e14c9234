"""``--json``: one object on standard output, whatever the models do there."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from torch import Tensor, nn

from data_prep.errors import EXIT_DONE, EXIT_SOME_FAILED
from robustness.run import main

pytestmark = pytest.mark.usefixtures("without_figures")


class Prints(nn.Module):
    """Prints as Python does, as native code does, as a program does, and past any redirection."""

    def forward(self, images: Tensor) -> Tensor:
        print("python")
        print("original", file=sys.__stdout__)
        os.write(1, b"native\n")
        subprocess.run(["echo", "program"], check=True)
        return images.flatten(1)[:, :10]


class Fails(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        if len(images) > 4:
            raise ValueError("too many")
        return images.flatten(1)[:, :10]


@pytest.fixture
def words(tmp_path, monkeypatch) -> list[str]:
    monkeypatch.syspath_prepend(str(__file__).rpartition("/")[0])
    words = ["--suite", "demo", "--n", "10", "--corruptions", "contrast", "--severities", "1", "--selection", "none"]
    return [*words, "--out", str(tmp_path / "run"), "--models", "test_json:Prints,test_json:Fails", "--json"]


def test_nothing_but_the_object_is_printed_whatever_a_model_prints_and_however_it_fails(words, capfd):
    assert main(words) == EXIT_SOME_FAILED
    out, err = capfd.readouterr()
    told = json.loads(out)
    assert {row["model"] for row in told["summary"]} == {"test_json:Prints"}
    assert set(told["missing"].values()) == {"ValueError: too many"}
    for word in ("python", "original", "native", "program", "failed: test_json:Fails"):
        assert word in err


def test_a_shard_prints_an_object_too(words, tmp_path, capfd):
    assert main([*words, "--models", "test_json:Prints", "--shard", "1/1"]) == EXIT_DONE
    expected = {"run": str(tmp_path / "run"), "shard": "1/1", "status": "complete", "missing": {}}
    assert json.loads(capfd.readouterr().out) == expected
