"""Models as people wrap them: knobs, types, sizes, and the logits in what they answer."""

from __future__ import annotations

import functools
from dataclasses import replace

import pytest
import torch
from small_models import CPU, IMAGES, OPTIONS, WANTED, Tiny, make
from torch import Tensor, nn

from data_prep.errors import InputError
from robustness.measure.foreign import ForeignClassifier, wrap_model
from robustness.measure.loaders.loaded import Wanted
from robustness.measure.subjects import load_subject
from sdnet_core import weights_fingerprint


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
        lambda logits: logits.to_sparse(),
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


def test_what_was_loaded_can_be_sent_to_another_process():
    import pickle

    model = wrap_model("m", make(), Wanted(num_classes=10))
    again = pickle.loads(pickle.dumps(model))
    assert isinstance(again, ForeignClassifier)
    torch.testing.assert_close(again(IMAGES), model(IMAGES))
