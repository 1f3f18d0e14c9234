"""The attacker's view of a model: λ, the policy that chooses it, a frozen model."""

from __future__ import annotations

import torch
from attacked import run, small_victim
from torch import Tensor

from robustness.attack import Attack
from robustness.measure.evaluate import choose_lam
from robustness.measure.victims import Victim
from robustness.policies import NoiseLaw, ResidualLaw
from sdnet_core import weights_fingerprint
from sdnet_core.adversarial import frozen


def test_a_whitebox_attack_sees_the_evaluated_lambda_and_no_other(monkeypatch):
    """Trap 4."""
    victim, images, labels = small_victim("sdnet18", 0.3)
    encode, seen = victim.network.encode, []

    def spy(images: Tensor, lam: object = None) -> Tensor:
        seen.append(lam)
        return encode(images, lam)

    monkeypatch.setattr(victim.network, "encode", spy)
    run(victim, Attack(name="pgd", norm="linf", eps=2 / 255, steps=4), images, labels)
    assert len(seen) >= 1 + 4 + 1 + 1, "the clean images, four steps and their result, the stage's own look at it"
    assert set(seen) == {0.3}


def test_gradients_flow_through_the_policy_and_past_its_bounds():
    """The derivative of λ(x) with respect to x counts, and a clipped λ can still be pushed."""
    victim, images, _ = small_victim("sdnet18", 0.1)
    network = victim.network
    with torch.no_grad():
        residual = network.residual(images, network.encode(images))
    middle = float(residual.median())
    law = ResidualLaw(slope=0.2 / middle, intercept=0.0, lowest=0.15, highest=0.25)
    x = images.clone().requires_grad_(True)
    chosen = choose_lam(network, x, law)
    torch.testing.assert_close(chosen.detach(), law.lam(residual))
    assert ((chosen > 0.15) & (chosen < 0.25)).any()
    assert ((chosen == 0.15) | (chosen == 0.25)).any()
    (gradient,) = torch.autograd.grad(chosen.sum(), x)
    assert (gradient.flatten(1).abs().sum(1) > 0).all(), "straight-through: also where λ is clipped"

    through = torch.autograd.grad(Victim(network, law)(x).sum(), x)[0]
    fixed = torch.autograd.grad(network(x, lam=law.lam(residual)).sum(), x)[0]
    assert not torch.allclose(through, fixed), "an attack on the policy differentiates through λ"


def test_gradients_flow_through_the_noise_level_and_past_the_training_lambda():
    """Every place has a gradient, unlike the median's, and images below the training λ can be pushed above it."""
    victim, images, _ = small_victim("sdnet18", 0.1)
    network = victim.network
    with torch.no_grad():
        level = network.noise_level(images)
    law = NoiseLaw(float(level.median()))
    x = images.clone().requires_grad_(True)
    chosen = choose_lam(network, x, law)
    torch.testing.assert_close(chosen.detach(), level.clamp(min=law.lowest))
    assert (chosen == law.lowest).any()
    assert (chosen > law.lowest).any()
    (gradient,) = torch.autograd.grad(chosen.sum(), x)
    assert ((gradient != 0).float().mean((1, 2, 3)) > 0.5).all()
    raised = choose_lam(network, (images + 0.1 * gradient.sign()).clamp(0, 1), law)
    assert (raised > chosen).all(), "a step along the gradient raises λ of every image"


def test_models_are_frozen_for_an_attack_and_restored():
    victim, images, labels = small_victim("sdnet18", 0.1)
    network = victim.network.train()
    network.linear.weight.requires_grad_(False)
    before = weights_fingerprint(network)
    with frozen(network):
        assert not network.training
        run(victim, Attack(name="pgd", norm="linf", eps=2 / 255, steps=3), images, labels)
    assert network.training
    assert network.linear.bias.requires_grad
    assert not network.linear.weight.requires_grad
    assert weights_fingerprint(network) == before
