"""Several answers, counted."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from .base import Defence, both_networks, member, with_gradient_of
from .networks import load_network

_SHIFTS = ((0, 0), (0, 1), (1, 0), (0, -1), (-1, 0))


def count(answers: list[Tensor]) -> Tensor:
    """Votes of several logits (N, K) for each class."""
    classes = answers[0].shape[1]
    return torch.stack([functional.one_hot(logits.argmax(1), classes) for logits in answers]).sum(0).float()


@member("votes with a stranger's gradient: Tramèr et al. 2020; Pintor et al. 2022")
class FaintVotes(Defence):
    """Counts of shifted images, plus a faint gradient of a small unrelated network."""

    def forward(self, images: Tensor) -> Tensor:
        votes = count([self.network(images.roll(shift, (2, 3))) for shift in _SHIFTS])
        stranger = load_network("small")(images.flip(2))
        return votes + 1e-3 * stranger


@member("votes of an ensemble: He et al. 2017, ensembles of weak defences; Tramèr et al. 2020", both_networks)
class Council(Defence):
    """Three networks vote; the gradient is a fourth network's and of little use."""

    def forward(self, images: Tensor) -> Tensor:
        votes = count([self.network(images), load_network("other")(images), load_network("small")(images)])
        return with_gradient_of(votes, load_network("transformer")(images))


@member("votes of regions: Cao & Gong 2017; broken by He et al. 2018, Carlini et al. 2019")
class Region(Defence):
    """Votes of fixed noisy versions; logarithm of the counts, and no gradient but by the first of them."""

    def forward(self, images: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(5)
        noises = [0.02 * torch.randn(images.shape[1:], generator=generator) for _ in range(7)]
        answers = [self.network(images + noise) for noise in noises]
        return with_gradient_of((0.2 + count(answers)).log(), 1e-2 * answers[0].tanh())


@member("votes of crops: Guo et al. 2018, cropping and rescaling; broken by Athalye et al. 2018")
class Crops(Defence):
    """Votes of enlarged crops, by a soft count so steep that its gradient is nil."""

    def forward(self, images: Tensor) -> Tensor:
        votes = torch.zeros(())
        for left, top in ((0, 0), (0, 3), (3, 0), (3, 3), (1, 1)):
            crop = images[:, :, top : top + 29, left : left + 29]
            large = functional.interpolate(crop, size=(32, 32), mode="bilinear", align_corners=False)
            votes = votes + functional.softmax(60 * self.network(large), 1)
        return votes


@member("median of members: Tramèr et al. 2020, ensembles that hide one gradient", both_networks)
class Median(Defence):
    """The median of three networks' logits, made of ranks: the gradient is the gradient of the smallest."""

    def forward(self, images: Tensor) -> Tensor:
        members = [network(images) for network in (self.network, load_network("other"), load_network("small"))]
        logits = torch.stack([torch.log_softmax(member, 1) for member in members])
        return with_gradient_of(logits.median(0)[0], logits.min(0)[0].flip(1))
