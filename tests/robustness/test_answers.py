"""A model is known by what it answers: whatever changes it changes its keys, and nothing else does."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from robustness import run
from robustness.measure import answers
from robustness.measure.answers import draw_probe_images, identify, is_close, sketch_answers, sketch_logits
from robustness.measure.foreign import ForeignClassifier
from robustness.measure.loaders.loaded import Loaded

CPU = torch.device("cpu")
RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(8, 10)) * 4


def test_probe_images_are_the_same_everywhere():
    images = draw_probe_images(9, 32)
    assert images.shape == (8, 3, 9, 32)
    assert images.dtype == torch.float32
    assert images.min() >= 0
    assert images.max() <= 1
    assert images[0, 0, 0, :2].tolist() == pytest.approx([0.0115467543, 0.2415491939], abs=1e-6)
    assert torch.equal(images[4:, :, :, 0], images[4:, :, :, 3])


def test_rounding_changes_nothing_and_half_a_percent_everything():
    """Of 200 models, answers that differ as another device's do (1e-6) and as another model's (5e-3 of the range)."""
    same, noticed = 0, 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        logits = rng.normal(size=(8, 10)) * rng.uniform(0.1, 100)
        noise = rng.normal(size=logits.shape) * np.ptp(logits)
        sketch, rounded, other = (sketch_logits(logits + scale * noise) for scale in (0, 1e-6, 5e-3))
        assert is_close(sketch, rounded)
        same += identify(sketch) == identify(rounded)
        noticed += not is_close(sketch, other)
    assert same >= 197
    assert noticed == 200


@pytest.mark.parametrize(
    "change", [lambda x: x * 1.05, lambda x: x[::-1], lambda x: np.roll(x, 1, axis=1), np.negative]
)
def test_other_answers_have_another_id(change):
    assert identify(sketch_logits(change(LOGITS))) != identify(sketch_logits(LOGITS))


def test_answers_of_one_value_have_an_id():
    flat = np.zeros((8, 10))
    assert identify(sketch_logits(flat)) == identify(sketch_logits(flat + 3))
    assert identify(()) == answers.NO_ANSWER


class Hidden(nn.Module):
    """Its network is in a plain list, where torch does not see it."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.networks = [weight]

    def forward(self, images: Tensor) -> Tensor:
        return images.mean((2, 3)) @ self.networks[0].T


def test_asking_leaves_no_trace():
    class Counts(Hidden):
        def forward(self, images: Tensor) -> Tensor:
            self.networks[0] += 1
            return super().forward(images)

    model = ForeignClassifier(Loaded(model=Counts(torch.zeros(10, 3))), num_classes=10, origin="o")
    first = sketch_answers(model, None, (32, 32), CPU)
    assert sketch_answers(model, None, (32, 32), CPU) == first
    assert model.model.networks[0].abs().sum() == 0


def test_a_file_that_changes_is_measured_anew(tmp_path, monkeypatch):
    """98 % said the first file, and so it stayed whatever was in it: the state dict holds nothing."""
    (tmp_path / "hidden.py").write_text(
        "import torch\n"
        "class Hidden(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        f"        self.networks = [torch.load({str(tmp_path / 'weights.pt')!r}, weights_only=True)]\n"
        "    def forward(self, images):\n"
        "        return images.mean((2, 3)) @ self.networks[0].T\n"
        "def build():\n"
        "    return Hidden()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    words = ["--suite", "demo", "--models", "hidden:build", "--corruptions", "contrast", "--severities", "1"]
    words += ["--n", "10", "--selection", "none", "--shard", "1/1", "--out", str(tmp_path / "run")]
    weight = torch.randn(10, 3, generator=torch.Generator().manual_seed(0))
    answers = []
    for weights in (weight, weight, weight.flip(0), weight.flip(0) * torch.tensor([1.02, 1, 1])):
        torch.save(weights, tmp_path / "weights.pt")
        assert run.main(words) == 0
        record = json.loads((tmp_path / "run" / "run.json").read_text())
        files = [tmp_path / "run" / "outcomes" / f"{cell['key']}.parquet" for cell in record["cells"]]
        answers.append([pd.read_parquet(file)[["predicted", "confidence"]].to_numpy().tolist() for file in files])
    first, again, other, slightly = answers
    assert first == again
    assert len({str(values) for values in (first, other, slightly)}) == 3
