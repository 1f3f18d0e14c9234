"""Figures of one SDNet: its gain over the baseline, its residual law, its dictionary and codes."""

from __future__ import annotations

import json

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from robustness.analysis.frames import Run
from robustness.laws import FittedLaw
from sdnet_core.drawing import draw_atoms, hide_axis
from sdnet_core.style import MODEL_COLOURS, MODEL_MARKERS

_POLICIES = ("trained", "validated", "residual")


def draw_against_baseline(run: Run, summary: pd.DataFrame, model: str) -> Figure | None:
    """Per corruption the paired difference of ``model`` to the baseline model, in points, under every honest policy."""
    own = summary[(summary["model"] == model) & summary["versus"].notna() & summary["policy"].isin(_POLICIES)]
    names = [name for name in run.corruptions if name in set(own["perturbation"])]
    if not names:
        return None
    policies = [policy for policy in _POLICIES if policy in set(own["policy"])]
    figure = Figure(figsize=(6.0, 0.28 * len(names) + 1.2), layout="constrained")
    axis = figure.subplots()
    axis.axvline(0, color="0.3", linewidth=0.8)
    for index, policy in enumerate(policies):
        rows = own[own["policy"] == policy].set_index("perturbation").reindex(names)
        places = np.arange(len(names)) + 0.22 * (index - (len(policies) - 1) / 2)
        centre, low, high = (100 * rows[name].to_numpy() for name in ("versus", "versus_low", "versus_high"))
        colour, marker = MODEL_COLOURS[index], MODEL_MARKERS[index]
        bars = np.abs(np.stack([centre - low, high - centre]))
        axis.errorbar(centre, places, xerr=bars, fmt=marker, color=colour, label=policy, elinewidth=1.2, markersize=4)
    axis.set_yticks(range(len(names)), [name.replace("_", " ") for name in names])
    axis.invert_yaxis()
    axis.set_xlabel(f"accuracy of {model} minus that of {run.baseline} (points)")
    figure.legend(title="λ policy", loc="outside upper center", ncols=len(policies), fontsize=8)
    return figure


def draw_law(fitted: FittedLaw, model: str) -> Figure:
    """Best λ of every noise level against its mean residual, a marker per family, and the clipped line."""
    figure = Figure(figsize=(6.6, 3.2), layout="constrained")
    axis = figure.subplots()
    families = list(dict.fromkeys(point.noise for point in fitted.points))
    for index, family in enumerate(families):
        for is_fitted in (True, False):
            points = [p for p in fitted.points if p.noise == family and p.fitted == is_fitted]
            axis.scatter(
                [p.residual for p in points],
                [p.lam for p in points],
                s=22,
                alpha=0.9 if is_fitted else 0.2,
                label=family.replace("_", " ") if is_fitted else None,
                color=MODEL_COLOURS[index % len(MODEL_COLOURS)],
                marker=MODEL_MARKERS[index % len(MODEL_MARKERS)],
            )
    residuals = [point.residual for point in fitted.points] or [0.0, 1.0]
    line = np.linspace(min(residuals), max(residuals), 400)
    quality = "" if fitted.r_squared is None else f", R² = {fitted.r_squared:.2f}"
    law = fitted.law
    axis.plot(
        line, law.lam(line), color="0.2", label=f"λ = {law.slope:.2g} r {law.intercept:+.2g}{quality}".replace("-", "−")
    )
    axis.set_xlabel("mean residual r = ‖x − Az‖² at the λ of training")
    axis.set_ylabel("best λ")
    axis.set_title(model)
    figure.legend(loc="outside right upper", fontsize=7)
    return figure


def draw_dictionary(samples: dict[str, np.ndarray]) -> Figure:
    """Atoms of the input layer, each stretched to its own range, and the code of one image at every λ."""
    codes, lambdas, numbers = samples["codes"].astype(np.float32), samples["lambdas"], samples["code_atoms"]
    figure = Figure(figsize=(1.0 * (codes.shape[1] + 1) + 0.4, 1.0 * len(lambdas) + 2.2), layout="constrained")
    top, bottom = figure.subfigures(2, 1, squeeze=False, height_ratios=[1.4, len(lambdas)])[:, 0]
    top.suptitle(f"atoms of {samples['model']}", fontsize=9)
    draw_atoms(top, samples["atoms"])
    title = json.loads(str(samples["titles"]))[0][0]
    bottom.suptitle(f"code of the first image ({title}): the atoms that answer it most", fontsize=9)
    axes = bottom.subplots(len(lambdas), codes.shape[1] + 1, squeeze=False)
    colours = mpl.colormaps["magma"]
    for row, lam in enumerate(lambdas):
        axes[row, 0].imshow(samples["reconstructed"][0, 0, row], interpolation="nearest")
        axes[row, 0].set_ylabel(f"λ = {lam:g}", fontsize=8)
        for column, number in enumerate(numbers):
            axes[row, column + 1].imshow(codes[row, column], cmap=colours, vmin=0, vmax=codes[:, column].max())
            axes[row, column + 1].set_title(f"atom {number}" if row == 0 else "", fontsize=7)
    axes[0, 0].set_title("A z", fontsize=7)
    for axis in bottom.axes:
        hide_axis(axis)
    return figure
