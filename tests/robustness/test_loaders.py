"""Models as people have them: functions, files of weights, programs; and what is said of those that cannot be used."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from data_prep.errors import InputError, PrerequisiteError
from robustness.measure.foreign import ForeignClassifier, load_foreign, runs_code, wrap_model
from robustness.measure.loaders.loaded import Wanted
from robustness.measure.subjects import load_subject, load_subjects, name_of
from sdnet_core import Network, load_model, weights_fingerprint

CPU = torch.device("cpu")
IMAGES = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
WANTED = Wanted(num_classes=10, image_size=(8, 8))
OPTIONS = {"wanted": WANTED, "device": CPU}


class Tiny(nn.Module):
    """A convolution, a BatchNorm and a linear layer; ``lam`` is taken off the images."""

    def __init__(self, classes: int = 10, width: int = 4) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, width, 3), nn.BatchNorm2d(width)
        self.linear, self.lam = nn.Linear(width, classes), 0.25

    def forward(self, images: Tensor, lam: float) -> Tensor:
        return self.linear(self.norm(self.convolution(images - lam)).relu().mean((2, 3)))


class Plain(nn.Module):
    """As :class:`Tiny`, without a knob."""

    def __init__(self, classes: int = 10, width: int = 4) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, width, 3), nn.BatchNorm2d(width)
        self.linear = nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.linear(self.norm(self.convolution(images)).relu().mean((2, 3)))


def make(kind: type[nn.Module] = Plain, **options: int) -> nn.Module:
    torch.manual_seed(0)
    return kind(**options).eval()


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """``write("name.py", source)``: a file in a folder of its own."""

    def make_file(name: str, source: str, folder: str = "code") -> Path:
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / name).write_text(source)
        return tmp_path / folder / name

    return make_file


NET = """
import torch
from torch import nn

