"""What is tried beside an attack, on models of a few weights."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from robustness.attack import Attack
from robustness.measure.probes import SQUARE_QUERIES, Prober

SHAPE = (3, 8, 8)
CLASSES = 4


class Sorted(nn.Module):
    """Logits linear in the mean of each quarter of the rows: the brightest quarter is the class."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(10.0))

    def forward(self, images: Tensor) -> Tensor:
        return self.scale * images.unflatten(2, (CLASSES, -1)).mean((1, 3, 4))


def make_prober(model: nn.Module, *, n: int = 40, limit: int = 8, seed: int = 0) -> Prober:
    """Random images in the order of their classes, all of them answered rightly by :class:`Sorted`."""
    images = torch.rand((n, *SHAPE), generator=torch.Generator().manual_seed(1))
    labels, order = Sorted()(images).argmax(1).sort(stable=True)
    return Prober(model.requires_grad_(False), images[order], labels, CLASSES, limit, seed, torch.device("cpu"))


def test_probes_take_images_of_many_classes_though_data_sets_are_sorted_by_class():
    prober = make_prober(Sorted())
    tried = torch.from_numpy(prober.probe_model().unbounded >= 0)
    assert tried.sum() == 8
    assert len(prober.labels[tried].unique()) > 2
    assert torch.equal(torch.from_numpy(prober.probe_model().unbounded >= 0), tried), "the same images every time"
    other = make_prober(Sorted(), seed=1).probe_model()
    assert not torch.equal(torch.from_numpy(other.unbounded >= 0), tried)


class Silent(Sorted):
    """Answers one class, whatever it sees: the gradient is there and is zero."""

    def forward(self, images: Tensor) -> Tensor:
        return 0 * super().forward(images) + torch.eye(CLASSES)[0]


class Strided(nn.Sequential):
    """Every other row and column of the image goes nowhere; nothing else is hidden."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        super().__init__(nn.Conv2d(3, 4, 1, stride=2), nn.Softplus(), nn.Flatten(), nn.Linear(4 * 16, CLASSES))


def test_the_gradient_of_every_image_counts_also_of_those_that_are_answered_wrongly():
    found = make_prober(Silent()).probe_model()
    assert (found.zero_gradient == 1).all()


def test_values_that_no_image_has_a_gradient_in_are_not_hidden():
    assert (make_prober(Strided()).probe_model().zero_gradient == 0).all()


@pytest.mark.parametrize(("queries", "is_tried"), [(1, True), (SQUARE_QUERIES, False)])
def test_square_is_tried_beside_an_attack_that_gave_it_less(queries, is_tried):
    prober = make_prober(Sorted())
    parts = ("apgd-ce", "square")
    attack = Attack(name="autoattack", norm="linf", eps=1e-3, version="custom", parts=parts, queries=queries)
    found = prober.probe_attack(attack, parts, torch.ones(len(prober.labels), dtype=torch.bool))
    assert (found.square >= 0).any() == is_tried
    assert (found.long < 0).all(), "APGD ran"
