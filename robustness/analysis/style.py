"""One look for every figure: colour-blind-safe (Okabe & Ito), print-ready, PNG and PDF."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

MODEL_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MODEL_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_STYLE: Any = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "figure.dpi": 150,
    "font.size": 9,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "lines.markersize": 3.5,
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
}


def lam_colour(index: int, count: int) -> tuple[float, float, float, float]:
    """Colour of the λ at position ``index`` of ``count``: a sequential map without its lightest end."""
    position = 0.15 + 0.75 * (index / max(count - 1, 1))
    return mpl.colormaps["viridis_r"](position)


def panel_grid(count: int, *, width: float = 2.3, height: float = 1.9) -> tuple[Figure, list[Axes]]:
    """A figure of ``count`` small panels with shared axes, at most five in a row; unused places stay empty."""
    columns = min(5, max(1, math.ceil(math.sqrt(count)) if count > 5 else count))
    rows = math.ceil(count / columns)
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(max(width * columns, 4.5), height * rows + 0.6), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).flatten().tolist()
    for axis in axes[count:]:
        axis.set_visible(False)
    return figure, axes[:count]


def save_figure(figure: Figure, folder: Path, name: str, note: str) -> None:
    """Write ``name.png`` and ``name.pdf`` with ``note`` (what the numbers stand for) below the panels."""
    folder.mkdir(exist_ok=True)
    figure.supxlabel(note, fontsize=6.5, color="0.35")
    for suffix, metadata in (("png", {}), ("pdf", {"CreationDate": None})):
        with mpl.rc_context(_STYLE):
            figure.savefig(folder / f"{name}.{suffix}", metadata=metadata)


def label_outer(axes: Sequence[Axes], *, x: str, y: str) -> None:
    """Axis labels on the outer panels only."""
    for axis in axes:
        axis.set(xlabel=x, ylabel=y)
        axis.label_outer()
