"""Probes next to an attack, on models of a few weights."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robustness.attack import Attack
from robustness.attack_kinds import has_margin_loss
from robustness.measure.donors import find_donors, shipped_donors
from robustness.measure.probe_results import AttackProbes
from robustness.measure.probes import MANY, Prober

SHAPE = (3, 8, 8)
CLASSES = 4


class Sorted(nn.Module):
    """Logits linear in the mean of each quarter of the rows: the brightest quarter is the class."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(10.0))

    def forward(self, images: Tensor) -> Tensor:
        return self.scale * images.unflatten(2, (CLASSES, -1)).mean((1, 3, 4))


def make_prober(model: nn.Module, *, n: int = 80, limit: int = 8, seed: int = 0) -> Prober:
    """Random images in the order of their classes, all of them answered rightly by :class:`Sorted`."""
    images = torch.rand((n, *SHAPE), generator=torch.Generator().manual_seed(1))
    labels, order = Sorted()(images).argmax(1).sort(stable=True)
    return Prober(model.requires_grad_(False), images[order], labels, CLASSES, limit, seed, torch.device("cpu"))


PGD = Attack(name="pgd", norm="linf", eps=2 / 255, steps=5)


def probe(prober: Prober, attack: Attack = PGD, stages: tuple[str, ...] = ("ce",), **changes: object) -> AttackProbes:
    """Probe an attack that broke nothing and moved nothing."""
    everything = torch.ones(len(prober.labels), dtype=torch.bool)
    fields = {"robust": everything, "right": everything, "stored": prober.images, "random": False}
    return prober.probe_attack(attack, stages, **{**fields, **changes})


def said(answers: np.ndarray) -> set[int]:
    return set(answers[answers >= 0].tolist())


def test_probes_take_images_of_many_classes_though_data_sets_are_sorted_by_class():
    prober = make_prober(Sorted())
    looked_at = torch.from_numpy(prober.probe_model().unstable >= 0)
    assert looked_at.sum() == 16
    assert len(prober.labels[looked_at].unique()) > 2
    assert torch.equal(torch.from_numpy(prober.probe_model().unstable >= 0), looked_at), "the same images every time"
    other = make_prober(Sorted(), seed=1).probe_model()
    assert not torch.equal(torch.from_numpy(other.unstable >= 0), looked_at)


def test_a_single_image_and_a_single_right_answer_are_looked_at():
    alone = make_prober(Sorted(), n=1).probe_model()
    assert alone.zero_gradient.tolist() == [0]
    assert alone.unstable.tolist() == alone.undefined.tolist() == alone.distribution.tolist() == [0]
    assert np.isfinite(alone.slope).all()
    prober = make_prober(Sorted(), n=4)
    prober.labels[1:] = (prober.labels[1:] + 1) % CLASSES
    assert np.isfinite(prober.probe_model().slope).tolist() == [True, False, False, False]


class Silent(Sorted):
    """Answers one class, whatever it sees: the gradient is there and is zero."""

    def forward(self, images: Tensor) -> Tensor:
        return 0 * super().forward(images) + torch.eye(CLASSES)[0]


class Strided(nn.Sequential):
    """Every other row and column of the image goes nowhere; nothing else is hidden."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        super().__init__(nn.Conv2d(3, 4, 1, stride=2), nn.Softplus(), nn.Flatten(), nn.Linear(4 * 16, CLASSES))


def test_the_gradient_counts_also_of_images_that_are_answered_wrongly():
    found = make_prober(Silent()).probe_model().zero_gradient
    assert (found[np.isfinite(found)] == 1).all()


def test_values_that_no_image_has_a_gradient_in_are_not_hidden():
    assert np.nanmax(make_prober(Strided()).probe_model().zero_gradient) == 0


def test_the_slope_of_a_line_is_that_of_its_gradient():
    found = make_prober(Sorted()).probe_model()
    slope = found.slope
    for values in (slope, found.near, found.far):
        np.testing.assert_allclose(values[np.isfinite(slope)], 1, rtol=1e-2)
    assert np.isfinite(slope).sum() == 5


class Halved(Sorted):
    """The gradient is half of the truth."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(0.5 * (images + images.detach()))


