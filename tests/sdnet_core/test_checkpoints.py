"""Checkpoints: round trips, every official key layout, and what is refused."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from data_prep.errors import InputError, PrerequisiteError, run_command
from sdnet_core import (
    CSCConv2d,
    ModelCard,
    Network,
    build_model,
    import_official,
    load_model,
    read_card,
    save_model,
    weights_fingerprint,
)
from sdnet_core.__main__ import main


def make_model(arch: str = "sdnet18", **options: object) -> Network:
    """A small network with non-trivial BatchNorm statistics, in eval mode."""
    torch.manual_seed(0)
    model = build_model(arch, width=2, **options)
    model.train()
    model(torch.rand(4, 3, model.config.image_size, model.config.image_size))
    return model.eval()


def save(model: Network, path: Path, **card: object) -> Path:
    save_model(model, path, ModelCard(name="m", config=model.config, **card))
    return path


@pytest.mark.parametrize("arch", ["sdnet18", "resnet18", "sdnet18_all"])
def test_a_saved_model_answers_as_before(arch, tmp_path):
    model, images = make_model(arch, mean=(0.1, 0.2, 0.3), lam=0.2), torch.rand(2, 3, 32, 32)
    path = save(model, tmp_path / "m.safetensors", accuracy={"correct": 9, "n": 10})
    loaded = load_model(path)
    torch.testing.assert_close(loaded(images), model(images), atol=1e-4, rtol=1e-4)
    assert weights_fingerprint(loaded) == weights_fingerprint(load_model(path))
    assert read_card(path).accuracy == {"correct": 9, "n": 10}
    assert loaded.config == model.config
    assert not loaded.training


def test_a_wider_dictionary_is_stored_and_older_cards_have_one_of_the_networks_width(tmp_path):
    model, images = make_model(n_dict=3), torch.rand(2, 3, 32, 32)
    loaded = load_model(save(model, tmp_path / "m.safetensors"))
    assert loaded.config.n_dict == 3
    torch.testing.assert_close(loaded(images), model(images), atol=1e-4, rtol=1e-4)
    card = ModelCard(name="m", config=make_model().config)
    older = json.loads(card.to_json())
    del older["config"]["n_dict"]
    assert ModelCard.from_json(json.dumps(older)) == card


def test_step_sizes_are_converged_once_for_each_layer(tmp_path, monkeypatch):
    """At construction, and at loading for the loaded weights only."""
    converged = []
    plain = CSCConv2d.refresh
    monkeypatch.setattr(CSCConv2d, "refresh", lambda layer: (converged.append(layer), plain(layer))[1])
    model = make_model("sdnet18_all")
    assert converged == list(model.sparse_layers())
    converged.clear()
    loaded = load_model(save(model, tmp_path / "m.safetensors"))
    assert converged == list(loaded.sparse_layers())
    for layer, other in zip(loaded.sparse_layers(), model.sparse_layers(), strict=True):
        torch.testing.assert_close(layer.step, other.step, rtol=1e-4, atol=0)


def test_half_precision_storage_stays_close(tmp_path):
    model, images = make_model(), torch.rand(2, 3, 32, 32)
    save_model(model, tmp_path / "m.safetensors", ModelCard(name="m", config=model.config), half=True)
    torch.testing.assert_close(load_model(tmp_path / "m.safetensors")(images), model(images), atol=0.02, rtol=0.02)


def test_fingerprint_sees_a_single_changed_weight():
    model = make_model()
    before = weights_fingerprint(model)
    with torch.no_grad():
        model.linear.weight[0, 0] += 1e-3
    assert weights_fingerprint(model) != before


def to_official(model: Network, *, old: bool = False, prefix: str = "") -> dict[str, torch.Tensor]:
    """The state dict as the reference implementation names it, atoms scaled to show that they are normalised."""
    sparse_blocks = model.config.arch.endswith("_all")
    official = {}
    for name, value in model.state_dict().items():
        if name.startswith("normalise."):
            continue
        is_csc = name == "input_layer.weight" or name == "second_layer.weight" or ".conv" in name
        is_csc = is_csc and (model.has_lam if name == "input_layer.weight" else sparse_blocks)
        new = re.sub(r"^input_norm\.", "layer0.1.", name)
        new = re.sub(r"^input_layer\.", "layer0.0.", new)
        new = re.sub(r"^second_layer\.", "layer0.2.", new)
        if sparse_blocks:
            new = re.sub(r"^(layer[1-4])\.", r"\1.layers.", new)
        if is_csc:
            new = new.replace(".weight", ".dn.weight")
            value = 3.0 * value
            extra = "running_c_loss" if old else "step_size"
            official[prefix + new.replace("weight", extra)] = torch.tensor(0.5)
        official[prefix + new] = value
    return official


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize(
    ("arch", "options"),
    [
        ("sdnet18", {}),
        ("sdnet34", {}),
        ("resnet18", {}),
        ("sdnet18", {"image_size": 96}),
        ("sdnet18_all", {}),
        ("sdnet18_all", {"shortcut": False}),
        ("sdnet18_all", {"image_size": 96}),
    ],
)
def test_official_layouts_are_imported(arch, options, old, prefix):
    model = make_model(arch, **options)
    size = model.config.image_size
    imported = import_official(to_official(model, old=old, prefix=prefix), arch, image_size=size, width=2)
    images = torch.rand(2, 3, size, size)
    torch.testing.assert_close(imported(images), model(images), atol=1e-4, rtol=1e-4)
    assert imported.config.shortcut == model.config.shortcut


def test_the_whole_training_checkpoint_is_accepted_and_converted(tmp_path):
    model = build_model("sdnet18", num_classes=10)
    state = to_official(model)
    source, target = tmp_path / "c.pth.tar", tmp_path / "c.safetensors"
    torch.save({"epoch": 3, "state_dict": state, "perf": 95.3, "optimizer": {}, "lr_scheduler": {}}, source)
    assert main(["convert", str(source), "--arch", "sdnet18", "--out", str(target)]) == 0
    images = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(load_model(target)(images), model.eval()(images), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("linear.bias"), r"missing linear\.bias"),
        (lambda s: s.update(extra=torch.zeros(1)), "unexpected extra"),
        (lambda s: s.update({"linear.bias": torch.zeros(3)}), r"linear\.bias has shape \(3,\) instead of \(10,\)"),
        (lambda s: s.update({"linear.bias": torch.full((10,), torch.nan)}), "expected finite weights"),
        (lambda s: s["layer0.0.dn.weight"].zero_(), "the official checkpoint: expected atoms of finite norms"),
    ],
)
def test_weights_that_do_not_fit_are_named(change, message):
    state = to_official(make_model())
    change(state)
    with pytest.raises(InputError, match=message):
        import_official(state, "sdnet18", width=2)


def test_truncated_foreign_and_missing_files_are_refused(tmp_path):
    path = save(make_model(), tmp_path / "m.safetensors")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"truncated or damaged one .*; download"):
        load_model(path)
    save_file({"a": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    with pytest.raises(InputError, match=r"expected a \.safetensors file with a model card, .* without one; give"):
        load_model(tmp_path / "foreign.safetensors")
    (tmp_path / "m.pth.tar").write_bytes(b"x")
    with pytest.raises(InputError, match="convert an official SDNet checkpoint with `python -m sdnet_core convert"):
        load_model(tmp_path / "m.pth.tar")
    with pytest.raises(PrerequisiteError, match=r"or a shipped model .*, got 'no-such-model'"):
        load_model("no-such-model")


def test_an_untrained_model_is_made_from_its_seed_and_says_so(tmp_path):
    state = torch.random.get_rng_state()

    def init(name: str, *options: str) -> Path:
        path = tmp_path / f"{name}.safetensors"
        assert main(["init", "--arch", "sdnet18", "--width", "2", *options, "--out", str(path)]) == 0
        return path

    first, same, other = init("first"), init("same"), init("other", "--seed", "1")
    assert torch.equal(torch.random.get_rng_state(), state)
    assert read_card(first).record == {"untrained": True, "seed": 0}
    assert weights_fingerprint(load_model(first)) == weights_fingerprint(load_model(same))
    assert weights_fingerprint(load_model(first)) != weights_fingerprint(load_model(other))
    large = load_model(init("large", "--dataset", "imagenet"))
    logits = large(torch.rand(1, 3, 224, 224))
    assert logits.shape == (1, 1000)
    assert torch.isfinite(logits).all()
    with pytest.raises(InputError, match="expected --width from 1 to 1024, got 0"):
        main(["init", "--arch", "sdnet18", "--width", "0", "--out", str(tmp_path / "x.safetensors")])


def test_an_out_that_is_something_else_is_refused_and_stays(tmp_path, capsys):
    """No device, folder or other file is replaced."""
    thesis, fifo, folder = tmp_path / "thesis.tex", tmp_path / "fifo.safetensors", tmp_path / "folder.safetensors"
    thesis.write_text("x")
    os.mkfifo(fifo)
    folder.mkdir()
    (tmp_path / "link.safetensors").symlink_to(fifo)
    before = sorted(path.lstat().st_ino for path in tmp_path.iterdir())
    words = ["init", "--arch", "resnet18", "--width", "2"]
    for out in (thesis, fifo, folder, tmp_path / "link.safetensors", tmp_path / ("a" * 300 + ".safetensors")):
        for command in (words, ["convert", str(thesis), "--arch", "sdnet18"]):
            assert run_command(lambda: main([*command, "--out", str(out)])) == 2  # noqa: B023
            assert re.search(r"choose another --out|File name too long", capsys.readouterr().err)
    assert sorted(path.lstat().st_ino for path in tmp_path.iterdir()) == before
    for option in ("--width", "--seed"):
        for value in ("-1", str(10**20)):
            words_now = [*words, f"{option}={value}", "--out", str(tmp_path / "new.safetensors")]
            assert run_command(lambda: main(words_now)) == 2  # noqa: B023
            assert f"error: expected {option} " in capsys.readouterr().err
