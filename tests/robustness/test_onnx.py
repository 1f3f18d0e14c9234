"""Models of ONNX: with gradients where two runtimes agree on them, without gradients otherwise."""

from __future__ import annotations

import pickle
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from data_prep.errors import InputError, PrerequisiteError
from robustness.attack import Attack
from robustness.measure.attacker import check_attacks
from robustness.measure.foreign import load_foreign
from robustness.measure.loaders.loaded import Wanted
from robustness.measure.subjects import load_subject

onnx = pytest.importorskip("onnx", reason="ONNX is not installed: pip install '.[models]'")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install '.[models]'")
pytest.importorskip("onnx2torch", reason="onnx2torch is not installed: pip install '.[models]'")

IMAGES = torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(0))
OPTIONS: dict[str, Any] = {"wanted": Wanted(num_classes=10, image_size=(8, 8)), "device": torch.device("cpu")}


class Net(nn.Module):
    """``last``: takes images (N, H, W, 3)."""

    def __init__(self, *, last: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convolution, self.norm, self.linear = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 10)
        self.last = last
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        x = images.permute(0, 3, 1, 2) if self.last else images
        return self.linear(self.norm(self.convolution(x)).relu().mean((2, 3)))


def export(model: nn.Module, path: Path, images: Tensor, *, free: tuple[int, ...] = (0, 2, 3)) -> Path:
    with warnings.catch_warnings(action="ignore"):
        axes = {"x": {axis: f"axis{axis}" for axis in free}, "y": {0: "axis0"} if 0 in free else {}}
        names: dict[str, Any] = {"input_names": ["x"], "output_names": ["y"]}
        torch.onnx.export(model, (images,), path, dynamo=False, dynamic_axes=axes, **names)
    return path


def write_graph(path: Path, operation: str, element: int = onnx.TensorProto.FLOAT) -> Path:
    """Flatten, an operation without weights, and a product with fixed weights."""
    weight = onnx.numpy_helper.from_array(torch.linspace(-1, 1, 30).reshape(3, 10).numpy(), "w")
    nodes = [
        onnx.helper.make_node(operation, ["x"], ["pooled"]),
        onnx.helper.make_node("Flatten", ["pooled"], ["flat"]),
        onnx.helper.make_node("MatMul", ["flat", "w"], ["y"]),
    ]
    shapes = ("x", element, ["n", 3, "h", "w"]), ("y", element, ["n", 10])
    given, answer = (onnx.helper.make_tensor_value_info(*shape) for shape in shapes)
    graph = onnx.helper.make_graph(nodes, "g", [given], [answer], [weight])
    content = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(content.SerializeToString())
    return path


def test_a_model_that_can_be_converted_has_gradients(tmp_path):
    model = Net()
    subject = load_subject(str(export(model, tmp_path / "net.onnx", IMAGES)), **OPTIONS)
    assert (subject.name, subject.network.differentiable, subject.network.notes) == ("net.onnx", True, ())
    logits = subject.network(images := IMAGES.clone().requires_grad_())
    torch.testing.assert_close(logits, model(IMAGES), rtol=1e-4, atol=1e-5)
    own = IMAGES.clone().requires_grad_()
    (expected,) = torch.autograd.grad(model(own).sum(), own)
    (gradient,) = torch.autograd.grad(logits.sum(), images)
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-6)
    assert subject.network.origin == "net.onnx (ONNX)"


def test_a_fixed_number_of_images_is_no_limit_and_a_fixed_size_is_one(tmp_path):
    path = export(Net(), tmp_path / "net.onnx", IMAGES[:2], free=())
    model = load_foreign(str(path), Wanted(num_classes=10, image_size=(8, 8)))
    torch.testing.assert_close(model(IMAGES), Net()(IMAGES), rtol=1e-4, atol=1e-5)
    assert model.input_size == (8, 8)
    with pytest.raises(InputError, match=r"images of 8 × 8 pixels, for which .*net.onnx was recorded, got 9 × 8"):
        load_foreign(str(path), Wanted(num_classes=10, image_size=(9, 8)))


def test_channels_may_come_last(tmp_path):
    path = export(Net(last=True), tmp_path / "net.onnx", IMAGES.permute(0, 2, 3, 1), free=(0, 1, 2))
    model = load_foreign(str(path), Wanted(num_classes=10, image_size=(8, 8)))
    torch.testing.assert_close(model(IMAGES), Net()(IMAGES), rtol=1e-4, atol=1e-5)


