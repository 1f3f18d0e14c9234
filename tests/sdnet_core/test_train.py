"""Training: recipes, augmentation, resumption."""

from __future__ import annotations

import math
import re
import shutil
import signal
import subprocess
import sys
import time

import msgspec
import numpy as np
import pytest
import torch
from PIL import Image

from data_prep import load_images
from data_prep.errors import EXIT_BAD_INPUT, InputError, run_command
from data_prep.files import locked
from data_prep.importing import import_tree
from sdnet_core import load_model, read_card, weights_fingerprint
from sdnet_core.augment import crop_and_flip, resize, to_images
from sdnet_core.checkpoints import build_model
from sdnet_core.recipes import read_recipe, shipped_recipes
from sdnet_core.train import main
from sdnet_core.training_state import MovingAverage

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
        ("epochs=many", "expected epochs as a whole number, got 'many'"),
        ("epochs", "key=value"),
        ("epoch=3", "expected keys among name, data, .*, got epoch$"),
        ("lr=nan", "expected a finite lr > 0, got nan; give such a value"),
        ("lr=inf", "expected a finite lr > 0, got inf; give such a value"),
        ("lr=-0.1", "expected a finite lr > 0, got -0.1; give such a value"),
        ("min_lr=-1", "expected a finite min_lr ≥ 0, got -1.0; give such a value"),
        ("min_lr=nan", "expected a finite min_lr ≥ 0, got nan; give such a value"),
        ("warmup_epochs=-1", "expected finite warmup_epochs ≥ 0, got -1.0; give such a value"),
        ("warmup_epochs=inf", "expected finite warmup_epochs ≥ 0, got inf; give such a value"),
        ("weight_decay=-1", "expected a finite weight_decay ≥ 0, got -1.0; give such a value"),
        ("momentum=0", "expected momentum > 0 for .*, got 0; for plain SGD also give nesterov=false"),
        ("ema_decay=1", "expected 0 ≤ ema_decay < 1, got 1.0; give such a value"),
        ("image_sizes=[4]", "expected image_sizes from 8 to 2048 pixels, got 4"),
        ("image_sizes=[8, 3000]", "expected image_sizes from 8 to 2048 pixels, got 8, 3000"),
        ("image_sizes=32", "expected image_sizes as a list"),
        (
            "image_sizes=[9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9]",
            "expected at least as many epochs as image_sizes, 21, got 12;",
        ),
        ("crop_padding=1000000000000", "crop_padding ≤ 2048"),
        ("name=../elsewhere", "the name of a recipe, which names a folder"),
        ("model.num_classes=5", "come from the data set\\), got 'num_classes'; rename"),
        ("model.image_size=64", "got 'image_size'; rename"),
        ("model.depth=3", "expected keys among arch, width, .*, got 'depth'; rename"),
        ("model.width=wide", "the model of recipe shapes-sdnet18: expected width as a whole number, got 'wide'"),
        ("model.width=1025", "expected width of at most 1024, got 1025; give a smaller"),
        ("model.n_dict=1000000000000000000", "expected n_dict of at most 64"),
        ('model.mean=["a",1,1]', r"expected mean\[0\] as a number, got 'a'"),
        ("model.std=[1,1]", "expected mean and std of three values each"),
        ("model.lam=-0.1", "the model of recipe shapes-sdnet18: expected a finite λ ≥ 0, got -0.1; give such a number"),
        ("model.mu=-1", "expected a finite μ ≥ 0, got -1.0; give such a number"),
        ("model.n_steps=0", "expected at least 1 FISTA step K, got 0; give a larger"),
        (
            "model.arch=sdnet19",
            "the model of recipe shapes-sdnet18: expected an architecture .*, got 'sdnet19'; choose one",
        ),
    ],
)
def test_bad_overrides_are_refused(override, message):
    with pytest.raises(InputError, match=message):
        read_recipe("shapes-sdnet18", [override])


def test_a_recipe_without_an_architecture_is_refused(tmp_path):
    (tmp_path / "bare.toml").write_text('data = "shapes"\nmodel = {}\n')
    with pytest.raises(InputError, match="the model of recipe bare: expected the key `arch`, got none"):
        read_recipe(str(tmp_path / "bare.toml"))


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0])
@pytest.mark.parametrize("name", ["lr", "min_lr", "warmup_epochs", "weight_decay"])
def test_a_recipe_made_in_python_is_checked_too(name, value):
    with pytest.raises(InputError, match=f"expected .*{name}.*, got .*; give such a value"):
        msgspec.structs.replace(read_recipe("shapes-sdnet18"), **{name: value})


