"""Colours and markers by name, the same in the figures and in the report, whatever else is drawn beside them."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from sdnet_core.style import MODEL_COLOURS, MODEL_MARKERS


@dataclass(frozen=True)
class Look:
    """How something is drawn.

    Args:
        colour: ``#rrggbb``.
        marker: of Matplotlib.
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
    """Of a λ policy; one that is not the project's has one of two others, by its name."""
    return _POLICIES.get(name, _other(name))


def family_look(name: str) -> Look:
    """Of a noise family of the residual law."""
    return _FAMILIES.get(name, _other(name))


def _other(name: str) -> Look:
    return _OTHERS[zlib.crc32(name.encode()) % len(_OTHERS)]