def build():
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 10))
"""


def test_a_function_of_a_file_is_found_by_its_path_and_finds_what_lies_beside_it(write):
    """Two folders may hold files of the same names; a function that seeds nothing builds the same network again."""
    for folder, scale in (("one", 1), ("two", 2)):
        write("net.py", f"SCALE = {scale}", folder)
        source = "from net import SCALE\n" + NET.replace("Flatten()", "Flatten(), nn.Hardtanh(0, SCALE / 4)")
        path = write("mymodel.py", source, folder)
        subject = load_subject(f"{path}:build", **OPTIONS)
        assert subject.name == "mymodel.py:build"
        assert subject.network.model[1].max_val == scale / 4
        again = load_subject(f"{path}:build", **OPTIONS)
        assert again.identity() == subject.identity(), "its random weights are the same, so that it can be resumed"
    assert str(path.parent) not in sys.path


def test_code_of_a_user_changes_nothing_for_others_while_it_is_loaded(write, capsys, tmp_path):
    path = write(
        "rude.py",
        "import argparse, os, sys, torch\n"
        "argparse.ArgumentParser().parse_args()\n"
        "print('loading λ…')\n"
        + NET.replace(
            "    return",
            "    os.chdir('/'); torch.set_default_dtype(torch.float64)\n"
            "    torch.set_grad_enabled(False); torch.manual_seed(5); print('building')\n    return",
        ),
    )
    before, state = os.getcwd(), torch.get_rng_state()  # noqa: PTH109
    subject = load_subject(f"{path}:build", **OPTIONS)
    assert os.getcwd() == before  # noqa: PTH109
    assert torch.get_default_dtype() == torch.float32
    assert torch.is_grad_enabled()
    assert torch.equal(torch.get_rng_state(), state)
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "loading λ…\nbuilding\n"
    assert subject.network(IMAGES).dtype == torch.float32
    assert subject.network.dtype == torch.float64


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import sys\nsys.exit(0)", r"its import fails, as it ends the process \(sys.exit\(0\)"),
        (
            "import argparse\np = argparse.ArgumentParser()\np.add_argument('--x', required=True)\np.parse_args()",
            "ends the",
        ),
        (
            "def build():\n    raise SystemExit('done')",
            r"m.py:build fails, as it ends the process \(sys.exit\('done'\)",
        ),
        ("import nowhere_to_be_found", "m.py imports nowhere_to_be_found, which is not installed"),
        ("1 / 0", "its import fails with ZeroDivisionError"),
        ("def build(:", "its import fails with SyntaxError"),
        ("def bild():\n    pass", "\\(bild\\), got 'build'; choose"),
        ("def build():\n    return 3", r"to return a torch.nn.Module or a function, got int"),
        ("def build(path):\n    pass", "to be callable without arguments, got"),
    ],
)
def test_code_that_makes_no_model_is_told_from_a_model(write, source, message):
    with pytest.raises((InputError, PrerequisiteError), match=message):
        load_foreign(f"{write('m.py', source)}:build", Wanted(num_classes=10))


def test_a_file_without_a_function_is_answered_with_its_functions(write):
    path = write("mymodel.py", NET + "\ndef other(x):\n    pass\n\ndef small(width=4):\n    pass\n")
    with pytest.raises(InputError, match=r"\(build, small\), got the file alone; name it, .*mymodel\.py:FUNCTION"):
        load_foreign(str(path), Wanted(num_classes=10))
    with pytest.raises(PrerequisiteError, match=r"expected a file of functions, got .*gone\.py"):
        load_foreign(str(path.with_name("gone.py")) + ":build", Wanted(num_classes=10))


def test_a_network_of_this_project_that_a_function_returns_is_that_network(write):
    """Its ``forward`` takes ``lam``, of a ResNet too."""
    source = "from sdnet_core import load_model\ndef build():\n    return load_model('{}')\n"
    for name in ("resnet18-shapes", "sdnet18-shapes"):
        subject = load_subject(
            f"{write(f'{name[:3]}.py', source.format(name))}:build", Wanted(num_classes=10), device=CPU
        )
        assert isinstance(subject.network, Network)
        assert subject.lam == load_model(name).lam
        assert subject.fingerprint == weights_fingerprint(load_model(name))


def test_a_function_makes_a_model_too_and_objects_are_measured_as_they_are():
    weight = torch.randn(10, 192, generator=torch.Generator().manual_seed(0))
    subject = load_subject(lambda images: images.flatten(1) @ weight.T, name="mine", **OPTIONS)
    torch.testing.assert_close(subject.network(IMAGES), IMAGES.flatten(1) @ weight.T)
    assert subject.name == "mine"
    assert load_subject(make(), **OPTIONS).name == "Plain"
    names = [subject.name for subject in load_subjects({"a": make(), "b": make()}, **OPTIONS)]
    assert names == ["a", "b"]
    with pytest.raises(InputError, match=r"expected three as a torch.nn.Module or a function, got int"):
        wrap_model("three", 3, Wanted(num_classes=10))


@pytest.mark.parametrize("wrap", [nn.DataParallel, lambda it: nn.DataParallel(torch.compile(it))])
def test_a_knob_inside_a_wrapper_is_a_knob(wrap):
    bare, wrapped = (wrap_model("m", it, Wanted(num_classes=10)) for it in (make(Tiny), wrap(make(Tiny))))
    assert wrapped.lam == 0.25
    torch.testing.assert_close(wrapped(IMAGES, lam=0.5), bare(IMAGES, lam=0.5))
    assert weights_fingerprint(wrapped) == weights_fingerprint(bare)


@pytest.mark.parametrize("lam", [None, "none", -1.0, float("nan"), True])
def test_a_knob_has_a_value_of_training_or_is_none(lam):
    model = make(Tiny)
    model.lam = lam
    if lam is None:
        model.forward = lambda images, lam=None: Tiny.forward(model, images, 0.0)  # type: ignore[method-assign]
        assert not wrap_model("m", model, Wanted(num_classes=10)).has_lam
    else:
        with pytest.raises(InputError, match="a finite number ≥ 0, or None for a model without λ, got"):
            wrap_model("m", model, Wanted(num_classes=10))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_model_computes_in_the_type_of_its_weights_and_is_seen_in_float32(dtype):
    expected = make()(IMAGES)
    model = wrap_model("m", make().to(dtype), Wanted(num_classes=10))
    logits = model(images := IMAGES.clone().requires_grad_())
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, expected, atol=2e-2, rtol=0)
    assert torch.equal(logits, model.model(IMAGES.to(dtype)).float())
    (gradient,) = torch.autograd.grad(logits.sum(), images)
    assert gradient.dtype == torch.float32
    assert gradient.abs().sum() > 0


class Output:
    def __init__(self, logits: Tensor) -> None:
        self.loss, self.logits = None, logits


@pytest.mark.parametrize(
    "dress",
    [
        Output,
        lambda logits: {"loss": logits.sum(), "logits": logits},
        lambda logits: {"features": logits[:, :3], "out": logits},
        lambda logits: (logits, logits[:, :3]),
        lambda logits: [logits.sum(), logits],
        lambda logits: logits[:, :, None, None],
        lambda logits: logits.detach().numpy(),
    ],
)
def test_logits_are_found_in_what_a_model_answers(dress):
    model = make()
    torch.testing.assert_close(
        wrap_model("m", lambda images: dress(model(images)), Wanted(num_classes=10))(IMAGES), model(IMAGES)
    )


@pytest.mark.parametrize(
    ("dress", "message"),
    [
        (
            lambda logits: (0 * logits, logits),
            r"got 2 tensors \(N, 10\) from the model, of which any may be the logits",
        ),
        (lambda logits: {"a": logits, "b": -logits}, r"got 2 tensors .*; return them alone"),
        (lambda logits: logits.to(torch.complex64), "got complex numbers"),
        (lambda logits: (logits.to(torch.complex64),), "got complex numbers"),
        (lambda logits: {"a": logits[:, :3]}, r"expected logits \(N, 10\), got dict with a from"),
        (lambda logits: (logits[:, :3], 5), r"got tuple with \(4, 3\), int from the model"),
        (lambda logits: None, "got NoneType from"),
        (lambda logits: "cat", "got str from"),
    ],
)
def test_answers_without_logits_are_described(dress, message):
    model = make()
    with pytest.raises(InputError, match=message):
        wrap_model("m", lambda images: dress(model(images)), Wanted(num_classes=10))(IMAGES)


def test_layers_without_a_size_get_it_from_the_data_and_are_said_to_be_random():
    lazy = nn.Sequential(nn.Flatten(), nn.LazyLinear(10))
    subject = load_subject(lazy, **OPTIONS)
    assert subject.network.model[1].weight.shape == (10, 192)
    assert "their weights are random" in subject.network.notes[0]
    with pytest.raises(InputError, match="call it once before you hand it over, or give image_size"):
        wrap_model("m", nn.Sequential(nn.Flatten(), nn.LazyLinear(10)), Wanted(num_classes=10))


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


BUILDER = """
from torch import nn

