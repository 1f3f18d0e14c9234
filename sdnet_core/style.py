"""One look for every figure: colour-blind-safe (Okabe & Ito), print-ready, PNG and PDF."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager
from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from data_prep.files import as_file_name, replacing

MODEL_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MODEL_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_STYLE: Any = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 7.5,
    "axes.titley": 1.0,
    "axes.labelsize": 7.5,
    "figure.dpi": 150,
    "figure.labelsize": 7,
    "figure.titlesize": 8,
    "font.size": 8,
    "grid.alpha": 0.3,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "legend.title_fontsize": 7,
    "lines.linewidth": 1.2,
    "lines.markersize": 3,
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
    "text.parse_math": False,  # a model may be called a$b$c
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
}
TEXT_WIDTH = 5.5
"""Width of a page's text in inches: a figure of this width is printed at its own size, with letters of 7 points or
more."""
_DPI = 200
"""Resolution of PNG files in dots per inch."""
_CHARACTERS = 19
"""Characters per inch of note text."""


def lam_colour(index: int, count: int) -> tuple[float, float, float, float]:
    """Return the colour of the λ at position ``index`` of ``count`` in a sequential map without its lightest end."""
    position = 0.15 + 0.75 * (index / max(count - 1, 1))
    return mpl.colormaps["viridis_r"](position)


def figure_style() -> AbstractContextManager[None]:
    """Apply the style within a ``with`` block; global settings are restored after it."""
    return mpl.rc_context(_STYLE)


def as_label(name: str) -> str:
    """Return a name as a label that legends show; legends leave out labels that begin with an underscore."""
    return f" {name}" if name.startswith("_") else name


def panel_grid(
    count: int, *, x: str, y: str, share_x: bool = True, share_y: bool = True, height: float = 1.25
) -> tuple[Figure, list[Axes]]:
    """Make a figure of ``count`` panels, :data:`TEXT_WIDTH` wide, with labels ``x`` and ``y`` on the outer panels."""
    columns = count if count <= 3 else min(4, 5, key=lambda columns: -count % columns)
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(TEXT_WIDTH, max(height * rows, 1.6) + 0.7), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharex=share_x, sharey=share_y).flatten().tolist()
    for axis in axes[count:]:
        axis.remove()
    for position, axis in enumerate(axes[:count]):
        is_lowest = position + columns >= count
        axis.tick_params(labelbottom=is_lowest or not share_x)
        axis.set_xlabel(x if position // columns == rows - 1 else "")
        axis.set_ylabel("" if position % columns else y)
    return figure, axes[:count]


def save_figure(figure: Figure, folder: Path, name: str, note: str, *, pdf: bool = True) -> None:
    """Write ``name.png`` and, with ``pdf``, ``name.pdf`` with ``note`` (the meaning of the numbers) below the panels.

    Each is drawn once, by its canvas, because ``Figure.savefig`` draws a figure with a layout twice.
    """
    figure.supxlabel(fill(note, int(_CHARACTERS * figure.get_figwidth())), fontsize=7, color="0.35")
    figure.set_dpi(_DPI)
    with replacing(folder / f"{as_file_name(name)}.png") as temporary:
        FigureCanvasAgg(figure).print_png(temporary)  # type: ignore[no-untyped-call]
    if not pdf:
        return
    from matplotlib.backends.backend_pdf import FigureCanvasPdf  # which takes a while to import

    figure.set_layout_engine("none")  # keep one layout, so that both files look the same
    with replacing(folder / f"{as_file_name(name)}.pdf") as temporary:
        FigureCanvasPdf(figure).print_pdf(temporary, metadata={"CreationDate": None})  # type: ignore[no-untyped-call]
