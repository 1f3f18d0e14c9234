"""Models that hide nothing: none of them may be accused."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from sdnet_core import load_model

from .base import MEMBERS, Defence, Member, member, nothing
from .networks import load_network
from .purification import median_filter


class Shipped(nn.Module):
    """A shipped network for shapes, at one λ if it has any."""

    def __init__(self, name: str, lam: float | None) -> None:
        super().__init__()
        self.network, self.at = load_model(name).eval().requires_grad_(False), lam

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images, self.at)


@member("median smoothing, with its true gradient: a third of the values has none", nothing)
class Filtered(Defence):
    def forward(self, images: Tensor) -> Tensor:
        return self.network(median_filter(images))


@member("an average of three networks", nothing)
class Averaged(Defence):
    def forward(self, images: Tensor) -> Tensor:
        networks = (self.network, load_network("other"), load_network("smooth"))
        return torch.stack([network(images) for network in networks]).mean(0)


def _enter(name: str, build) -> None:
    MEMBERS[name] = Member(name, "honest", "", build, nothing)


for _name in ("plain", "small", "smooth", "robust", "transformer"):
    _enter(_name, lambda name=_name: copy.deepcopy(load_network(name)))
_enter("resnet18", lambda: Shipped("resnet18-shapes", None))
for _lam in (0.05, 0.1, 0.4):
    _enter(f"sdnet18_{round(100 * _lam):03}", lambda lam=_lam: Shipped("sdnet18-shapes", lam))
