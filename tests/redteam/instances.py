"""The members of the zoo as functions without arguments: ``--models redteam.instances:Rounded``."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from .zoo import ZOO


def __getattr__(name: str) -> Callable[[], nn.Module]:
    try:
        return ZOO[name].build
    except KeyError:
        raise AttributeError(name) from None
