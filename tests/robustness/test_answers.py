"""A model is known by what it answers: whatever changes it changes its keys, and nothing else does."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from robustness import open_run, run
from robustness.measure import answers
from robustness.measure.answers import draw_probe_images, identify, is_close, sketch_answers, sketch_logits
from robustness.measure.foreign import ForeignClassifier, wrap_model
from robustness.measure.loaders.loaded import Loaded, Wanted

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
    """Answers of 200 models, changed as by another device (1e-6) and by another model (5e-3 of the range)."""
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


@pytest.mark.parametrize("logit", [-np.inf, -1e9])
def test_a_class_that_is_ruled_out_hides_no_other_answers(logit):
    """A range of 10⁹ would make all models alike."""
    first, second = LOGITS.copy(), LOGITS[::-1].copy()
    first[:, 2:5] = second[:, 2:5] = logit
    assert answers.NO_ANSWER not in {identify(sketch_logits(first)), identify(sketch_logits(second))}
    assert not is_close(sketch_logits(first), sketch_logits(second))
    network = wrap_model("m", lambda images: torch.from_numpy(first), Wanted(num_classes=10))
    assert sketch_answers(network, None, (32, 32), CPU) == sketch_logits(first.astype(np.float32).astype(np.float64))


def test_answers_of_two_values_are_told_apart():
    """Two classes share the largest logit in every image, and no class is ruled out."""
    first, second = np.zeros((8, 10)), np.zeros((8, 10))
    first[:, :2] = second[:, 3:5] = 1
    assert identify(sketch_logits(first)) != identify(sketch_logits(second))


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


@pytest.fixture
def hidden(tmp_path) -> list[str]:
    """The words of a run of a model whose weights only its own code sees, in ``weights.pt``."""
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
    words = ["--suite", "demo", "--models", f"{tmp_path / 'hidden.py'}:build", "--corruptions", "contrast"]
    words += ["--severities", "1"]
    return [*words, "--n", "10", "--selection", "none", "--out", str(tmp_path / "run")]


def test_a_file_that_changes_is_measured_anew(hidden, tmp_path):
    """98 % said the first file, and so it stayed whatever was in it: the state dict holds nothing."""
    words = [*hidden, "--shard", "1/1"]
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


def test_the_numbers_of_the_file_before_are_gone_once_the_changed_one_is_begun(
    hidden, tmp_path, monkeypatch, without_figures
):
    """Both have the same keys; a run that broke off showed the earlier numbers as the new file's."""
    weight = torch.randn(10, 3, generator=torch.Generator().manual_seed(0))
    torch.save(weight, tmp_path / "weights.pt")
    assert run.main(hidden) == 0
    keys = {cell["key"] for cell in json.loads((tmp_path / "run" / "run.json").read_text())["cells"]}
    torch.save(weight * torch.tensor([1.002, 1, 1]), tmp_path / "weights.pt")

    def break_off(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("robustness.measure.measurement.LocalExecutor.execute", break_off)
        with pytest.raises(KeyboardInterrupt):
            run.main(hidden)
    found = open_run(tmp_path / "run")
    assert found.missing == dict.fromkeys(keys, "not measured yet")
    assert run.main(hidden) == 0
    assert not open_run(tmp_path / "run").missing
