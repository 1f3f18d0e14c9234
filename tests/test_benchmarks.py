"""Benchmarks start, and the study of JPEG runs from images to table."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pictured import write_png

ROOT = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(autouse=True)
def _benchmarks(monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path, str(ROOT)])


@pytest.mark.parametrize("name", sorted(path.stem for path in ROOT.glob("*.py")))
def test_a_benchmark_finds_all_it_imports(name):
    assert importlib.import_module(name).__doc__


@pytest.mark.slow
def test_the_study_of_jpeg_has_a_row_for_every_question(tmp_path, monkeypatch, capsys):
    generator = np.random.default_rng(0)
    for label in ("bird", "cat"):
        for number in range(36):
            pixels = generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            write_png(tmp_path / "source" / "train" / label / f"{number}.png", pixels)
    options = ["--qualities", "50", "--seeds", "1", "--epochs", "1", "--width", "4", "--test-per-class", "4"]
    arguments = ["jpeg", str(tmp_path / "source"), "--out", str(tmp_path / "out"), *options]
    monkeypatch.setattr(sys, "argv", arguments)
    jpeg = importlib.import_module("jpeg")
    jpeg.main()
    trained = (tmp_path / "out" / "sdnet18-lossless-seed0" / "model.safetensors").read_bytes()
    table = pd.read_csv(tmp_path / "out" / "jpeg.csv")
    questions = 2 + len(jpeg.LAMBDAS[1:]) + 1
    assert len(table) == 2 * 3 * questions * 2
    for value in table["points"]:
        mean, low, high = map(float, re.fullmatch(r"(\S+) \[(\S+), (\S+)\]", value).groups())
        assert low <= mean <= high
    assert (table["points − lossless"].notna() == (table["trained on"] == "JPEG q50")).all()
    jpeg.main()  # resumes: nothing is trained again
    assert (tmp_path / "out" / "sdnet18-lossless-seed0" / "model.safetensors").read_bytes() == trained