def test_plain_sgd_has_to_be_asked_for():
    recipe = read_recipe("shapes-sdnet18", ["momentum=0", "nesterov=false"])
    assert (recipe.momentum, recipe.nesterov) == (0, False)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--threads", "-1"], "expected --threads as a whole number from 1 to 1024, got -1"),
        (["--threads", "0"], "expected --threads as a whole number from 1 to 1024, got 0"),
        (["--threads", "3000000000"], "expected --threads as"),
        (["--set", "batch_size=20000"], "expected batch_size of at most .*, the images of shapes"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_the_work(words, message, tmp_path, capsys):
    options = ["--recipe", "shapes-sdnet18", "--device", "cpu", "--out", str(tmp_path / "out"), *words]
    assert run_command(lambda: main(options)) == EXIT_BAD_INPUT
    (line,) = capsys.readouterr().err.splitlines()
    assert re.match(f"error: {message}", line)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("out", ["file", "file/out", "link", "unwritable/out"])
def test_an_out_that_cannot_be_written_is_refused_before_the_work(out, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    (tmp_path / "unwritable").mkdir()
    monkeypatch.setattr("os.access", lambda path, mode: path.name != "unwritable")  # root may write everywhere
    monkeypatch.setattr("sdnet_core.training.train", lambda *_: pytest.fail("the work began"))
    with pytest.raises(InputError, match=r"expected a folder.*, got .*(file|link|unwritable).*; choose another --out"):
        main(["--recipe", "shapes-sdnet18", "--device", "cpu", "--out", str(tmp_path / out)])


def test_two_trainings_do_not_write_to_one_folder(tmp_path, import_shapes):
    words = [*TINY, "--data-dir", str(import_shapes("tiny", train=100, test=20)), "--out", str(tmp_path)]
    with locked(tmp_path / ".lock"), pytest.raises(InputError, match=r"another training is writing to .*; wait"):
        main(words)


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


def test_progressive_sizes_share_the_epochs_equally():
    recipe = read_recipe("shapes-sdnet18", ["epochs=8", "image_sizes=[20, 24, 28, 32]"])
    assert [recipe.image_size(epoch) for epoch in range(8)] == [20, 20, 24, 24, 28, 28, 32, 32]
    assert read_recipe("shapes-sdnet18").image_size(0) is None


def test_resizing_keeps_the_mean_of_a_ramp_and_leaves_its_own_size_alone():
    ramp = torch.linspace(0, 1, 32).expand(2, 3, 32, 32)
    small = resize(ramp, 16)
    assert small.shape == (2, 3, 16, 16)
    torch.testing.assert_close(small.mean(), ramp.mean())
    inner = (ramp[..., 0::2] + ramp[..., 1::2])[..., 0:32:2, 1:-1] / 2  # a triangle of 4 pixels is symmetric
    torch.testing.assert_close(small[..., 1:-1], inner)
    assert resize(ramp, None) is ramp
    assert resize(ramp, 32) is ramp


def test_the_moving_average_of_a_constant_step_is_geometric():
    """After n steps from 0 to models that hold 1: θ̄ = 1 − dⁿ, of weights and BatchNorm statistics alike."""
    model = build_model("sdnet18", width=2)
    average = MovingAverage(model, 0.75)
    for tensor in average.model.state_dict().values():
        tensor.zero_()
    for tensor in model.state_dict().values():
        tensor.fill_(1)
    for _ in range(3):
        average.update(model)
    for tensor in average.model.state_dict().values():
        expected = 1 - 0.75**3 if tensor.is_floating_point() else 1
        assert torch.equal(tensor, torch.full_like(tensor, expected))


def test_newer_keys_leave_older_trainings_as_they_are():
    recipe = read_recipe("shapes-sdnet18")
    assert not {"image_sizes", "ema_decay"} & recipe.describe().keys()
    newer = read_recipe("shapes-sdnet18", ["image_sizes=[16, 32]", "ema_decay=0.9"]).describe()
    assert (newer["image_sizes"], newer["ema_decay"]) == ([16, 32], 0.9)


def test_a_killed_training_goes_on_to_the_same_model(tmp_path, import_shapes):
    """SIGKILL after an epoch; the resumed run ends with the weights of the uninterrupted one, averaged as they are."""
    options = [*TINY, "--set", "image_sizes=[16, 32]", "--set", "ema_decay=0.9"]
    options += ["--data-dir", str(import_shapes("tiny", train=200, test=20))]
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
    with pytest.raises(InputError, match=r"expected a training of this recipe, seed, precision, .* got another"):
        main([*options, "--seed", "1", "--out", str(whole)])


def test_a_training_killed_at_its_last_log_has_one_in_the_end(tmp_path, import_shapes, monkeypatch):
    """All epochs were done by then, so that none wrote a log any more."""
    words = [*TINY, "--set", "epochs=1", "--out", str(tmp_path / "out")]
    words += ["--data-dir", str(import_shapes("tiny", train=50, test=20))]

    def stop(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("sdnet_core.training.write_log", stop)
        with pytest.raises(KeyboardInterrupt):
            main(words)
    assert main(words) == 0
    assert (tmp_path / "out" / "log.csv").read_text().count("\n") == 2
    assert (tmp_path / "out" / "curves.png").is_file()


def test_an_averaged_network_has_the_batchnorm_statistics_of_its_own_activations(tmp_path, import_shapes):
    options = [*TINY, "--set", "epochs=2", "--set", "image_sizes=[16, 32]", "--set", "ema_decay=0.9"]
    options += ["--data-dir", str(import_shapes("tiny", train=50, test=20)), "--out", str(tmp_path / "averaged")]
    main(options)
    model = load_model(tmp_path / "averaged" / "model.safetensors").train()
    seen = {}
    for norm in (module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)):
        norm.register_forward_hook(lambda norm, given, _: seen.update({norm: given[0].detach()}))
    means = {norm: norm.running_mean.clone() for norm in model.modules() if isinstance(norm, torch.nn.BatchNorm2d)}
    model(to_images(torch.from_numpy(np.array(load_images("tiny", split="train", data_dir=options[-3]).pixels))))
    assert len(seen) > 10
    for norm, mean in means.items():
        torch.testing.assert_close(mean, seen[norm].mean((0, 2, 3)), rtol=1e-3, atol=1e-4)


def test_fine_tuning_starts_from_the_given_weights(tmp_path, import_shapes):
    options = [*TINY, "--set", "epochs=1", "--set", "lr=1e-9", "--set", "warmup_epochs=0", "--set", "weight_decay=0.0"]
    options += ["--data-dir", str(import_shapes("tiny", train=50, test=20))]
    main([*options, "--out", str(tmp_path / "first")])
    first = tmp_path / "first" / "model.safetensors"
    main([*options, "--init", str(first), "--seed", "1", "--out", str(tmp_path / "second")])
    second = tmp_path / "second" / "model.safetensors"
    torch.testing.assert_close(load_model(second).linear.weight, load_model(first).linear.weight, atol=1e-5, rtol=0)
    assert read_card(second).record["init_weights"] == weights_fingerprint(load_model(first))
    with pytest.raises(InputError, match="expected the network of the recipe in --init"):
        main([*options, "--set", "model.lam=0.2", "--init", str(first), "--out", str(tmp_path / "third")])


@pytest.fixture
def trained(tmp_path, import_shapes):
    """The options of a training of one epoch that was done, with the largest seed."""
    options = [*TINY, "--set", "epochs=1", "--seed", str(2**63 - 1), "--out", str(tmp_path / "out")]
    options += ["--data-dir", str(import_shapes("tiny", train=50, test=20))]
    assert main(options) == 0
    return options


def test_a_training_does_not_go_on_with_other_images(trained, tmp_path):
    """One training image and then one test image is another than before."""
    assert main(trained) == 0
    for split in ("train", "test"):
        image = next((tmp_path / "tree" / split).rglob("*.png"))
        before = image.read_bytes()
        Image.new("RGB", (32, 32)).save(image)
        import_tree(tmp_path / "tree", name="tiny", data_dir=tmp_path / "data", replace=True)
        with pytest.raises(InputError, match=r"images and version in .*, got another; .* --fresh"):
            main(trained)
        image.write_bytes(before)
    assert main([*trained, "--fresh"]) == 0


def test_another_start_in_the_file_of_the_first_one_is_noticed(trained, tmp_path):
    """The weights of ``--init`` count, not their path."""
    start, moved = tmp_path / "start.safetensors", tmp_path / "moved.safetensors"
    shutil.copy(tmp_path / "out" / "model.safetensors", start)
    tuned = [*trained[:-4], "--out", str(tmp_path / "tuned"), *trained[-2:]]
    assert main([*tuned, "--init", str(start)]) == 0
    shutil.copy(start, moved)
    assert main([*tuned, "--init", str(moved)]) == 0
    shutil.copy(tmp_path / "tuned" / "model.safetensors", start)
    with pytest.raises(InputError, match=r"training of this recipe, .* --init, .* got another"):
        main([*tuned, "--init", str(start)])


def test_a_fresh_start_that_is_refused_deletes_nothing(trained, tmp_path):
    state = tmp_path / "out" / "state.pt"
    for wrong in (["--set", "batch_size=51"], ["--init", "sdnet18-cifar10"]):
        with pytest.raises(InputError, match=r"expected batch_size of|expected the network of"):
            main([*trained, "--fresh", *wrong])
        assert state.exists()


def damage_cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def damage_one_bit(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize("damage", [damage_cut, damage_one_bit, lambda _: b"", lambda _: b"no archive"])
def test_a_damaged_state_is_refused_and_fresh_starts_again(damage, trained, tmp_path):
    state = tmp_path / "out" / "state.pt"
    state.write_bytes(damage(state.read_bytes()))
    with pytest.raises(InputError, match=r"state\.pt, got a damaged file .*; give --fresh to start again"):
        main(trained)
    assert main([*trained, "--fresh"]) == 0


@pytest.mark.parametrize("content", [torch.ones(2), {"identity": "", "model": {}}])
def test_a_state_that_no_training_wrote_is_refused(content, trained, tmp_path):
    torch.save(content, tmp_path / "out" / "state.pt")
    with pytest.raises(
        InputError, match=r"expected the state of a training in .*, got a damaged file or something else; give --fresh"
    ):
        main(trained)
