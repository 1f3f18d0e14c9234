"""Networks: their sizes, what λ does to them, and that evaluation leaves no trace."""

from __future__ import annotations

import math

import pytest
import torch

from data_prep.errors import InputError
from sdnet_core import Network, build_model, weights_fingerprint
from sdnet_core.networks import ARCHITECTURES, NetworkConfig


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def count_parameters(arch: str, **options: object) -> int:
    """Trainable parameters; the step sizes are left unconverged, which changes no shape and saves a minute."""
    return sum(p.numel() for p in build_model(arch, converge=False, **options).parameters() if p.requires_grad)


@pytest.mark.parametrize(
    ("arch", "options", "expected"),
    [
        ("sdnet18", {}, 11_173_962),
        ("resnet18", {}, 11_173_962),
        ("sdnet18", {"num_classes": 100}, 11_220_132),
        ("sdnet18", {"num_classes": 1000, "image_size": 224}, 11_689_512),
        ("sdnet34", {}, 21_282_122),
        ("sdnet34", {"num_classes": 100}, 21_328_292),
        ("sdnet34", {"num_classes": 1000, "image_size": 224}, 21_797_672),
        ("sdnet18_all", {"shortcut": False}, 11_000_138),
        ("sdnet18_all", {"shortcut": False, "num_classes": 100}, 11_046_308),
        ("sdnet18_all", {"shortcut": False, "num_classes": 1000, "image_size": 224}, 11_552_552),
        ("sdnet18_all", {"num_classes": 1000, "image_size": 224}, 11_726_376),
    ],
)
def test_parameter_counts_are_the_published_ones(arch, options, expected):
    assert count_parameters(arch, **options) == expected


@pytest.mark.parametrize("depth", ["18", "34"])
@pytest.mark.parametrize("n_dict", [1, 2])
def test_sparse_layers_have_as_many_parameters_as_the_convolutions_they_replace(depth, n_dict):
    """At n_dict = 1, an -all network has the size of the ResNet; without shortcuts it lacks their projections.

    A wider dictionary adds its atoms, their BatchNorm, a wider first layer, and a projection where a shortcut was none.
    """
    sizes = {
        shortcut: count_parameters(f"sdnet{depth}_all", shortcut=shortcut, n_dict=n_dict) for shortcut in (True, False)
    }
    extra = (n_dict - 1) * 64
    projections = sum(i * o + 2 * o for i, o in ((64, 128), (128, 256), (256, 512)))
    first = extra * (3 * 9 + 2 + 64 * 9)
    resnet = count_parameters(f"resnet{depth}")
    assert sizes[False] == resnet - projections + first
    assert sizes[True] == resnet + first + (64 * 64 * n_dict + 2 * 64 if n_dict > 1 else 0)


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("image_size", [32, 33, 72])
def test_every_architecture_answers_on_both_stems_and_odd_sizes(arch, image_size):
    model = build_model(arch, width=2, num_classes=7, image_size=image_size).eval()
    assert model(torch.rand(2, 3, image_size, image_size)).shape == (2, 7)
    assert model.input_size == (image_size, image_size)


def make_sdnet(**options: object) -> Network:
    return build_model("sdnet18", width=4, **options).eval()


def test_lambda_changes_logits_and_sparsity_and_leaves_nothing_behind():
    """Trap 1: a sweep 0.1, 0.5, 0.1 gives the same first and third answer."""
    model, images = make_sdnet(), torch.rand(3, 3, 32, 32)
    first, second, third = (model(images, lam=lam) for lam in (0.1, 0.5, 0.1))
    assert torch.equal(first, third)
    assert not torch.allclose(first, second)
    sparsity = [(model.encode(images, lam) == 0).float().mean() for lam in (0.1, 0.5)]
    assert sparsity[0] < sparsity[1]
    assert torch.equal(model(images), first)


