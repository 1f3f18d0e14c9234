"""Feature inversion: exact where mathematics says so, refused where nothing leads back."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from data_prep.errors import InputError
from sdnet_core import Network, build_model
from sdnet_core.inversion import explain_limit, invert_codes, invert_norm, invertible_layers, record_codes

ALL_18 = ["input_layer", *(f"layer{s}.{b}.conv{c}" for s in range(1, 5) for b in range(2) for c in (1, 2))]


def make_chain(**options: object) -> Network:
    torch.manual_seed(0)
    model = build_model("sdnet18_all", shortcut=False, **{"width": 4, **options}).double()
    model(torch.rand(4, 3, model.config.image_size, model.config.image_size, dtype=torch.float64))
    return model.eval()


def test_batch_norm_is_inverted_exactly_with_its_epsilon():
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(5, eps=0.3).double().eval()
    for value in (norm.weight.data, norm.bias.data, norm.running_mean):
        value.normal_()
    norm.running_var.uniform_(0.0, 2.0)
    x = torch.randn(2, 5, 3, 4, dtype=torch.float64)
    torch.testing.assert_close(invert_norm(norm, norm(x)), x, atol=1e-12, rtol=1e-12)
    norm.weight.data[2] = 0.0
    assert (invert_norm(norm, norm(x))[:, 2] == norm.running_mean[2]).all(), "nothing of x is left but its mean"


def test_the_records_are_the_forward_pass_and_leave_nothing_behind():
    model, images = make_chain(), torch.rand(2, 3, 32, 32, dtype=torch.float64)
    records = record_codes(model, images, 0.3)
    assert [record.name for record in records] == ALL_18 == invertible_layers(model)
    assert torch.equal(records[0].code, model.encode(images, 0.3))
    assert torch.equal(records[1].signal, model.input_norm(records[0].code))
    assert torch.equal(records[2].code, model.layer1[0].conv2(records[2].signal))
    assert not any(layer._forward_hooks for layer in model.sparse_layers())
    assert (records[0].sparsity() == (records[0].code == 0).double().mean((1, 2, 3))).all()


def test_one_layer_inverts_to_its_synthesis():
    model, images = make_chain(), torch.rand(2, 3, 32, 32, dtype=torch.float64)
    records = record_codes(model, images)
    torch.testing.assert_close(invert_codes(model, records[:1]), model.reconstruct(images, records[0].code))


@pytest.mark.parametrize("image_size", [33, 72])
def test_inversion_undoes_the_layers_one_by_one(image_size):
    """x̂ = A₁ BN₁⁻¹(A₂ … z), by hand, over strides, odd sizes and the ImageNet stem's layer without BatchNorm."""
    model = make_chain(image_size=image_size, width=2)
    images = torch.rand(2, 3, image_size, image_size, dtype=torch.float64)
    records = record_codes(model, images)
    norms = {"input_layer": model.input_norm, "layer1.0.conv1": model.layer1[0].bn1}
    estimate = records[-1].code
    for number in reversed(range(len(records))):
        signal = records[number].layer.synthesis(estimate, records[number].signal)
        if number:
            before = records[number - 1].name
            norm = norms.get(before) or (None if before == "second_layer" else _norm_of(model, before))
            estimate = signal if norm is None else invert_norm(norm, signal)
    torch.testing.assert_close(invert_codes(model, records), model.normalise.inverse(signal))


def _norm_of(model: Network, layer: str) -> nn.BatchNorm2d:
    stage, block, conv = layer.split(".")
    return getattr(getattr(model, stage)[int(block)], f"bn{conv[-1]}")


def make_tight_frames(model: Network) -> None:
    """Dictionaries of shifted identities: [I, −I] at the input (A Aᵀ = 2I), I in the first stage; BatchNorms shift."""
    layers = [model.input_layer, *(conv for block in model.layer1 for conv in (block.conv1, block.conv2))]
    for layer in layers:
        layer.weight.data.zero_()
    eye = torch.eye(3, dtype=torch.float64)
    layers[0].weight.data[:, :, 1, 1] = torch.cat([eye, -eye])
    for layer in layers[1:]:
        layer.weight.data[:, :, 1, 1] = torch.eye(6, dtype=torch.float64)
    for norm in (model.input_norm, *(norm for block in model.layer1 for norm in (block.bn1, block.bn2))):
        norm.weight.data.uniform_(0.5, 2.0)
        norm.running_var.uniform_(0.5, 2.0)
        norm.running_mean.zero_()
        norm.bias.data.zero_()
    model.refresh()


@pytest.mark.parametrize("n_steps", [1, 2])
def test_tight_frames_reconstruct_the_image_but_for_the_step_size(n_steps):
    """λ = 0: K steps with s = 0.9/L leave (1 − 0.9)ᴷ of a layer's input at A Aᵀ = L·I, here L = 2 with z ≥ 0 and L = 1.

    The input layer halves the gain of a step (only one of ±e answers), so its codes return 1 − 0.55ᴷ of the image; each
    further layer 1 − 0.1ᴷ of that. The error grows from layer to layer.
    """
    model = make_chain(width=6, lam=0.0, n_steps=n_steps)
    make_tight_frames(model)
    images = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    x, records = model.normalise(images), record_codes(model, images)
    for depth in range(5):
        kept = (1 - 0.55**n_steps) * (1 - 0.1**n_steps) ** depth
        reconstructed = model.normalise(invert_codes(model, records[: depth + 1]))
        torch.testing.assert_close(reconstructed, kept * x, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(records[0].misfit(), torch.full((2,), 0.55 ** (2 * n_steps)).double(), rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    ("arch", "options", "invertible", "reason"),
    [
        ("sdnet18", {}, ALL_18[:1], "end at input_layer: behind it are convolutions with ReLU"),
        ("sdnet18_all", {}, ALL_18[:3], r"end at layer1\.0\.conv2: a block adds its shortcut"),
        ("sdnet18_all", {"image_size": 72}, ["input_layer", "second_layer", *ALL_18[1:3]], "adds its shortcut"),
    ],
)
def test_what_does_not_lead_back_is_refused_with_the_reason(arch, options, invertible, reason):
    model = build_model(arch, width=2, **options).eval()
    records = record_codes(model, torch.rand(1, 3, model.config.image_size, model.config.image_size))
    assert invertible_layers(model) == invertible
    assert invert_codes(model, records[: len(invertible)]).isfinite().all()
    if len(records) > len(invertible):
        with pytest.raises(InputError, match=reason):
            invert_codes(model, records)
    assert explain_limit(model) is not None
    assert explain_limit(make_chain()) is None


def test_a_network_without_sparse_code_is_refused():
    with pytest.raises(InputError, match="expected a network with a sparse code, got resnet18"):
        record_codes(build_model("resnet18", width=2).eval(), torch.rand(1, 3, 32, 32))
