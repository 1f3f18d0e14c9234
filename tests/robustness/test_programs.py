"""Whole models in a file: TorchScript and programs of torch.export."""

from __future__ import annotations

import pytest
import torch
from small_models import IMAGES, OPTIONS, Tiny, make, quiet

from data_prep.errors import InputError, PrerequisiteError
from robustness.measure.foreign import load_foreign, wrap_model
from robustness.measure.loaders.loaded import Wanted
from robustness.measure.subjects import load_subject


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
