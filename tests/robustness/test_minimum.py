"""The smallest perturbation of each image: closed forms, agreement with attacks at a fixed ε, its way into outcomes."""

from __future__ import annotations

import pytest
import torch
from attacked import SHAPE, Linear, curved_problem, linear_problem, run

from data_prep.errors import InputError
from robustness.attack import Attack, read_attacks
from robustness.measure.craft import distance
from robustness.measure.minimum import find_smallest

DUAL = {"linf": 1, "l2": 2, "l1": torch.inf}


@pytest.mark.parametrize("factor", [1e-6, 1.0, 1e4])
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_the_smallest_perturbation_of_a_linear_model_is_that_of_the_closed_form(norm, factor):
    """|⟨w, x − ½⟩| / ‖w‖ in the dual norm, whatever the scale of the logits; in L1 as far as one value reaches."""
    model, images, labels, size = linear_problem(12)
    expected = size / torch.linalg.vector_norm(model.weight.detach().flatten(), ord=DUAL[norm])
    scaled = torch.nn.Sequential(model, torch.nn.Identity())
    scaled.register_forward_hook(lambda _module, _inputs, logits: factor * logits)
    found = find_smallest(scaled, images, labels, norm=norm)
    assert (model(found).argmax(1) != labels).all()
    ratio = distance(found, images, norm) / expected
    assert ratio.min() > 1 - 1e-4
    within = expected < 0.3 if norm == "l1" else torch.ones(12, dtype=torch.bool)
    assert within.sum() > 5
    assert ratio[within].max() < (1.1 if norm == "l1" else 1.01)


@pytest.mark.parametrize(("norm", "largest"), [("linf", 0.1), ("l2", 1.0), ("l1", 20.0)])
def test_one_search_agrees_with_attacks_at_fixed_budgets(norm, largest):
    """An image that PGD breaks at ε has a smallest perturbation of about ε or less."""
    model, images, labels = curved_problem(12)
    search = Attack(name="minimum", norm=norm, eps=largest, steps=100, losses=("margin", "targeted"), targets=2)
    found = run(model, search, images, labels, 5)
    assert not found.robust.any()
    assert not found.dropped.any()
    smallest = distance(found.images, images, norm)
    for eps in smallest.quantile(torch.tensor([0.3, 0.7])).tolist():
        strong = Attack(name="pgd", norm=norm, eps=eps, steps=40, losses=("ce", "margin", "targeted"), targets=2)
        broken = ~run(model, strong, images, labels, 5).robust
        assert (smallest[broken] < 1.03 * eps).all(), "the search finds what the attack finds"
        assert norm == "l1" or broken[smallest < 0.9 * eps].all(), "and nothing that it does not"


def test_images_that_need_more_than_the_largest_budget_withstand_and_stay_clean():
    model, images, labels, size = linear_problem(12)
    smallest = size / model.weight.detach().flatten().abs().sum()
    eps = float(smallest.quantile(0.5))
    found = run(model, Attack(name="minimum", norm="linf", eps=eps, losses=("margin",), steps=100), images, labels)
    assert torch.equal(found.robust, smallest > eps)
    assert torch.equal(found.images[found.robust], images[found.robust])
    assert not found.dropped.any()


def test_models_without_a_gradient_have_no_smallest_perturbation():
    images, labels = torch.rand(3, *SHAPE), torch.zeros(3, dtype=torch.int64)
    flat = Linear(torch.zeros(SHAPE), 2)
    flat.register_forward_hook(lambda _module, _inputs, logits: logits - torch.tensor([0.0, 1.0]))
    found = find_smallest(flat, images, labels, norm="l2")
    assert torch.equal(found, images)


def test_the_search_is_asked_for_in_a_suite():
    (attack,) = read_attacks([{"name": "minimum", "norm": "l1", "eps": 12}], "cifar")
    assert (attack.steps, attack.losses, attack.passes) == (100, ("margin",), 300)
    with pytest.raises(InputError, match=r"attack minimum: expected keys among .*, got restarts; rename"):
        read_attacks([{"name": "minimum", "restarts": 2}], "cifar")
    with pytest.raises(InputError, match="expected different losses among ce, margin, dlr, targeted, got none"):
        read_attacks([{"name": "minimum", "losses": []}], "cifar")
