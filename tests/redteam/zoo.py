"""All members: broken defences by kind, then honest models; ``--models redteam.zoo:Rounded`` names one."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from . import detectors, gradients, honest, losses, purification, randomness, state, votes
from .base import MEMBERS, Member

_KINDS = (gradients, losses, randomness, state, detectors, purification, votes, honest)
_ORDER = [kind.__name__.rpartition(".")[2] for kind in _KINDS]
ZOO: dict[str, Member] = dict(sorted(MEMBERS.items(), key=lambda item: _ORDER.index(item[1].kind)))
BROKEN = {name: member for name, member in ZOO.items() if member.kind != "honest"}
HONEST = {name: member for name, member in ZOO.items() if member.kind == "honest"}


def __getattr__(name: str) -> Callable[[], nn.Module]:
    try:
        return ZOO[name].build
    except KeyError:
        raise AttributeError(name) from None
