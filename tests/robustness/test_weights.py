"""Weights of models from elsewhere: files that hold them, their fingerprint, and files that do not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from small_models import BUILDER, IMAGES, OPTIONS, make
from torch import Tensor, nn

from data_prep.errors import InputError, PrerequisiteError
from robustness.measure.foreign import load_foreign, wrap_model
from robustness.measure.loaders.loaded import Wanted
from robustness.measure.subjects import load_subject
from sdnet_core import weights_fingerprint


def test_weights_that_hold_no_numbers_are_named():
    with pytest.raises(
        InputError, match=r"expected weights in m, got none behind 1\.weight, which is on the device meta"
    ):
        wrap_model("m", nn.Sequential(nn.Flatten(), nn.Linear(192, 10, device="meta")), Wanted(num_classes=10))


class Counting(nn.Linear):
    """Keeps what is no tensor in its state dict."""

    def get_extra_state(self) -> object:
        return {"version": 3, "table": [torch.ones(2), None, b"x", torch.float16], "object": object()}

    def set_extra_state(self, state: object) -> None:
        pass


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
def test_weights_that_are_no_plain_tensors_have_a_fingerprint():
    def build(scale: float) -> nn.Module:
        model = make()
        model.linear.weight.data *= scale
        return torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)

    assert weights_fingerprint(build(1)) == weights_fingerprint(build(1)) != weights_fingerprint(build(2))
    assert load_subject(build(1), **OPTIONS).network(IMAGES).shape == (4, 10)
    torch.manual_seed(0)
    counting = Counting(2, 2)
    assert weights_fingerprint(counting) == weights_fingerprint(counting)
    plain = nn.Linear(2, 2)
    plain.load_state_dict({name: it for name, it in counting.state_dict().items() if isinstance(it, Tensor)})
    assert weights_fingerprint(plain) != weights_fingerprint(counting)


def save_checkpoint(path: Path, model: nn.Module, form: str) -> Path:
    state = model.state_dict()
    if form == "safetensors":
        save_file(state, path := path.with_suffix(".safetensors"))
    elif form == "prefixed":
        torch.save({"epoch": 3, "state_dict": {f"module.{name}": value for name, value in state.items()}}, path)
    else:
        torch.save(state, path)
    return path


@pytest.mark.parametrize("form", ["bare", "prefixed", "safetensors"])
def test_weights_from_a_file_go_into_what_a_function_builds(write, tmp_path, form):
    code = write("mymodel.py", BUILDER)
    trained = nn.Sequential(nn.Flatten(), nn.Linear(192, 10))
    path = save_checkpoint(tmp_path / "weights.pth", trained, form)
    subject = load_subject(f"{code}:bare@{path}", **OPTIONS)
    torch.testing.assert_close(subject.network(IMAGES), trained(IMAGES))
    assert subject.name == f"mymodel.py:bare@{path.name}"
    assert str(tmp_path) not in str(subject.identity())
    wrapped = load_subject(f"{code}:wrapped@{path}", **OPTIONS)
    torch.testing.assert_close(wrapped.network(IMAGES), trained((IMAGES - 0.5) / 0.25))


def test_weights_of_ones_own_training_go_into_an_architecture_of_torchvision(tmp_path):
    from torchvision import models

    torch.manual_seed(0)
    trained = models.squeezenet1_1(num_classes=7).eval()
    path = save_checkpoint(tmp_path / "best.pth", trained, "prefixed")
    model = load_foreign(f"torchvision:squeezenet1_1@{path}", Wanted(num_classes=7))
    images = torch.rand(2, 3, 64, 64)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    torch.testing.assert_close(model(images), trained((images - mean.view(3, 1, 1)) / std.view(3, 1, 1)))
    assert "normalised by mean 0.485, 0.456, 0.406" in model.notes[0]
    assert model.origin.startswith("torchvision:squeezenet1_1@best.pth (torchvision ")
    with pytest.raises(
        InputError, match=r"expected weights of torchvision:squeezenet1_1 for 10 classes .*, got weights for 7"
    ):
        load_foreign(f"torchvision:squeezenet1_1@{path}", Wanted(num_classes=10))
    with pytest.raises(InputError, match=r"expected the weights of torchvision:alexnet in .*best.pth, got: missing"):
        load_foreign(f"torchvision:alexnet@{path}", Wanted(num_classes=7))


def test_weights_of_ones_own_training_go_into_an_architecture_of_timm(tmp_path):
    timm = pytest.importorskip("timm")
    trained = timm.create_model("mobilenetv3_small_050", num_classes=7).eval()
    path = save_checkpoint(tmp_path / "best.pth", trained, "safetensors")
    model = load_foreign(f"timm:mobilenetv3_small_050@{path}", Wanted(num_classes=7))
    torch.testing.assert_close(model.model(IMAGES), trained(IMAGES))


@pytest.mark.parametrize("given", ["torchvision:resnet18", "timm:resnet18"])
def test_the_number_of_classes_is_looked_at_before_weights_are_fetched(given, monkeypatch):
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("weights are being fetched"))
    with pytest.raises(InputError, match=f"{given}, which has 1000"):
        load_foreign(given, Wanted(num_classes=10))


class Hidden:
    """Something that only pickle can store."""


DAMAGED: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut.pth": (
        lambda path: (torch.save(make().state_dict(), path), path.write_bytes(path.read_bytes()[:900])),
        "expected a file of torch.save or safetensors, got .*, which is truncated",
    ),
    "page.pth": (lambda path: path.write_text("\n<!DOCTYPE html><html>404"), "got .*, an HTML page; download"),
    "pointer.pth": (
        lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\n"),
        "a pointer of Git LFS",
    ),
    "empty.pth": (lambda path: path.write_bytes(b""), "got an empty file; download it again"),
    "cut.safetensors": (lambda path: path.write_bytes(b"\xff" * 40), r"truncated, damaged or another file"),
    "text.pth": (lambda path: path.write_text("weights"), r"truncated, damaged or another file"),
    "whole.pth": (lambda path: torch.save(make(), path), "reading them would run code; save the weights with"),
    "hidden.pth": (lambda path: torch.save({"state_dict": Hidden()}, path), "got objects of Python"),
    "odd.pth": (
        lambda path: torch.save({"epoch": 3}, path),
        "expected a state dict in .*, got the keys epoch; save the weights",
    ),
    "list.pth": (lambda path: torch.save([torch.ones(1)], path), "got no dictionary; save"),
    "other.pth": (
        lambda path: torch.save(make(width=5).state_dict(), path),
        "expected the weights of .*, got: missing",
    ),
    "net-1a2b3c4d.pth": (
        lambda path: torch.save(make().state_dict(), path),
        "expected a SHA-256 that begins with 1a2b3c4d, .*, got",
    ),
    "nan.pth": (
        lambda path: torch.save({"1.weight": torch.full((10, 192), torch.nan), "1.bias": torch.ones(10)}, path),
        "expected finite weights in .*, got others in 1.weight",
    ),
    "few.pth": (
        lambda path: torch.save({"1.weight": torch.ones(3, 192), "1.bias": torch.ones(3)}, path),
        "expected weights of .*:bare for 10 classes .*, got weights for 3; choose",
    ),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_files_that_do_not_hold_the_weights_are_named_with_the_reason(write, tmp_path, name):
    spoil, message = DAMAGED[name]
    spoil(tmp_path / name)
    with pytest.raises(InputError, match=message) as raised:
        load_foreign(f"{write('m.py', BUILDER)}:bare@{tmp_path / name}", Wanted(num_classes=10))
    assert str(tmp_path / name) in str(raised.value)


def test_a_name_that_ends_in_a_date_is_no_hash(write, tmp_path):
    path = save_checkpoint(tmp_path / "net-20260131.pth", nn.Sequential(nn.Flatten(), nn.Linear(192, 10)), "bare")
    load_foreign(f"{write('m.py', BUILDER)}:bare@{path}", Wanted(num_classes=10))
    with pytest.raises(PrerequisiteError, match=r"got .*gone\.pth, which is not there; check the path"):
        load_foreign(f"{write('m.py', BUILDER)}:bare@{tmp_path / 'gone.pth'}", Wanted(num_classes=10))
