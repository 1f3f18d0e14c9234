"""PGD whose steps depend on nothing but the direction of the gradient: closed forms, confident models, all norms."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from attacked import curved_problem, linear_problem, run
from shared import find_resnet20, find_shared
from torch import Tensor, nn

from data_prep import load_images
from robustness.attack import Attack
from robustness.measure.craft import distance
from robustness.measure.foreign import load_foreign
from robustness.measure.loaders.loaded import Wanted
from robustness.measure.pgd import LOSSES, pgd, project
from robustness.measure.stages import list_stages
from sdnet_core.augment import to_images

EXAMPLE = Path(__file__).parents[2] / "examples" / "resnet20.py"

NORMS = ["linf", "l2", "l1"]
DUAL = {"linf": 1, "l2": 2, "l1": torch.inf}


class Confident(nn.Module):
    """A model whose logits are ``factor`` times another model's."""

    def __init__(self, model: nn.Module, factor: float) -> None:
        super().__init__()
        self.model, self.factor = model, factor
        self.training = False

    def forward(self, images: Tensor) -> Tensor:
        return self.factor * self.model(images)


@pytest.mark.parametrize("factor", [1e-6, 1.0, 1e4])
@pytest.mark.parametrize("norm", NORMS)
def test_a_linear_model_falls_exactly_where_the_closed_form_says_however_confident_it_is(norm, factor):
    """The smallest perturbation is |⟨w, x − ½⟩| / ‖w‖ in the dual norm; softmax is 0 or 1 beyond a margin of 100."""
    model, images, labels, size = linear_problem()
    weight = model.weight.detach().flatten()
    smallest = size / torch.linalg.vector_norm(weight, ord=DUAL[norm])
    eps = float(smallest.median())
    # in L1 the best direction is one value of 192, and a step moves the two steepest
    slack = 0.35 if norm == "l1" else 1e-3
    clear = (smallest / eps - 1).abs() > slack
    found = run(Confident(model, factor), Attack(name="pgd", norm=norm, eps=eps, steps=40), images, labels)
    assert torch.equal(found.robust[clear], (smallest > eps)[clear])
    assert clear.sum() > 5
    assert (distance(found.images, images, norm) <= eps * (1 + 1e-5)).all()
    assert not found.dropped.any()


@pytest.mark.parametrize(("name", "norm"), [("pgd", "l2"), ("PGDL2", "l2"), ("PGDRSL2", "l2"), ("MIFGSM", "linf")])
def test_neither_the_other_images_of_a_batch_nor_confidence_change_what_an_attack_finds(name, norm):
    """torchattacks adds 1e-10 to the norm of the gradient of a batch's mean: confident images hardly moved."""
    model, images, labels = curved_problem(6)
    eps = 0.2 if norm == "l2" else 0.02
    margins = model(images).detach().topk(2).values.diff(dim=1).abs()
    sure = Confident(model, float(60 / margins.max()))
    options = {"options": {"noise_sd": 1e-6, "noise_batch_size": 1}} if name == "PGDRSL2" else {}
    if name == "pgd":
        options = {"random_start": False}
    elif name == "PGDL2":
        options = {"options": {"random_start": False}}
    attack = Attack(name=name, norm=norm, eps=eps, **options)
    found = {}
    for size in (6, 1):
        (stage,) = list_stages(attack, sure, num_classes=5, seed=0, leave_early=False)
        found[size] = torch.cat(
            [stage.perturb(x, y) for x, y in zip(images.split(size), labels.split(size), strict=True)]
        )
    torch.testing.assert_close(found[6], found[1], rtol=0, atol=2e-3)
    assert (distance(found[6], images, norm) > 0.5 * eps).all(), "every image is moved"


@pytest.mark.parametrize("loss", [*LOSSES])
@pytest.mark.parametrize("norm", NORMS)
def test_every_loss_in_every_norm_moves_images_within_the_budget_and_breaks_most(loss, norm):
    model, images, labels = curved_problem()
    eps = {"linf": 0.05, "l2": 0.5, "l1": 6.0}[norm]
    torch.manual_seed(0)
    moved = pgd(model, images, labels, norm=norm, eps=eps, loss=loss)
    assert (distance(moved, images, norm) <= eps * (1 + 1e-5)).all()
    assert moved.min() >= 0
    assert moved.max() <= 1
    assert (model(moved).argmax(1) == labels).float().mean() < 0.3


