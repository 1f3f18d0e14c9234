"""Training: recipes, augmentation, resumption."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest
import torch

from data_prep.errors import InputError
from sdnet_core import load_model, read_card, weights_fingerprint
from sdnet_core.augment import crop_and_flip, to_images
from sdnet_core.recipes import read_recipe, shipped_recipes
from sdnet_core.train import main

TINY = ["--recipe", "shapes-sdnet18", "--set", "data=tiny", "--set", "model.width=2", "--set", "batch_size=50"]
TINY += ["--set", "epochs=8", "--threads", "1", "--device", "cpu"]


@pytest.mark.parametrize("name", shipped_recipes())
def test_shipped_recipes_are_valid(name):
    recipe = read_recipe(name)
    assert recipe.description
    assert recipe.learning_rate(recipe.epochs) == pytest.approx(recipe.min_lr, abs=1e-9)


def test_the_papers_recipe():
    recipe = read_recipe("cifar10-sdnet18")
    assert (recipe.epochs, recipe.batch_size, recipe.lr, recipe.min_lr) == (220, 128, 0.1, 1e-6)
    assert (recipe.momentum, recipe.nesterov, recipe.weight_decay) == (0.9, True, 5e-4)
    assert (recipe.crop_padding, recipe.flip, recipe.label_smoothing) == (4, True, 0.0)
    assert recipe.learning_rate(0) == 0.1
    assert recipe.learning_rate(110) == pytest.approx(0.05, abs=1e-6)


def test_warmup_is_linear():
    recipe = read_recipe("cifar10-sdnet18-small")
    assert recipe.learning_rate(1) == pytest.approx(recipe.lr / 2)
    assert recipe.learning_rate(2) == pytest.approx(recipe.lr)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("epochs=0", "epochs ≥ 1"),
        ("epochs=many", "epochs must be int"),
        ("epochs", "key=value"),
        ("epoch=3", "unknown key epoch"),
        ("lr=nan", "lr must be a finite number"),
    ],
)
def test_bad_overrides_are_refused(override, message):
    with pytest.raises(InputError, match=message):
        read_recipe("shapes-sdnet18", [override])


def test_crops_are_windows_of_the_padded_image_and_half_are_mirrored():
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(1, 256, (400, 6, 6, 3), dtype=torch.uint8, generator=generator)
    out = crop_and_flip(pixels, padding=1, flip=True, generator=generator)
    padded = torch.nn.functional.pad(pixels, (0, 0, 1, 1, 1, 1))
    windows = torch.stack([padded[:, t : t + 6, left : left + 6] for t in range(3) for left in range(3)])
    plain = (windows == out).flatten(2).all(2)
    mirrored = (windows.flip(3) == out).flatten(2).all(2)
    assert (plain | mirrored).any(0).all()
    assert 150 < mirrored.any(0).sum() < 250
    assert (plain | mirrored).any(1).all(), "every offset occurs"


def test_no_padding_and_no_flip_is_the_identity():
    pixels = torch.randint(0, 256, (3, 5, 5, 3), dtype=torch.uint8)
    assert torch.equal(crop_and_flip(pixels, padding=0, flip=False, generator=torch.Generator()), pixels)
    images = to_images(pixels)
    assert images.shape == (3, 3, 5, 5)
    assert float(images.max()) == pytest.approx(int(pixels.max()) / 255)


def test_a_killed_training_goes_on_to_the_same_model(tmp_path, import_shapes):
    """SIGKILL after an epoch; the resumed run ends with the weights of the uninterrupted one."""
    options = [*TINY, "--data-dir", str(import_shapes("tiny", train=200, test=20))]
    whole = tmp_path / "whole"
    assert main([*options, "--out", str(whole)]) == 0
    killed = tmp_path / "killed"
    command = [sys.executable, "-m", "sdnet_core.train", *options, "--out", str(killed)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while not (killed / "state.pt").exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (killed / "model.safetensors").exists(), "the kill came too late to show anything"
    assert main([*options, "--out", str(killed)]) == 0
    models = [load_model(folder / "model.safetensors") for folder in (whole, killed)]
    assert weights_fingerprint(models[0]) == weights_fingerprint(models[1])

    card = read_card(whole / "model.safetensors")
    assert card.record["weights"] == weights_fingerprint(models[0])
    assert card.accuracy["n"] == 20
    assert card.recipe["epochs"] == 8
    assert card.config.lam == 0.1
    assert (whole / "curves.png").exists()
    assert (whole / "log.csv").read_text().count("\n") == 9
    with pytest.raises(InputError, match="another recipe, seed or precision"):
        main([*options, "--seed", "1", "--out", str(whole)])


def test_fine_tuning_starts_from_the_given_weights(tmp_path, import_shapes):
    options = [*TINY, "--set", "epochs=1", "--set", "lr=1e-9", "--set", "warmup_epochs=0", "--set", "weight_decay=0.0"]
    options += ["--data-dir", str(import_shapes("tiny", train=50, test=20))]
    main([*options, "--out", str(tmp_path / "first")])
    first = tmp_path / "first" / "model.safetensors"
    main([*options, "--init", str(first), "--seed", "1", "--out", str(tmp_path / "second")])
    second = tmp_path / "second" / "model.safetensors"
    torch.testing.assert_close(load_model(second).linear.weight, load_model(first).linear.weight, atol=1e-5, rtol=0)
    assert read_card(second).record["init_weights"] == weights_fingerprint(load_model(first))
    with pytest.raises(InputError, match="the recipe asks for"):
        main([*options, "--set", "model.lam=0.2", "--init", str(first), "--out", str(tmp_path / "third")])
