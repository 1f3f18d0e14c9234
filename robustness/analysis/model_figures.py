"""Figures of one SDNet: its gain over the baseline, its residual law, its dictionary and codes."""

from __future__ import annotations

import json

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from robustness.analysis.drawings import family_look, policy_look
from robustness.analysis.frames import Run
from robustness.analysis.summary import group_corruptions
from robustness.grids import format_lam
from robustness.laws import Family, FittedLaw
from robustness.policies import ResidualLaw, is_upper_bound
from sdnet_core.drawing import draw_atoms, hide_axis
from sdnet_core.style import TEXT_WIDTH

_NO_CHOICE = ("none", "fixed")
_MOST_ROWS = 8
"""Largest number of λs whose codes are drawn; a finer grid is thinned evenly."""


def has_comparison(summary: pd.DataFrame, model: str) -> bool:
    """Check whether :func:`draw_against_baseline` has anything to show for ``model``."""
    return len(_compared(summary, model)) > 0


def _compared(summary: pd.DataFrame, model: str) -> pd.DataFrame:
    """Select the rows of ``model`` with a difference from the baseline model, without fixed λs and upper bounds."""
    own = summary[(summary["model"] == model) & summary["versus"].notna() & (summary["perturbation"] != "clean")]
    return own[[name not in _NO_CHOICE and not is_upper_bound(name) for name in own["policy"]]]


def draw_against_baseline(run: Run, summary: pd.DataFrame, model: str) -> Figure:
    """Draw the paired difference of ``model`` from the baseline model, in points: per corruption and in the mean.

    Shows the training λ and every policy that uses no test labels.
    """
    own = _compared(summary, model)
    policies = list(own["policy"].unique())
    names = [name for name in [*run.corruptions, *group_corruptions(run)] if name in set(own["perturbation"])]
    figure = Figure(figsize=(TEXT_WIDTH, 0.24 * len(names) + 1.2), layout="constrained")
    axis = figure.subplots()
    axis.axvline(0, color="0.3", linewidth=0.8)
    for index, policy in enumerate(policies):
        rows = own[own["policy"] == policy].set_index("perturbation").reindex(names)
        places = np.arange(len(names)) + 0.66 * (index - (len(policies) - 1) / 2) / len(policies)
        centre, low, high = (100 * rows[name].to_numpy() for name in ("versus", "versus_low", "versus_high"))
        bars, look = np.abs(np.stack([centre - low, high - centre])), policy_look(policy)
        axis.errorbar(
            centre, places, xerr=bars, fmt=look.marker, color=look.colour, label=policy, elinewidth=1, markersize=3.5
        )
    if names[-1] not in run.corruptions:
        axis.axhline(len([name for name in names if name in run.corruptions]) - 0.5, color="0.6", linewidth=0.6)
    axis.set_yticks(range(len(names)), [name.replace("_", " ") for name in names])
    axis.invert_yaxis()
    axis.set_xlabel(f"accuracy of {model} minus accuracy of {run.baseline} (points)")
    figure.legend(title="λ policy", loc="outside upper center", ncols=len(policies))
    return figure


def draw_law(fitted: FittedLaw, model: str) -> Figure:
    """Draw every level's best λ ± its standard error against its residual, the clipped law, and family lines."""
    figure = Figure(figsize=(TEXT_WIDTH, 3.4), layout="constrained")
    axis = figure.subplots()
    law = fitted.law
    residuals = [point.residual for point in fitted.points] or [0.0, 1.0]
    pooled = np.linspace(min(residuals), max(residuals), 400)
    axis.plot(pooled, law.lam(pooled), color="0.2", linewidth=2, label=f"all: {describe_line(law, fitted.r_squared)}")
    for family in fitted.families():
        look, label = family_look(family.noise), family.noise.replace("_", " ")
        if np.isfinite(family.slope):
            ends = np.array(family.span)
            axis.plot(ends, family.slope * ends + family.intercept, color=look.colour, linewidth=1)
            label += f": {describe_line(family, family.r_squared)}"
        for is_fitted in (True, False):
            points = [point for point in family.points if point.fitted == is_fitted]
            axis.errorbar(
                [point.residual for point in points],
                [point.lam for point in points],
                yerr=[point.spread for point in points],
                linestyle="",
                markersize=4,
                elinewidth=0.6,
                alpha=0.9 if is_fitted else 0.25,
                color=look.colour,
                marker=look.marker,
                label=label if is_fitted else None,
            )
    axis.set_ylim(0, 1.08 * max([law.highest, *(point.lam for point in fitted.points)]))
    axis.set_xlabel("mean residual r = ‖x − Az‖² at the training λ (normalised pixels)")
    axis.set_ylabel("best λ")
    axis.set_title(model)
    figure.legend(loc="outside upper center", ncols=2)
    return figure


def describe_line(line: ResidualLaw | Family, r_squared: float | None) -> str:
    """Write the equation of a line: ``λ = 0.00034 r − 0.37, R² = 0.24``."""
    quality = "" if r_squared is None else f", R² = {r_squared:.2f}"
    sign = "−" if line.intercept < 0 else "+"
    return f"λ = {line.slope:.2g} r {sign} {abs(line.intercept):.2g}{quality}".replace("-", "−")


def draw_dictionary(samples: dict[str, np.ndarray]) -> Figure:
    """Draw the atoms of the input layer, each stretched to its own range, and one image's code at up to eight λs."""
    rows = np.unique(np.linspace(0, len(samples["lambdas"]) - 1, _MOST_ROWS).round().astype(int))
    lambdas, numbers = samples["lambdas"][rows], samples["code_atoms"]
    codes, reconstructed = samples["codes"][rows].astype(np.float32), samples["reconstructed"][0, 0, rows]
    side = (TEXT_WIDTH - 0.5) / (codes.shape[1] + 1)
    atom_rows = -(-min(len(samples["atoms"]), 64) // 16)
    heights = [0.55 * atom_rows + 0.3, (side + 0.05) * len(lambdas) + 0.5]
    figure = Figure(figsize=(TEXT_WIDTH, sum(heights) + 0.2), layout="constrained")
    top, bottom = figure.subfigures(2, 1, squeeze=False, height_ratios=heights)[:, 0]
    top.suptitle(f"atoms of {samples['model']}, by their numbers", fontsize=8)
    draw_atoms(top, samples["atoms"])
    title = json.loads(str(samples["titles"]))[0][0]
    bottom.suptitle(f"code of the first image ({title}): the atoms that answer it most", fontsize=8)
    axes = bottom.subplots(len(lambdas), codes.shape[1] + 1, squeeze=False)
    colours = mpl.colormaps["magma"]
    for row, lam in enumerate(lambdas):
        axes[row, 0].imshow(reconstructed[row], interpolation="nearest")
        axes[row, 0].set_ylabel(f"λ = {format_lam(lam)}", fontsize=7)
        for column, number in enumerate(numbers):
            axes[row, column + 1].imshow(codes[row, column], cmap=colours, vmin=0, vmax=codes[:, column].max())
            axes[row, column + 1].set_title(f"atom {number}" if row == 0 else "", fontsize=7)
    axes[0, 0].set_title("A z", fontsize=7)
    for axis in bottom.axes:
        hide_axis(axis)
    return figure