class Rippled(Sorted):
    """A fast ripple: its gradient is true, and true nowhere else."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images + 1 / 255 * (2e4 * images).sin())


@pytest.mark.parametrize(("model", "low", "high"), [(Halved, 1.99, 2.01), (Rippled, -1, 0.3)])
def test_finite_differences_tell_a_gradient_that_says_something_else(model, low, high):
    assert low < np.nanmedian(make_prober(model()).probe_model().slope) < high


class Faint(Sorted):
    """Counts of a step function, and a faint gradient of it."""

    def forward(self, images: Tensor) -> Tensor:
        logits = super().forward(images)
        return (20 * logits).round() / 20 + 1e-3 * logits


class Partial(Sorted):
    """The gradient of one value in eight."""

    def forward(self, images: Tensor) -> Tensor:
        seen = torch.zeros(images.shape[1:], dtype=torch.bool)
        seen[:, ::2, ::4] = True
        return super().forward(torch.where(seen, images, images.detach()))


@pytest.mark.parametrize(("model", "least"), [(Faint, 10), (Partial, 2)])
def test_random_directions_tell_a_gradient_that_is_faint_or_a_part_of_the_true_one(model, least):
    assert np.nanmax(make_prober(model(), limit=20).probe_model().far) > least


class Switched(Sorted):
    """Another scale where the first value is above a half: continuous but there."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) * (1 + (images[:, :1, 0, 0] > 0.5))


def test_a_jump_on_the_way_to_a_survivor_is_found_where_there_is_one():
    prober = make_prober(Switched(), n=20)
    there = prober.images.clone()
    there[:, :, 0, 0] = 1 - there[:, :, 0, 0]
    jumps = probe(prober, stored=there).jump
    assert (jumps[np.isfinite(jumps)] > 0.1).all()
    smooth = probe(dataclasses.replace(prober, victim=Sorted()), stored=there).jump
    assert np.nanmax(smooth) < 1e-3
    assert np.isnan(probe(prober).jump).all(), "nothing was moved"


def test_an_attack_that_failed_on_a_model_without_a_defence_is_beaten_by_every_probe():
    """Nothing was moved, so nothing is broken: everything else finds that out."""
    found = probe(make_prober(Sorted()), dataclasses.replace(PGD, eps=0.2, steps=10))
    assert said(found.losses) == said(found.larger) == {0}
    assert 0 in said(found.transfer)
    assert said(found.inside) == {1}
    assert said(found.planted) == {1}
    assert said(found.averaged) == said(found.square) == set()
    np.testing.assert_allclose(found.margin[np.isfinite(found.margin)], 1)


def test_nothing_is_planted_or_found_in_a_model_that_answers_alike():
    assert said(probe(make_prober(Silent())).planted) <= {0}