def test_what_cannot_be_converted_is_run_and_attacked_without_gradients(tmp_path):
    path = write_graph(tmp_path / "net.onnx", "GlobalLpPool")
    subject = load_subject(str(path), **OPTIONS)
    expected = IMAGES.square().sum((2, 3)).sqrt() @ torch.linspace(-1, 1, 30).reshape(3, 10)
    torch.testing.assert_close(subject.network(IMAGES), expected, rtol=1e-4, atol=1e-4)
    (note,) = subject.network.notes
    assert "runs in onnxruntime, on the processor and without gradients (onnx2torch cannot convert it" in note
    square = Attack(name="autoattack", norm="linf", eps=0.1, version="custom", parts=("square",))
    check_attacks([square, Attack(name="Square", norm="linf", eps=0.1)], [subject], probed=False)
    for attack in (Attack(name="pgd", norm="linf", eps=0.1), Attack(name="autoattack", norm="linf", eps=0.1)):
        with pytest.raises(InputError, match=r"net.onnx has no gradients, which .* needs; .*Square"):
            check_attacks([attack], [subject], probed=False)
    again = pickle.loads(pickle.dumps(subject.network))
    torch.testing.assert_close(again(IMAGES), expected, rtol=1e-4, atol=1e-4)


def test_a_conversion_that_answers_otherwise_is_not_believed(tmp_path, monkeypatch):
    path = export(Net(), tmp_path / "net.onnx", IMAGES)
    other = Net()
    other.linear.bias.data[3] += 0.1
    monkeypatch.setattr("onnx2torch.convert", lambda _: other)
    model = load_foreign(str(path), Wanted(num_classes=10))
    assert "what onnx2torch makes of it answers otherwise than onnxruntime" in model.notes[0]
    torch.testing.assert_close(model(IMAGES), Net()(IMAGES), rtol=1e-4, atol=1e-5)


def test_other_weights_make_another_identity_beside_the_file_too(tmp_path):
    """In the file, and in data beside it."""
    identities = []
    for name, scale in (("one", 1.0), ("two", 2.0), ("three", 1.0)):
        (tmp_path / name).mkdir()
        model = Net()
        model.linear.weight.data *= scale
        path = export(model, tmp_path / name / "net.onnx", IMAGES)
        onnx.save_model(onnx.load(path), str(path), save_as_external_data=True, location="net.data", size_threshold=0)
        assert path.with_name("net.data").is_file()
        identities.append(load_subject(str(path), **OPTIONS).identity())
    assert identities[0] != identities[1]
    assert identities[0] == identities[2]


def test_files_that_are_none_and_inputs_that_are_no_images_are_refused(tmp_path):
    path = export(Net(), tmp_path / "net.onnx", IMAGES)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(InputError, match=r"expected a whole ONNX file, got .*net.onnx, truncated or damaged"):
        load_foreign(str(path), Wanted(num_classes=10))
    bytes_in = write_graph(tmp_path / "bytes.onnx", "Identity", onnx.TensorProto.INT64)
    with pytest.raises(InputError, match=r"bytes.onnx(, which takes x tensor\(int64\); export| cannot be run)"):
        load_foreign(str(bytes_in), Wanted(num_classes=10))
    double = export(Net().double(), tmp_path / "double.onnx", IMAGES.double())
    with pytest.raises(InputError, match=r"double.onnx cannot be run by onnxruntime.*; export it in float32"):
        load_foreign(str(double), Wanted(num_classes=10))


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_a_package_that_is_missing_is_named_with_the_extra(tmp_path, monkeypatch, package):
    path = write_graph(tmp_path / "net.onnx", "GlobalAveragePool")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(PrerequisiteError, match=rf"needs the package {package} .*, pip install '.\[models"):
        load_foreign(str(path), Wanted(num_classes=10))


def test_without_onnx2torch_a_model_runs_in_onnxruntime(tmp_path, monkeypatch):
    path = write_graph(tmp_path / "net.onnx", "GlobalAveragePool")
    monkeypatch.setitem(sys.modules, "onnx2torch", None)
    model = load_foreign(str(path), Wanted(num_classes=10))
    assert "the package onnx2torch is not installed; in the project's folder, pip install" in model.notes[0]
