"""Adversarial training: what the crafted batch may and may not do."""

from __future__ import annotations

import pytest
import torch

from data_prep.errors import InputError
from sdnet_core import build_model, weights_fingerprint
from sdnet_core.adversarial import craft_batch, random_start
from sdnet_core.recipes import read_recipe

SETTINGS = {"eps": 8 / 255, "steps": 3, "step_size": 4 / 255}


def craft(model: torch.nn.Module, seed: int = 0, **options: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    images = torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(8)
    start = random_start(images, eps=8 / 255, generator=torch.Generator().manual_seed(seed))
    return images, labels, craft_batch(model, images, labels, start=start, **{**SETTINGS, **options})


@pytest.mark.parametrize("arch", ["sdnet18", "resnet18"])
def test_crafted_images_keep_the_budget_and_raise_the_loss(arch):
    torch.manual_seed(0)
    model = build_model(arch, width=4).train()
    before = weights_fingerprint(model)
    images, labels, crafted = craft(model)
    assert model.training
    assert not crafted.requires_grad
    assert weights_fingerprint(model) == before, "the batch statistics come from the training steps alone"
    assert all(parameter.grad is None for parameter in model.parameters())
    assert (crafted - images).abs().max() <= 8 / 255 + 1e-6
    assert crafted.min() >= 0
    assert crafted.max() <= 1
    model.eval()
    loss = torch.nn.functional.cross_entropy
    assert loss(model(crafted), labels) > loss(model(images), labels)


def test_the_random_start_is_the_generators():
    torch.manual_seed(0)
    model = build_model("resnet18", width=4)
    assert torch.equal(craft(model)[2], craft(model)[2])
    assert not torch.equal(craft(model)[2], craft(model, seed=1)[2])


def test_recipes_say_how():
    recipe = read_recipe("cifar10-sdnet18-small-at")
    assert (recipe.adversarial, recipe.adversarial_steps) == ("pgd", 1)
    assert recipe.adversarial_step_size == pytest.approx(1.25 * recipe.adversarial_eps)
    assert read_recipe("cifar10-sdnet18", ["adversarial=pgd"]).adversarial_eps == pytest.approx(8 / 255)
    with pytest.raises(InputError, match="expected adversarial of 'pgd' or empty"):
        read_recipe("cifar10-sdnet18", ["adversarial=fgsm"])
    with pytest.raises(InputError, match="in \\(0, 1\\] pixel units"):
        read_recipe("cifar10-sdnet18", ["adversarial_eps=8.0"])
