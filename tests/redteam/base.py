"""A defence of the zoo: a model, where it comes from, and what an attacker who knows it attacks in its stead."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from .networks import load_network

Substitutes = Callable[[], Sequence[nn.Module]]


@dataclass(frozen=True)
class Member:
    """One model of the zoo.

    Args:
        name: what tables call it.
        kind: the file that it is in; ``honest`` for a model that must not be accused.
        source: where the defence, or what breaks it, was published.
        build: a fresh instance, in eval mode.
        substitutes: differentiable models whose adversarial images fool it; tried beside attacks on the model itself.
    """

    name: str
    kind: str
    source: str
    build: Callable[[], nn.Module]
    substitutes: Substitutes


MEMBERS: dict[str, Member] = {}


def nothing() -> Sequence[nn.Module]:
    """For a model that is attacked as it is."""
    return ()


def undefended() -> Sequence[nn.Module]:
    """The network below most defences."""
    return (load_network("plain"),)


def both_networks() -> Sequence[nn.Module]:
    """The networks that a switch chooses from, one by one and added up."""
    plain, other = load_network("plain"), load_network("other")
    return plain, other, Sum(plain, other)


class Sum(nn.Module):
    """Logits of several networks, added up."""

    def __init__(self, *networks: nn.Module) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, images: Tensor) -> Tensor:
        return sum(network(images) for network in self.networks)


def member(source: str, substitutes: Substitutes = undefended) -> Callable[[type[nn.Module]], type[nn.Module]]:
    """Enter a class, built without arguments, into the zoo; its kind is the module, its name the class's."""

    def enter(kind: type[nn.Module]) -> type[nn.Module]:
        def build() -> nn.Module:
            return kind().eval().requires_grad_(False)

        MEMBERS[kind.__name__] = Member(kind.__name__, kind.__module__.rpartition(".")[2], source, build, substitutes)
        return kind

    return enter


class Defence(nn.Module):
    """A wrapper around a network of its own."""

    def __init__(self, network: str = "plain") -> None:
        super().__init__()
        self.network = copy.deepcopy(load_network(network))


def with_gradient_of(value: Tensor, stand_in: Tensor) -> Tensor:
    """``value`` with the gradient of ``stand_in``."""
    return value.detach() + stand_in - stand_in.detach()