def test_answers_depend_on_no_other_batch():
    """Trap 2: alone, after many others, reversed, one by one; the state dict stays untouched."""
    model, images = make_sdnet(), torch.rand(6, 3, 32, 32)
    fingerprint = weights_fingerprint(model)
    alone = model(images)
    for _ in range(50):
        model(torch.rand(2, 3, 32, 32), lam=float(torch.rand(())))
    torch.testing.assert_close(model(images), alone, atol=1e-5, rtol=0)
    torch.testing.assert_close(model(images.flip(0)).flip(0), alone, atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.cat([model(image[None]) for image in images]), alone, atol=1e-5, rtol=0)
    assert weights_fingerprint(model) == fingerprint


def test_residual_at_one_lambda_ignores_the_others():
    """Trap 3: residual at λ₂ with and without λ₁ before it."""
    model, images = make_sdnet(), torch.rand(3, 3, 32, 32)
    fresh = model.residual(images, model.encode(images, 0.4))
    model.encode(images, 0.1)
    assert torch.equal(model.residual(images, model.encode(images, 0.4)), fresh)
    expected = (model.normalise(images) - model.normalise(model.reconstruct(images, model.encode(images, 0.4)))) ** 2
    torch.testing.assert_close(fresh, expected.flatten(1).sum(1), rtol=1e-4, atol=1e-3)


def test_lam_layers_all_reaches_the_inner_layers():
    images = torch.rand(2, 3, 32, 32)
    model = build_model("sdnet18_all", width=2, lam_layers="all").eval()
    code = model.encode(images, 0.1)
    assert not torch.allclose(model.classify(code, 0.1), model.classify(code, 0.6))
    model = build_model("sdnet18_all", width=2).eval()
    assert torch.equal(model.classify(code, 0.1), model.classify(code, 0.6))


def test_lambda_of_a_network_can_be_differentiated():
    model, images = make_sdnet().double(), torch.rand(2, 3, 32, 32, dtype=torch.float64)
    lam = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    model(images, lam=lam)[:, 0].sum().backward()
    above, below = (model(images, lam=0.1 + change)[:, 0].sum().detach() for change in (1e-6, -1e-6))
    assert float(lam.grad) == pytest.approx(float(above - below) / 2e-6, rel=1e-3)


def test_a_resnet_refuses_lambda_and_reconstruction():
    model, images = build_model("resnet18", width=2).eval(), torch.rand(1, 3, 32, 32)
    assert model.lam is None
    with pytest.raises(InputError, match="expected no λ for resnet18"):
        model(images, lam=0.1)
    with pytest.raises(InputError, match="expected a network with a sparse code, got resnet18"):
        model.residual(images, model.encode(images))


def test_inputs_are_normalised_once():
    model = make_sdnet(mean=(0.2, 0.3, 0.4), std=(0.5, 0.6, 0.7))
    images = torch.rand(2, 3, 32, 32)
    expected = (images - torch.tensor([0.2, 0.3, 0.4]).view(3, 1, 1)) / torch.tensor([0.5, 0.6, 0.7]).view(3, 1, 1)
    assert torch.equal(model.encode(images), model.input_layer(expected))
    torch.testing.assert_close(model.normalise.inverse(expected), images)


@pytest.mark.parametrize(
    ("arch", "options", "message"),
    [
        ("vgg", {}, "expected an architecture .*, got 'vgg'; choose one"),
        ("sdnet18", {"width": 0}, "expected width of at least 1, got 0; give a larger one"),
        ("sdnet18", {"std": (1.0, 0.0, 1.0)}, "std > 0"),
        ("sdnet18", {"shortcut": False}, "needs its shortcuts"),
        ("sdnet18", {"n_dict": 0}, "expected n_dict of at least 1"),
        ("resnet18", {"n_dict": 2}, "expected n_dict of 1, as resnet18 has no dictionary"),
        ("sdnet18", {"lam": -1.0}, "expected a finite λ ≥ 0, got -1.0; give such a number"),
        ("sdnet18", {"mu": math.inf}, "expected a finite μ ≥ 0"),
        ("sdnet18", {"n_steps": 0}, "expected at least 1 FISTA step K"),
        ("sdnet18", {"lam_layers": "some"}, "lam_layers"),
    ],
)
def test_bad_options_are_refused(arch, options, message):
    with pytest.raises(InputError, match=message):
        NetworkConfig(arch=arch, **{"width": 2, **options})


