"""Look into an SDNet; :mod:`sdnet_core.visualize` is the command line.

The figures (PNG and PDF) show the images reconstructed from the codes of each layer (feature inversion), the atoms of
the input layer, the codes and their sparsity. The numbers are in ``layers.csv`` and ``reconstructions.npz``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from data_prep.errors import InputError, check_known
from data_prep.files import replacing
from data_prep.pictures import Picture
from sdnet_core.augment import to_images
from sdnet_core.drawing import draw_atoms, draw_codes, draw_layers, draw_reconstructions
from sdnet_core.inversion import LayerCode, explain_limit, invert_codes, invertible_layers, record_codes
from sdnet_core.networks import Network
from sdnet_core.style import figure_style, save_figure

_MOST_IMAGES = 16


def visualize(
    model: Network,
    name: str,
    pictures: Sequence[Picture],
    out: Path,
    *,
    layers: Sequence[str] = (),
    lam: float | None = None,
) -> str | None:
    """Write figures and numbers on the codes of ``pictures`` in ``model`` to ``out``.

    Args:
        model: an SDNet in eval mode.
        name: the model's name in figures.
        pictures: 1 to 16 images of one size.
        out: output folder, created if it is missing.
        layers: names of the layers to draw; if empty, the input layer and the last layer of every block. The numbers
            cover every layer.
        lam: λ of the call; None is the training λ.

    Returns:
        A sentence that explains why some layers have no reconstruction; None if all have one.

    Raises:
        InputError: a network without sparse code, an unknown layer, more than 16 images, a λ out of range.
    """
    if not 1 <= len(pictures) <= _MOST_IMAGES:
        raise InputError(
            f"expected 1 to {_MOST_IMAGES} images for a figure, got {len(pictures)}; name others with --images"
        )
    titles = [picture.title for picture in pictures]
    pixels = torch.from_numpy(np.stack([picture.pixels for picture in pictures]))
    images = to_images(pixels.to(model.normalise.mean.device))
    records = record_codes(model, images, lam)
    shown = _choose_layers(records, layers)
    invertible = invertible_layers(model)
    inverted = {
        record.name: invert_codes(model, records[: index + 1])
        for index, record in enumerate(records)
        if record.name in invertible
    }
    table = tabulate_layers(model, images, records, inverted, titles)
    table.insert(0, "lam", model.lam if lam is None else lam)
    table.insert(0, "model", name)
    arrays: dict[str, Any] = {layer: x.cpu().numpy() for layer, x in {"images": images, **inverted}.items()}
    with replacing(out / "layers.csv") as temporary:
        table.to_csv(temporary, index=False)
    with replacing(out / "reconstructions.npz") as temporary:
        np.savez_compressed(temporary, titles=np.array(titles), **arrays)

    note = f"{name}, λ = {table['lam'].iloc[0]:g}"
    with figure_style():
        atoms = Figure(figsize=(8.0, 0.5 * -(-len(records[0].layer.weight) // 16) + 0.4), layout="constrained")
        draw_atoms(atoms, records[0].layer.weight.detach().permute(0, 2, 3, 1).cpu().numpy())
        save_figure(atoms, out, "atoms", f"{name}: atoms of the input layer")
        save_figure(draw_layers(table), out, "layers", f"{note}; dots: images, line: mean over n = {len(pictures)}")
        drawn = {layer: array.transpose(0, 2, 3, 1) for layer, array in arrays.items() if layer in ("images", *shown)}
        figure = draw_reconstructions(drawn.pop("images"), drawn, titles)
        save_figure(figure, out, "reconstructions", fill(f"{note}; every channel stretched to its own range", 70))
        for position, title in enumerate(titles):
            codes = {record.name: record.code[position].cpu().numpy() for record in records if record.name in shown}
            maps = f"{note}; per layer the maps of most energy Σ z², with their share of it"
            save_figure(draw_codes(codes, title), out, f"codes_{position}", maps)
    return explain_limit(model)


def tabulate_layers(
    model: Network,
    images: Float[Tensor, "n 3 h w"],
    records: Sequence[LayerCode],
    inverted: Mapping[str, Tensor],
    titles: Sequence[str],
) -> pd.DataFrame:
    """Tabulate sparsity, misfit and reconstruction, one row per image and layer.

    Returns:
        Columns ``image`` (its title), ``layer``, ``atoms``, ``height`` and ``width`` of the code; ``sparsity``, the
        fraction of zeros in it; ``misfit``, ‖x − Az‖²/‖x‖² of the layer's own input; ``error``, ‖x̂ − x‖²/‖x‖² of the
        image reconstructed from it, in normalised pixels; ``correlation`` of the two, each channel around its mean. The
        last two are empty for layers without a reconstruction.
    """
    x = model.normalise(images)
    rows = []
    for record in records:
        atoms, height, width = record.code.shape[1:]
        missing = torch.full((len(images),), torch.nan)
        error, correlation = missing, missing
        if record.name in inverted:
            rebuilt = model.normalise(inverted[record.name])
            error = (rebuilt - x).flatten(1).square().sum(1) / x.flatten(1).square().sum(1)
            centred = [(v - v.mean((2, 3), keepdim=True)).flatten(1) for v in (x, rebuilt)]
            correlation = torch.nn.functional.cosine_similarity(*centred)
        values = (record.sparsity(), record.misfit(), error, correlation)
        for title, *numbers in zip(titles, *(value.tolist() for value in values)):
            rows.append([title, record.name, atoms, height, width, *numbers])
    columns = ["image", "layer", "atoms", "height", "width", "sparsity", "misfit", "error", "correlation"]
    return pd.DataFrame(rows, columns=columns)


def _choose_layers(records: Sequence[LayerCode], wanted: Sequence[str]) -> list[str]:
    names = [record.name for record in records]
    check_known(wanted, names, "layers", advice="choose some of them")
    return [name for name in names if (name in wanted if wanted else not name.endswith(".conv1"))]
