"""The ten outlines of ``shapes``, each a signed distance: negative inside, in units of the outline's size.

Every outline takes coordinate arrays x and y of equal shape and fits into |x|, |y| ≤ 1.1. No rotation turns one outline
into another. At corners the distance is to the nearest edge line, which is enough for drawing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]


def _bars(x: Floats, *, period: float) -> Floats:
    """Compute the signed distance to endless upright bars as wide as their gaps, with one bar centred."""
    return np.abs(x - period * np.round(x / period)) - period / 4


def _box(x: Floats, y: Floats, half_width: float, half_height: float) -> Floats:
    return np.maximum(np.abs(x) - half_width, np.abs(y) - half_height)


def _disc(x: Floats, y: Floats) -> Floats:
    return np.hypot(x, y) - 0.85


def _ring(x: Floats, y: Floats) -> Floats:
    return np.abs(np.hypot(x, y) - 0.7) - 0.2


def _square(x: Floats, y: Floats) -> Floats:
    return _box(x, y, 0.8, 0.8)


def _frame(x: Floats, y: Floats) -> Floats:
    return np.abs(_box(x, y, 0.65, 0.65)) - 0.18


def _triangle(x: Floats, y: Floats) -> Floats:
    sector = 2 * np.pi / 3
    angle = np.arctan2(y, x)
    folded: Floats = angle - sector * np.round(angle / sector)
    return np.hypot(x, y) * np.cos(folded) - 0.55


def _cross(x: Floats, y: Floats) -> Floats:
    return np.minimum(_box(x, y, 1.0, 0.3), _box(x, y, 0.3, 1.0))


def _star(x: Floats, y: Floats) -> Floats:
    """Fold ten half planes into the half plane of the edge from the tip (1.1, 0) to the next notch: five points."""
    sector, tip, notch = 2 * np.pi / 5, 1.1, 0.45
    edge = np.array([notch * np.cos(sector / 2) - tip, notch * np.sin(sector / 2)], dtype=np.float32)
    normal_x, normal_y = edge[1] / np.linalg.norm(edge), -edge[0] / np.linalg.norm(edge)
    angle, radius = np.arctan2(y, x), np.hypot(x, y)
    folded: Floats = np.abs(angle - sector * np.round(angle / sector))
    distance: Floats = normal_x * (radius * np.cos(folded) - tip) + normal_y * radius * np.sin(folded)
    return distance


def _crescent(x: Floats, y: Floats) -> Floats:
    bite: Floats = 0.8 - np.hypot(x - 0.45, y)
    return np.maximum(np.hypot(x, y) - 0.95, bite)


def _stripes(x: Floats, y: Floats) -> Floats:
    return np.maximum(_box(x, y, 0.9, 0.9), _bars(x, period=0.72))


def _checkerboard(x: Floats, y: Floats) -> Floats:
    columns, rows = _bars(x, period=1.2), _bars(y, period=1.2)
    return np.maximum(_box(x, y, 0.9, 0.9), np.maximum(np.minimum(columns, -rows), np.minimum(rows, -columns)))


OUTLINES: dict[str, Callable[[Floats, Floats], Floats]] = {
    "checkerboard": _checkerboard,
    "crescent": _crescent,
    "cross": _cross,
    "disc": _disc,
    "frame": _frame,
    "ring": _ring,
    "square": _square,
    "star": _star,
    "stripes": _stripes,
    "triangle": _triangle,
}
