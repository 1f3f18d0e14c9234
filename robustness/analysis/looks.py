"""Colours and markers by name, the same in the figures and in the report, whatever else is drawn next to them."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass

from sdnet_core.style import MODEL_COLOURS, MODEL_MARKERS


@dataclass(frozen=True)
class Look:
    """Colour and marker of a curve.

    Args:
        colour: ``#rrggbb``.
        marker: marker of Matplotlib.
    """

    colour: str
    marker: str


_POLICIES = {
    "trained": Look(MODEL_COLOURS[0], MODEL_MARKERS[0]),
    "validated": Look(MODEL_COLOURS[1], MODEL_MARKERS[1]),
    "residual": Look(MODEL_COLOURS[2], MODEL_MARKERS[2]),
    "oracle": Look(MODEL_COLOURS[3], MODEL_MARKERS[3]),
}
_FAMILIES = {
    "clean": Look("#7F7F7F", "P"),
    "gaussian_noise": Look(MODEL_COLOURS[0], MODEL_MARKERS[0]),
    "shot_noise": Look(MODEL_COLOURS[1], MODEL_MARKERS[1]),
    "speckle_noise": Look(MODEL_COLOURS[2], MODEL_MARKERS[2]),
    "impulse_noise": Look(MODEL_COLOURS[3], MODEL_MARKERS[3]),
}
_OTHERS = (Look(MODEL_COLOURS[4], MODEL_MARKERS[4]), Look(MODEL_COLOURS[5], "X"))


def policy_look(name: str) -> Look:
    """Choose the look of a λ policy; a policy from elsewhere has one of two others, by its name."""
    return _POLICIES.get(name, _other(name))


def family_look(name: str) -> Look:
    """Choose the look of a noise family of the residual law."""
    return _FAMILIES.get(name, _other(name))


def model_looks(names: Iterable[str]) -> dict[str, Look]:
    """Choose the looks of models: a colour by name; if two names want one colour, the later gets the next.

    More than seven models share colours and differ in the marker.
    """
    looks: dict[str, Look] = {}
    taken: set[tuple[int, int]] = set()
    count = len(MODEL_COLOURS)
    for name in sorted(set(names)):
        wanted = zlib.crc32(name.encode())
        choices = [((wanted + step % count) % count, (wanted + step // count) % count) for step in range(count * count)]
        used = {colour for colour, _ in taken} if len(taken) < count else set()
        free = [choice for choice in choices if choice not in taken and choice[0] not in used]
        choice = (free or choices)[0]
        taken.add(choice)
        looks[name] = Look(MODEL_COLOURS[choice[0]], MODEL_MARKERS[choice[1]])
    return looks


def _other(name: str) -> Look:
    return _OTHERS[zlib.crc32(name.encode()) % len(_OTHERS)]