class Wrapped(nn.Module):
    def __init__(self):
        super().__init__()
        self.network = nn.Sequential(nn.Flatten(), nn.Linear(192, 10))

    def forward(self, images):
        return self.network((images - 0.5) / 0.25)

def bare():
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 10))

def wrapped():
    return Wrapped()
"""


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
    with pytest.raises(InputError, match=f"{given}, which tells 1000 apart"):
        load_foreign(given, Wanted(num_classes=10))


class Hidden:
    """Something that only pickle can store."""


DAMAGED: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut.pth": (
        lambda path: (torch.save(make().state_dict(), path), path.write_bytes(path.read_bytes()[:900])),
        "expected a file of torch.save or safetensors, got .*, truncated",
    ),
    "page.pth": (lambda path: path.write_text("\n<!DOCTYPE html><html>404"), "got .*, an HTML page; download"),
    "pointer.pth": (
        lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\n"),
        "a pointer of Git LFS",
    ),
    "empty.pth": (lambda path: path.write_bytes(b""), "got an empty file; download it again"),
    "cut.safetensors": (lambda path: path.write_bytes(b"\xff" * 40), r"truncated, damaged or another"),
    "text.pth": (lambda path: path.write_text("weights"), r"truncated, damaged or another"),
    "whole.pth": (lambda path: torch.save(make(), path), "to read them would run code; save the weights"),
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


def quiet(function: Callable[[], object]) -> object:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function()


@pytest.mark.parametrize("form", ["script", "trace", "freeze"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_torchscript_is_measured_as_an_object_and_from_a_file(tmp_path, form, dtype):
    model = make().to(dtype)
    expected = model(IMAGES.to(dtype)).float()
    if form == "trace":
        program = quiet(lambda: torch.jit.trace(model, IMAGES.to(dtype)))
    else:
        program = quiet(lambda: torch.jit.script(model))
        program = quiet(lambda: torch.jit.freeze(program)) if form == "freeze" else program
    quiet(lambda: program.save(tmp_path / "net.pt"))
    for given in (program, str(tmp_path / "net.pt")):
        subject = load_subject(given, name="net", **OPTIONS)
        assert not subject.network.has_lam
        assert subject.network.dtype == dtype
        torch.testing.assert_close(subject.network(IMAGES), expected)
    others = make(width=5)
    quiet(lambda: torch.jit.freeze(torch.jit.script(others)).save(tmp_path / "other.pt"))
    assert load_subject(str(tmp_path / "other.pt"), name="net", **OPTIONS).identity() != subject.identity()


def test_a_knob_of_torchscript_is_a_knob(tmp_path):
    program = quiet(lambda: torch.jit.script(make(Tiny)))
    quiet(lambda: program.save(tmp_path / "net.pt"))
    subject = load_subject(str(tmp_path / "net.pt"), **OPTIONS)
    assert (subject.name, subject.lam) == ("net.pt", 0.25)
    torch.testing.assert_close(subject.network(IMAGES, lam=0.5), make(Tiny)(IMAGES, 0.5))


@pytest.mark.parametrize("batch", [None, 3])
def test_a_program_of_torch_export_is_measured_as_an_object_and_from_a_file(tmp_path, batch):
    """Recorded for any number of images or for three."""
    shapes = None if batch else ({0: torch.export.Dim("n")},)
    program = quiet(lambda: torch.export.export(make(), (IMAGES[: batch or 4],), dynamic_shapes=shapes))
    quiet(lambda: torch.export.save(program, tmp_path / "net.pt2"))
    expected = make()(IMAGES)
    subject = load_subject(str(tmp_path / "net.pt2"), **OPTIONS)
    torch.testing.assert_close(subject.network(IMAGES), expected)
    assert subject.network.input_size == (8, 8)
    if batch is None:
        model = wrap_model("net", program.module(), Wanted(num_classes=10))
        torch.testing.assert_close(model(images := IMAGES.clone().requires_grad_()), expected)
        assert torch.autograd.grad(model(images).sum(), images)[0].abs().sum() > 0
    with pytest.raises(InputError, match=r"images of 8 × 8 pixels, for which .*net.pt2 was recorded, got 9 × 9"):
        load_foreign(str(tmp_path / "net.pt2"), Wanted(num_classes=10, image_size=(9, 9)))


def test_files_that_hold_no_whole_model_are_answered_with_the_way_to_measure_them(tmp_path):
    torch.save(make().state_dict(), tmp_path / "w.pth")
    with pytest.raises(
        InputError,
        match=r"expected a whole model in .*w.pth, got weights alone, .*torchvision:NAME@.*w.pth, timm:N.*function@",
    ):
        load_foreign(str(tmp_path / "w.pth"), Wanted(num_classes=10))
    (tmp_path / "net.keras").write_bytes(b"PK")
    with pytest.raises(InputError, match="a model of Keras; export it as ONNX"):
        load_foreign(str(tmp_path / "net.keras"), Wanted(num_classes=10))
    for suffix in ("pt", "pt2", "onnx"):
        with pytest.raises(PrerequisiteError, match=f"expected the file of a model, got .*gone.{suffix}"):
            load_foreign(str(tmp_path / f"gone.{suffix}"), Wanted(num_classes=10))


def test_two_files_of_one_name_are_told_apart_by_their_folders(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        quiet(lambda folder=folder: torch.jit.script(make()).save(tmp_path / folder / "net.pt"))
    paths = [str(tmp_path / folder / "net.pt") for folder in ("a", "b")]
    assert [subject.name for subject in load_subjects(paths, **OPTIONS)] == ["a/net.pt", "b/net.pt"]
    assert load_subjects(paths[:1], **OPTIONS)[0].name == "net.pt"
    with pytest.raises(
        InputError, match=r"expected models of different names, got two called .*; leave one of them out"
    ):
        load_subjects([paths[0], paths[0]], **OPTIONS)


def test_models_are_named_by_their_files_and_not_by_where_those_lie(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for given, name, longer in (
        ("resnet18-shapes", "resnet18-shapes", "resnet18-shapes"),
        ("x/a.safetensors", "a", "x/a"),
        ("x/y/model.safetensors", "y", "x/y"),
        ("x/net.onnx", "net.onnx", "x/net.onnx"),
        ("x/y/model.pt", "y/model.pt", "y/model.pt"),
        ("pkg.mod:build", "pkg.mod:build", "pkg.mod:build"),
        ("x/m.py:build", "m.py:build", "x/m.py:build"),
        ("x/m.py:build@r/w.pth", "m.py:build@w.pth", "m.py:build@r/w.pth"),
        ("torchvision:resnet18@r/w.pth", "torchvision:resnet18@w.pth", "torchvision:resnet18@r/w.pth"),
        ("robustbench:Standard@L2", "robustbench:Standard@L2", "robustbench:Standard@L2"),
        ("hf:x/tiny", "hf:tiny", "hf:x/tiny"),
    ):
        assert name_of(given) == name
        assert name_of(given, 1) == longer


def test_images_are_enlarged_for_a_model_after_whatever_was_done_to_them():
    """Gradients come back in the size of the data, and the identity says so."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 10))
    subject = load_subject(model, replace(WANTED, enlarge_to=16), device=CPU)
    large = nn.functional.interpolate(IMAGES, (16, 16), mode="bilinear", antialias=True)
    torch.testing.assert_close(subject.network(IMAGES), model(large))
    images = IMAGES.clone().requires_grad_()
    assert torch.autograd.grad(subject.network(images).sum(), images)[0].shape == IMAGES.shape
    assert subject.identity()["enlarged_to"] == 16
    assert "enlarged_to" not in load_subject(make(), **OPTIONS).identity()
    wide = wrap_model(
        "m", lambda images: images.flatten(1)[:, : images.shape[3]], Wanted(num_classes=24, enlarge_to=12)
    )
    assert wide(torch.rand(2, 3, 8, 16)).shape == (2, 24)
    lazy = load_subject(nn.Sequential(nn.Flatten(), nn.LazyLinear(10)), replace(WANTED, enlarge_to=16), device=CPU)
    assert lazy.network.model[1].in_features == 768