def test_losses_are_those_of_their_papers():
    logits, labels, targets = torch.tensor([[3.0, 1.0, 0.5, -2.0]]), torch.tensor([0]), torch.tensor([2])
    assert LOSSES["margin"](logits, labels, targets) == pytest.approx(-2.0)
    assert LOSSES["dlr"](logits, labels, targets) == pytest.approx(-2.0 / 2.5)
    assert LOSSES["targeted"](logits, labels, targets) == pytest.approx(-2.5)
    odds = LOSSES["ce"](logits, labels, targets)
    assert nn.functional.softplus(odds) == pytest.approx(float(nn.functional.cross_entropy(logits, labels)))


def test_further_losses_and_restarts_are_stages_of_their_own_on_what_withstands():
    model, images, labels = curved_problem()
    attack = Attack(
        name="pgd", norm="linf", eps=0.02, steps=5, losses=("ce", "margin", "targeted"), targets=2, restarts=2
    )
    names = [stage.name for stage in list_stages(attack, model, num_classes=5, seed=0)]
    first = ["ce", "margin", "targeted-1", "targeted-2"]
    assert names == [*first, *(f"{name}, restart 2" for name in first)]
    alone = run(model, Attack(name="pgd", norm="linf", eps=0.02, steps=5), images, labels, 5)
    more = run(model, attack, images, labels, 5)
    assert not (more.robust & ~alone.robust).any()
    assert more.robust.sum() < alone.robust.sum()
    assert attack.passes == 8 * Attack(name="pgd", norm="linf", eps=0.02, steps=5).passes


def test_leaving_early_breaks_the_same_images_in_fewer_questions():
    model, images, labels = curved_problem()
    asked: list[int] = []
    model.register_forward_hook(lambda _module, inputs, _output: asked.append(len(inputs[0])))
    options = {"norm": "linf", "eps": 0.03, "random_start": False}
    late = pgd(model, images, labels, **options)
    questions = sum(asked)
    early = pgd(model, images, labels, leave_early=True, **options)
    assert torch.equal(model(early).argmax(1) == labels, model(late).argmax(1) == labels)
    assert sum(asked) - questions < 0.8 * questions


def test_the_projection_in_l1_keeps_signs_and_what_is_largest():
    delta = torch.tensor([0.5, -0.3, 0.1]).view(1, 3, 1, 1)
    inside = project(delta, torch.full_like(delta, 0.5), "l1", 0.5)
    torch.testing.assert_close(inside.flatten(), torch.tensor([0.35, -0.15, 0.0]))


@pytest.mark.slow
def test_pgd_in_l2_breaks_a_confident_network_trained_by_others_as_far_as_a_norm_without_a_constant_does(shared_data):
    import torchattacks

    net = load_foreign(f"{EXAMPLE}:build@{find_resnet20(shared_data)}", Wanted(num_classes=10))
    lossless = load_images(find_shared(shared_data, "cifar10-lossless-part.tar"), n=60)
    images, labels = to_images(torch.from_numpy(lossless.pixels)).contiguous(), torch.from_numpy(lossless.labels)
    right = net(images).argmax(1) == labels
    images, labels = images[right], labels[right]
    ours = run(net, Attack(name="pgd", norm="l2", eps=0.5), images, labels, 10).robust.sum()
    theirs = {}
    for constant in (1e-10, 1e-30):
        attack = torchattacks.PGDL2(net, eps=0.5, alpha=2.5 * 0.5 / 20, steps=20, eps_for_division=constant)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            theirs[constant] = (net(attack(images, labels)).argmax(1) == labels).sum()
    assert ours <= theirs[1e-30]
    assert theirs[1e-30] < theirs[1e-10], "the constant of torchattacks should matter here"
