"""Figures of dictionaries, codes and reconstructions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase

from sdnet_core.style import MODEL_COLOURS, MODEL_MARKERS

_MOST_ATOMS = 64
_MOST_MAPS = 8


def draw_atoms(figure: FigureBase, atoms: np.ndarray) -> None:
    """Draw the first 64 atoms, each stretched to its own range, 16 in a row, with their numbers.

    Args:
        figure: an empty figure or subfigure.
        atoms: the dictionary of an input layer, (D, k, k, 3).
    """
    shown = stretch(atoms[:_MOST_ATOMS], axes=(1, 2, 3))
    columns = min(len(shown), 16)
    axes = figure.subplots(-(-len(shown) // columns), columns, squeeze=False).flatten()
    for number, (axis, atom) in enumerate(zip(axes, shown)):
        axis.imshow(atom, interpolation="nearest")
        axis.set_title(str(number), fontsize=7, pad=2)
    for axis in axes:
        hide_axis(axis)


def draw_codes(codes: Mapping[str, np.ndarray], title: str) -> Figure:
    """Draw the code of one image: for each layer a row of the eight maps with the most energy Σ z².

    Args:
        codes: the code of each layer by its name, (D, H, W), non-negative.
        title: title of the image.
    """
    figure = Figure(figsize=(_MOST_MAPS + 0.8, len(codes) + 0.5), layout="constrained")
    figure.suptitle(title, fontsize=9)
    axes = figure.subplots(len(codes), _MOST_MAPS, squeeze=False)
    for row, (name, code) in zip(axes, codes.items()):
        energy = np.square(code).sum((1, 2))
        row[0].set_ylabel(name.replace(".", "\n", 1), fontsize=7)
        for axis, number in zip(row, np.argsort(-energy, kind="stable")):
            share = energy[number] / max(energy.sum(), np.finfo(energy.dtype).tiny)
            axis.imshow(code[number], cmap=mpl.colormaps["magma"], vmin=0, interpolation="nearest")
            axis.set_title(f"atom {number}: {share:.0%}", fontsize=6)
    for axis in axes.flat:
        hide_axis(axis)
    return figure


def draw_reconstructions(images: np.ndarray, inverted: Mapping[str, np.ndarray], titles: Sequence[str]) -> Figure:
    """Draw a row per image: the image, then its reconstruction from each layer's code.

    Args:
        images: (N, H, W, 3) in [0, 1].
        inverted: the reconstructions (N, H, W, 3) of each layer by its name, shown with every channel stretched to its
            own range, because deep layers change brightness and contrast.
        titles: titles of the images.
    """
    pictures = {"image": images, **{name: stretch(x, axes=(1, 2)) for name, x in inverted.items()}}
    figure = Figure(figsize=(1.05 * len(pictures) + 0.5, 1.05 * len(images) + 0.6), layout="constrained")
    axes = figure.subplots(len(images), len(pictures), squeeze=False)
    for column, (name, shown) in zip(axes.T, pictures.items()):
        column[0].set_title(name.replace(".", "\n", 1), fontsize=7)
        for axis, picture in zip(column, shown):
            axis.imshow(picture, interpolation="nearest")
            hide_axis(axis)
    for axis, title in zip(axes[:, 0], titles):
        axis.set_ylabel(title.replace(": ", "\n"), fontsize=6)
    return figure


def draw_layers(table: pd.DataFrame) -> Figure:
    """Draw sparsity, unexplained part of the input and correlation of the reconstruction, by layer.

    Args:
        table: the table in ``layers.csv``. Each point is one image; the line is the mean.
    """
    panels = {
        "sparsity": "zeros in the code (%)",
        "misfit": "left out of the layer's input,\n‖x − Az‖²/‖x‖² (%)",
        "correlation": "correlation of image\nand reconstruction",
    }
    names = list(dict.fromkeys(table["layer"]))
    figure = Figure(figsize=(max(0.3 * len(names), 4.0) + 1.2, 5.5), layout="constrained")
    for index, (axis, (field, label)) in enumerate(zip(figure.subplots(3, 1, sharex=True), panels.items())):
        factor = 1.0 if field == "correlation" else 100.0
        places = table["layer"].map(names.index)
        colour = MODEL_COLOURS[index]
        axis.scatter(places, factor * table[field], s=6, alpha=0.4, color=colour, linewidth=0)
        means = factor * table.groupby("layer", sort=False)[field].mean()
        axis.plot(range(len(names)), means.to_numpy(), color=colour, marker=MODEL_MARKERS[index])
        axis.set_ylabel(label, fontsize=8)
        axis.set_ylim(bottom=min(0.0, float(np.nanmin(factor * table[field]))))
    axis.set_xticks(range(len(names)), names, rotation=90)
    return figure


def stretch(pictures: np.ndarray, *, axes: tuple[int, ...]) -> np.ndarray:
    """Map ``pictures`` linearly so that their extremes over ``axes`` become 0 and 1; constant ones become 0."""
    low, high = pictures.min(axis=axes, keepdims=True), pictures.max(axis=axes, keepdims=True)
    stretched: np.ndarray = (pictures - low) / np.where(high > low, high - low, 1.0)
    return stretched


def hide_axis(axis: Axes) -> None:
    """Remove ticks, grid and frame, for pictures."""
    axis.set(xticks=[], yticks=[])
    axis.grid(visible=False)
    axis.spines[:].set_visible(False)
