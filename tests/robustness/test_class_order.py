"""Models whose outputs stand for the classes in another order: told by their clean predictions, honest ones are not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from robustness.analysis.findings import Findings
from robustness.analysis.frames import Run
from robustness.analysis.overview import Overview
from robustness.class_order import find_other_order
from robustness.run import main
from robustness.run_directory import RunDirectory

TEN = [f"class {index}" for index in range(10)]


def draw(classes: int, n: int, accuracy: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and predictions of which about ``accuracy`` are right and the others are spread evenly."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    return np.where(rng.random(n) < accuracy, labels, rng.integers(0, classes, n)), labels


@pytest.mark.parametrize("swapped", [(0, 1), (2, 9), (3, 4, 5), tuple(range(10))])
@pytest.mark.parametrize("accuracy", [0.5, 0.9])
def test_classes_that_change_places_are_found_and_the_accuracy_in_their_order_is_told(swapped, accuracy):
    predicted, labels = draw(10, 1000, accuracy)
    order = np.arange(10)
    order[list(swapped)] = np.roll(swapped, 1)
    other = find_other_order(np.argsort(order)[predicted], labels, TEN)
    assert other is not None
    assert other.accuracy == (np.argsort(order)[predicted] == labels).mean()
    assert other.reordered == pytest.approx((predicted == labels).mean(), abs=0.01)
    first = min(k for k in range(10) if order[k] != k)
    assert other.moves[0] == f"output {first} for class {order[first]}"


@pytest.mark.parametrize(("shift", "first"), [(1, "output 0 for c0999"), (-1, "output 0 for c0001")])
def test_outputs_one_too_high_or_low_are_found_from_one_image_per_class(shift, first):
    labels = np.arange(1000)
    predicted = np.where(np.random.default_rng(0).random(1000) < 0.7, labels, 7)
    other = find_other_order((predicted + shift) % 1000, labels, [f"c{index:04}" for index in range(1000)])
    assert other is not None
    assert other.reordered == pytest.approx(0.7, abs=0.03)
    assert other.accuracy < 0.01
    assert other.moves[0] == first


def test_numbers_sorted_as_text_are_found_from_one_image_per_class():
    names = sorted(map(str, range(200)))
    labels = np.arange(200)
    predicted = np.array([int(names[label]) for label in labels])  # a model in the order of the numbers
    other = find_other_order(predicted, labels, names)
    assert other is not None
    assert other.reordered == 1
    assert other.moves[0] == "output 2 for 2"


def test_no_honest_model_is_accused():
    """Random, weak and good models, models that see one class in everything, and models that take one for another."""
    for seed in range(100):
        classes, n = ((2, 20), (10, 50), (10, 1000), (100, 300))[seed % 4]
        names = [str(index) for index in range(classes)]
        for accuracy in (0.0, 0.1, 0.6, 1.0):
            predicted, labels = draw(classes, n, accuracy, seed)
            assert find_other_order(predicted, labels, names) is None
            assert find_other_order(np.full_like(predicted, classes - 1), labels, names) is None
            if accuracy >= 0.6:
                assert find_other_order(np.where(labels == 0, 1, predicted), labels, names) is None


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Twelve classes named by numbers, which folders sort as text, four grey pictures each."""
    for label in range(12):
        (tmp_path / "pictures" / str(label)).mkdir(parents=True)
        for index in range(4):
            pixels = np.full((32, 32, 3), 20 * label + index, np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pictures" / str(label) / f"{index}.png")
    return tmp_path / "pictures"


MODEL = """
import torch

class Grey(torch.nn.Module):
    def __init__(self, order):
        super().__init__()
        self.levels = torch.nn.Parameter(torch.tensor([20.0 * label for label in order]))

    def forward(self, images):
        return -(255 * images.mean((1, 2, 3)) - 1.5 - self.levels[:, None]).abs().T

def by_number():
    return Grey(range(12))

def by_name():
    return Grey(sorted(range(12), key=str))
"""


def test_rows_of_a_model_with_another_order_are_suspect(pictures, write, tmp_path, capsys):
    file, out = write("grey.py", MODEL), tmp_path / "run"
    words = ["--data", str(pictures), "--models", f"{file}:by_number,{file}:by_name", "--corruptions", "contrast"]
    assert main([*words, "--severities", "1", "--out", str(out), "--strict"]) == 1
    said = "100.0% of the clean images would be right with its classes in another order"
    shown = capsys.readouterr()
    warnings = [line for line in shown.err.splitlines() if said in line]
    assert len(warnings) == 1
    assert "by_number" in warnings[0]
    assert "(output 2 for 2, output 3 for 3, output 4 for 4, …), 16.7% are" in warnings[0]
    cells = pd.read_csv(out / "cells.csv").set_index("model")
    assert set(cells.loc["grey.py:by_number", "trust"]) == {"SUSPECT"}
    assert cells.loc["grey.py:by_number", "trust_reason"].str.contains("give its order with --classes").all()
    assert set(cells.loc["grey.py:by_name", "trust"]) == {"OK"}
    assert "\nSUSPECT: grey.py:by_number: 100.0% of the clean images" in shown.out
    assert (out / "report.html").read_text().count('<p class="doubt">SUSPECT: grey.py:by_number: 100.0%') == 1
    overview = Overview(tmp_path, {"one": Findings.of(Run.open(RunDirectory(out)))})
    assert overview.lay_out().loc["grey.py:by_number", "one: corrupted"] == "16.7 [8.7, 29.6] ?"
    overview.write()
    assert (tmp_path / "report.html").read_text().count('<p class="doubt">SUSPECT: grey.py:by_number: ') == 1

    order = tmp_path / "classes.txt"
    order.write_text("\n".join(map(str, range(12))))
    words[3] = f"{file}:by_number"
    assert main([*words, "--severities", "1", "--out", str(tmp_path / "alone"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["headline"].endswith("accuracy [8.7, 29.6] (trust: SUSPECT).")
    assert found["doubts"]["grey.py:by_number"]["trust"] == "SUSPECT"

    words += ["--classes", str(order), "--severities", "1", "--strict"]
    assert main([*words, "--out", str(tmp_path / "ordered")]) == 0
    clean = pd.read_csv(tmp_path / "ordered" / "cells.csv").query("perturbation == 'clean'")
    assert clean["accuracy"].tolist() == [1.0]
    assert 'class="doubt"' not in (tmp_path / "ordered" / "report.html").read_text()
