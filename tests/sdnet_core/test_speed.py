"""Faster forms of a network compute the same function."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from data_prep.errors import PrerequisiteError
from sdnet_core import Network, build_model
from sdnet_core.speed import accelerate, multiplies_bfloat16

CPU = torch.device("cpu")


def make_network(arch: str, **options) -> Network:
    """Untrained, with BatchNorms that do something."""
    torch.manual_seed(0)
    network = build_model(arch, width=8, **options).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.bias, std=0.3)
    return network


@pytest.mark.parametrize(
    ("arch", "options", "remaining"),
    [
        ("resnet18", {}, 0),
        ("sdnet18", {}, 1),
        ("sdnet18", {"image_size": 96}, 1),
        ("resnet18", {"image_size": 96}, 0),
        ("sdnet18_all", {"shortcut": False}, 17),
        ("sdnet18_all", {"lam_layers": "all"}, 17),
    ],
)
def test_exact_folds_what_it_can_and_changes_no_logit_beyond_rounding(arch, options, remaining):
    network = make_network(arch, **options)
    before = copy.deepcopy(network.state_dict())
    fast = accelerate(network, "exact", CPU)
    images = torch.rand(6, 3, network.config.image_size, network.config.image_size)
    for lam in (None, 0.3) if network.has_lam else (None,):
        torch.testing.assert_close(fast(images, lam), network(images, lam), rtol=1e-4, atol=1e-5)
    assert sum(isinstance(module, nn.BatchNorm2d) for module in fast.modules()) == remaining
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_exact_keeps_gradients_for_attacks():
    network = make_network("sdnet18")
    images = torch.rand(2, 3, 32, 32, requires_grad=True)
    (slow,) = torch.autograd.grad(network(images).logsumexp(1).sum(), images)
    (fast,) = torch.autograd.grad(accelerate(network, "exact", CPU)(images).logsumexp(1).sum(), images)
    torch.testing.assert_close(fast, slow, rtol=1e-3, atol=1e-6)


def test_fast_without_a_compiler_says_so(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(PrerequisiteError, match=r"finds no C\+\+ compiler; install"):
        accelerate(make_network("sdnet18"), "fast", CPU)


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["sdnet18", "sdnet18_all"])
def test_fast_computes_the_same_at_every_lam(arch):
    """Compiling takes half a minute."""
    network = make_network(arch)
    fast = accelerate(network, "fast", CPU)
    images = torch.rand(8, 3, 32, 32)
    tolerance = 0.03 if multiplies_bfloat16(CPU) else 1e-4
    with torch.inference_mode():
        for lam in (None, 0.3, torch.linspace(0, 1, 8)):
            exact = network(images, lam)
            assert (fast(images, lam) - exact).abs().max() <= tolerance * exact.abs().max()