def test_a_model_of_a_file_travels_with_its_code(write, monkeypatch):
    """To a machine that has neither the file nor what lies beside it."""
    cloudpickle = pytest.importorskip("ray.cloudpickle", reason="Ray is not installed: pip install ray")
    from robustness.measure.loaders.functions import list_own_modules
    from robustness.measure.ray_executor import send_own_modules

    write("part.py", "from torch import nn\n\nclass Part(nn.Linear):\n    pass\n")
    path = write("travels.py", "from part import Part\n" + BUILDER.replace("nn.Linear", "Part"))
    network = load_subject(f"{path}:wrapped", **OPTIONS).network
    send_own_modules()
    sent = cloudpickle.dumps(network)
    for name in list_own_modules():
        monkeypatch.delitem(sys.modules, name)
    torch.testing.assert_close(cloudpickle.loads(sent)(IMAGES), network(IMAGES))


@pytest.mark.parametrize("given", ["m:f", "a/m.py:f", "m.py:f@w.pth", "net.pt", "net.pt2", "net.pth"])
def test_programs_run_code_and_weights_do_not(given):
    assert runs_code(given)
    for other in (
        "torchvision:resnet18@w.pth",
        "timm:a@w.pth",
        "hf:folder",
        "net.onnx",
        "a.safetensors",
        "resnet18-shapes",
    ):
        assert not runs_code(other)


def test_what_was_loaded_can_be_sent_to_another_process():
    import pickle

    model = wrap_model("m", make(), Wanted(num_classes=10))
    again = pickle.loads(pickle.dumps(model))
    assert isinstance(again, ForeignClassifier)
    torch.testing.assert_close(again(IMAGES), model(IMAGES))


class Around(nn.Module):
    """Hands on no λ."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.inner = model

    def forward(self, images: Tensor) -> Tensor:
        return self.inner(images, 0.25)


def test_a_knob_that_the_model_hides_is_named() -> None:
    hidden = [Around(make(Tiny)), nn.Sequential(Around(make(Tiny))), functools.partial(make(Tiny), lam=0.25)]
    for model, part in zip(hidden, ("inner", "0.inner", "Tiny"), strict=True):
        (note,) = wrap_model("mine", model, Wanted(num_classes=10)).notes
        assert f"mine: its part {part} takes lam and the model itself does not, so that λ is not varied" in note
    assert wrap_model("mine", Around(make()), Wanted(num_classes=10)).notes == ()
    assert wrap_model("mine", make(Tiny), Wanted(num_classes=10)).notes == ()
