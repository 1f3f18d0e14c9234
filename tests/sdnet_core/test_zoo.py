"""The shipped models' list and cards, and the half-size form."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from data_prep.errors import EXIT_UNREAD, InputError, run_command
from data_prep.shapes import make_shapes
from sdnet_core import ModelCard, build_model, load_model, read_card, save_model, weights_fingerprint
from sdnet_core.__main__ import main
from sdnet_core.config import shipped_models
from sdnet_core.training import count_correct

CPU = torch.device("cpu")


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint whose card says what it gets right of 50 shapes."""
    images = make_shapes("test", n=50)
    monkeypatch.setattr("sdnet_core.zoo.load_images", lambda name, split, data_dir: images)
    torch.manual_seed(0)
    model = build_model("sdnet18", width=2).eval()
    accuracy = {"correct": count_correct(model, images, CPU), "n": 50, "data": "shapes"}
    accuracy |= {"fingerprint": images.fingerprint}
    card = ModelCard(name="m", config=model.config, recipe={"data": "shapes", "epochs": 3}, accuracy=accuracy)
    save_model(model, tmp_path / "model.safetensors", dataclasses.replace(card, record={"seed": 7}))
    return tmp_path / "model.safetensors"


def test_the_list_has_every_shipped_model(capsys):
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == list(shipped_models())


@pytest.mark.parametrize("name", shipped_models())
def test_a_shipped_model_is_the_one_that_its_card_describes(name):
    card, model = read_card(name), load_model(name)
    assert card.record["weights"] == weights_fingerprint(model)
    assert {"seed", "seconds", "hardware", "versions"} <= card.record.keys()
    assert card.accuracy["n"] >= 2000


def test_a_card_is_shown_with_interval_recipe_and_hash(trained, capsys):
    assert main(["show", str(trained)]) == 0
    shown = capsys.readouterr().out
    card = read_card(trained)
    assert f"{card.accuracy['correct'] / 50:.2%} [" in shown
    assert all(text in shown for text in ("of 50 shapes", "epochs 3", "seed 7", card.accuracy["fingerprint"]))


def test_half_size_weights_say_what_they_are_worth(trained, tmp_path, capsys):
    out = tmp_path / "half.safetensors"
    assert main(["halve", str(trained), "--out", str(out), "--device", "cpu"]) == 0
    assert "right" in capsys.readouterr().out
    assert out.stat().st_size < 0.6 * trained.stat().st_size
    card, model = read_card(out), load_model(out)
    assert card.record["weights"] == weights_fingerprint(model) != card.record["before_halving"]["weights"]
    assert card.accuracy["correct"] == count_correct(model, make_shapes("test", n=50), CPU)


def test_weights_that_suffer_from_halving_or_that_were_measured_elsewhere_are_refused(trained, tmp_path, monkeypatch):
    out = tmp_path / "half.safetensors"
    right = read_card(trained).accuracy["correct"]
    monkeypatch.setattr("sdnet_core.zoo.count_correct", lambda model, images, device: right + 1)
    with pytest.raises(InputError, match=r"within 0\.05 points, got"):
        main(["halve", str(trained), "--out", str(out), "--device", "cpu"])
    monkeypatch.setattr("sdnet_core.zoo.load_images", lambda name, split, data_dir: make_shapes("test", n=49))
    with pytest.raises(InputError, match=r"expected the test images that .* was measured on, got others"):
        main(["halve", str(trained), "--out", str(out), "--device", "cpu"])
    elsewhere, card = tmp_path / "elsewhere.safetensors", read_card(trained)
    save_model(load_model(trained), elsewhere, dataclasses.replace(card, accuracy={"correct": 1, "n": 50}))
    with pytest.raises(InputError, match="whose card lacks the recipe or the accuracy"):
        main(["halve", str(elsewhere), "--out", str(out), "--device", "cpu"])
    untrained = tmp_path / "untrained.safetensors"
    main(["init", "--arch", "sdnet18", "--width", "2", "--out", str(untrained)])
    with pytest.raises(InputError, match="whose card lacks the recipe"):
        main(["halve", str(untrained), "--out", str(out), "--device", "cpu"])
    assert not out.exists()


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"record": {"git": "x"}}, "model card: expected record.git as a table, got 'x'"),
        ({"record": {"hardware": ["x"]}}, "expected record.hardware as a table"),
        ({"recipe": {"data": 5}}, "expected recipe.data as text, got 5"),
        ({"accuracy": {"correct": 1, "n": 2, "fingerprint": None}}, "expected accuracy.fingerprint as text, got None"),
    ],
)
def test_a_card_with_parts_of_another_kind_is_refused(part, message, trained):
    save_model(load_model(trained), trained, dataclasses.replace(read_card(trained), **part))
    with pytest.raises(InputError, match=message):
        main(["show", str(trained)])


def test_output_that_nobody_reads_ends_the_command_without_a_word():
    command = [sys.executable, "-m", "sdnet_core", "list"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == EXIT_UNREAD


def test_another_broken_pipe_is_no_success():
    def lose_a_worker() -> int:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        run_command(lose_a_worker)