class Hidden(Sorted):
    """The right answers, and no gradient."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images.detach()) + 0 * images.sum((1, 2, 3))[:, None]


def test_what_is_planted_is_not_found_without_a_gradient():
    assert said(probe(make_prober(Hidden())).planted) == {0}


class Stubborn(Sorted):
    """Says what it said first of all."""

    def __init__(self) -> None:
        super().__init__()
        self.first: Tensor | None = None

    def forward(self, images: Tensor) -> Tensor:
        if self.first is None:
            self.first = super().forward(images)[:1]
        return self.first.expand(len(images), -1) + 0 * super().forward(images)


def test_the_model_is_made_what_it_was_before_stored_images_are_shown_again():
    model = Stubborn()
    asked = []

    def reset() -> None:
        asked.append(model.first)
        model.first = None

    prober = dataclasses.replace(make_prober(model), reset=reset)
    found = probe(prober).fresh
    assert asked != []
    assert said(found) == {0, 1}, "one class is right, of the image that came first now"
    assert (found >= 0).sum() == 4 * MANY


def test_probes_take_what_a_third_of_the_attack_pays_for():
    """80 images withstand 5 steps, and the requested limit is above the usual one."""
    assert (probe(make_prober(Sorted())).larger >= 0).sum() == 4
    assert (probe(make_prober(Sorted())).losses >= 0).sum() == 6
    assert (probe(make_prober(Sorted()), dataclasses.replace(PGD, steps=60)).larger >= 0).sum() == 8
    assert (probe(make_prober(Sorted(), limit=20)).larger >= 0).sum() == 20
    few = torch.arange(80) < 3
    assert (probe(make_prober(Sorted()), robust=few).losses >= 0).sum() == 3
    assert not said(probe(make_prober(Sorted()), robust=few & False).larger), "nothing withstood"


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_every_probe_runs_in_every_norm(norm):
    attack = Attack(name="pgd", norm=norm, eps={"linf": 0.1, "l2": 1.0, "l1": 10.0}[norm], steps=5)
    found = probe(make_prober(Sorted(), n=20), attack)
    assert said(found.losses) <= {0, 1}
    assert said(found.planted) == {1}
    assert said(found.transfer) <= {0, 1}


def test_apgd_and_square_are_not_tried_beside_an_attack_that_has_them():
    parts = ("apgd-ce", "square")
    attack = Attack(name="autoattack", norm="linf", eps=1e-3, version="custom", parts=parts, queries=1)
    found = probe(make_prober(Sorted()), attack, parts)
    assert said(found.losses) == {1}, "one loss was tried"
    assert said(found.square) == set()


@pytest.mark.parametrize("stages", [("ce",), ("apgd-ce", "apgd-t")])
def test_without_probe_images_nothing_is_tried(stages):
    found = probe(make_prober(Sorted(), limit=0), stages=stages)
    assert not set().union(
        *(said(getattr(found, name)) for name in ("losses", "weakest", "square", "transfer", "planted"))
    )


class Lone(Sorted):
    """Only the first logit moves, and the largest is raised: cross-entropy vanishes, and DLR is 1 everywhere."""

    def forward(self, images: Tensor) -> Tensor:
        first = self.scale * (images.mean((1, 2, 3)) - 0.5)
        logits = nn.functional.pad(first[:, None], (0, CLASSES - 1))
        return logits + 150 * nn.functional.one_hot(logits.argmax(1), CLASSES)


def test_next_to_both_losses_of_autoattack_the_plain_margin_is_tried():
    """It is the one loss of the three that is not silent here."""
    prober = make_prober(Lone())
    prober = dataclasses.replace(prober, images=0.5 * prober.images + 0.3, labels=torch.zeros_like(prober.labels))
    attack = Attack(name="autoattack", norm="linf", eps=0.2, version="custom", parts=("apgd-ce", "apgd-t"))
    assert said(probe(prober, attack, ("ce",)).losses) == {1}, "APGD with cross-entropy and DLR breaks nothing"
    assert said(probe(prober, attack, attack.parts).losses) == {0}
    assert said(probe(prober, dataclasses.replace(attack, eps=1e-4), attack.parts).losses) == {1}


def test_a_margin_loss_is_that_of_an_apgd_of_autoattack():
    assert has_margin_loss(("apgd-ce", "apgd-t", "fab-t", "square"))
    assert has_margin_loss(("apgd-dlr",))
    assert not has_margin_loss(("apgd-ce", "fab", "square", "dlr"))


def test_the_weakest_survivors_are_attacked_until_most_withstand():
    """No loss is drawn for the images with small margins, and they fall first: the search ends above the budget."""
    prober = make_prober(Sorted(), limit=4)
    margins = Sorted()(prober.images).sort(1)[0]
    margins = (margins[:, -1] - margins[:, -2]).detach().numpy()
    found = probe(prober, dataclasses.replace(PGD, eps=0.01, steps=60))
    tried, drawn = found.weakest >= 0, found.losses >= 0
    assert not (tried & drawn).any()
    assert margins[tried].max() < margins[~tried & ~drawn].min()
    breakable = margins < 20 * 0.01  # each of two quarters moves by ε, and the scale is 10
    np.testing.assert_array_equal(found.weakest[tried] == 0, breakable[tried])
    assert breakable[tried].any()
    assert not breakable[~tried & ~drawn].any()


def test_a_stochastic_model_is_attacked_on_the_mean_of_its_answers():
    found = probe(make_prober(Sorted()), dataclasses.replace(PGD, eps=0.2), random=True)
    assert said(found.averaged) == {0}


def test_other_models_of_the_run_are_donors_where_no_shipped_network_is():
    """Images of 8 pixels in 4 classes: nothing is shipped for them, so the first able models of the run are asked."""
    prober = make_prober(Sorted())
    assert shipped_donors(CLASSES, (8, 8)) == []
    assert shipped_donors(10, (32, 32)) != []
    settings = {"num_classes": CLASSES, "besides": "", "device": torch.device("cpu")}
    unable, able, more = Silent(), Sorted(), Sorted()
    jury = find_donors(prober.images, prober.labels, others=[unable, able, more, Sorted()], **settings)
    assert list(jury.networks) == [able, more]
    assert find_donors(prober.images, prober.labels, others=[unable], **settings) is None
    found = probe(dataclasses.replace(prober, victim=Hidden(), donors=jury), dataclasses.replace(PGD, eps=0.2))
    assert said(found.transfer) == {0}, "they fool a model without a gradient"