def test_an_unknown_option_is_refused_with_the_choices():
    with pytest.raises(InputError, match=r"expected model options among .*, got wdith; rename"):
        build_model("sdnet18", wdith=3)


@pytest.mark.parametrize("image_size", [16, 72])
@pytest.mark.parametrize(
    "options",
    [
        {"arch": "sdnet18"},
        {"arch": "sdnet18", "n_dict": 3},
        {"arch": "sdnet18_all"},
        {"arch": "sdnet18_all", "shortcut": False},
        {"arch": "sdnet34_all"},
        {"arch": "sdnet34_all", "shortcut": False},
        {"arch": "sdnet18_all", "shortcut": False, "n_dict": 2},
        {"arch": "sdnet18_all", "n_steps": 3, "mu": 0.2, "lam": 0.02},
    ],
)
def test_a_training_step_follows_the_gradient_and_keeps_atoms_on_the_sphere(options, image_size):
    """A step of length ε along the gradient g lowers the loss by ε‖g‖², to first order."""
    model = build_model(**options, image_size=image_size, width=2).double().train()
    images, labels = torch.rand(8, 3, image_size, image_size, dtype=torch.float64), torch.arange(8)
    loss = torch.nn.functional.cross_entropy(model(images), labels)
    loss.backward()
    assert all(p.grad.any() for p in model.parameters())
    slope = float(sum(p.grad.square().sum() for p in model.parameters()))
    torch.optim.SGD(model.parameters(), lr=1e-7 / slope).step()
    gained = loss - torch.nn.functional.cross_entropy(model(images), labels)
    assert float(gained.detach()) == pytest.approx(1e-7, rel=0.02)
    model.project()
    for layer in model.sparse_layers():
        norms = layer.weight.flatten(1).norm(dim=1)
        torch.testing.assert_close(norms, torch.ones_like(norms))


def test_the_robust_data_term_is_trainable():
    """Its gradient takes the norms of the residuals for constants, so it is not the slope of the loss."""
    images, labels = torch.rand(8, 3, 16, 16), torch.arange(8)
    logits = []
    for robust in (True, False):
        torch.manual_seed(0)
        model = build_model("sdnet18_all", robust=robust, shortcut=False, image_size=16, width=2).train()
        logits.append(model(images))
        torch.nn.functional.cross_entropy(logits[-1], labels).backward()
        assert all(p.grad.isfinite().all() and p.grad.any() for p in model.parameters())
    assert not torch.allclose(*logits)


def test_a_wider_dictionary_has_more_atoms_and_its_code_leads_back():
    model, images = make_sdnet(n_dict=3), torch.rand(2, 3, 32, 32)
    code = model.encode(images)
    assert code.shape == (2, 12, 32, 32)
    assert model.reconstruct(images, code).shape == images.shape
    assert model.residual(images, code).shape == (2,)


def test_options_reach_every_sparse_layer():
    options = {"mu": 0.3, "n_steps": 5, "robust": True, "lam": 0.2}
    for layer in build_model("sdnet18_all", width=2, **options).sparse_layers():
        assert {name: getattr(layer, name) for name in options} == options


def test_new_options_at_their_defaults_change_no_key_of_a_measurement():
    described = make_sdnet().describe()
    first = "arch num_classes image_size width mean std lam mu n_steps robust shortcut lam_layers"
    assert " ".join(described) == first
    assert make_sdnet(n_dict=2).describe()["n_dict"] == 2
