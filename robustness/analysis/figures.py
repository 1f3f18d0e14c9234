"""The figures of a run: accuracy against λ, accuracy against severity, images beside their reconstructions."""

from __future__ import annotations

import json
from textwrap import fill

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from robustness.analysis.findings import Findings
from robustness.analysis.frames import Run
from robustness.analysis.model_figures import draw_against_baseline, draw_dictionary, draw_law
from robustness.analysis.tables import describe
from sdnet_core.style import (
    MODEL_COLOURS,
    MODEL_MARKERS,
    figure_style,
    lam_colour,
    panel_grid,
    save_figure,
)

_MOST_ROWS = 16


def write_figures(findings: Findings) -> None:
    """Draw every figure that the run has outcomes for into its folder ``figures``."""
    run = findings.run
    folder = run.directory.path / "figures"
    note = f"{describe(run)}. Bands: 95 % intervals."
    with figure_style():
        if run.corrupted["lam"].nunique() > 1:
            full_note = f"{note} Mean over the severities. Ring: λ of training."
            save_figure(
                draw_accuracy_by_lambda(run, findings.summary), folder, "accuracy_by_lambda", fill(full_note, 120)
            )
        for model in run.models:
            measured = run.corrupted[(run.corrupted["model"] == model) & (run.corrupted["severity"] > 0)]
            if len(measured) and measured["lam"].notna().any():
                name = f"accuracy_by_severity_{model}"
                save_figure(draw_accuracy_by_severity(run, model), folder, name, fill(note, 120))
            figure = draw_against_baseline(run, findings.summary, model)
            if figure is not None:
                save_figure(figure, folder, f"against_baseline_{model}", fill(f"{note} Paired by image.", 100))
        for model, law in run.laws.items():
            data = law.provenance.get("data", {})
            fitted_on = f"Training images: {data.get('title')}, n = {data.get('n')}. Faint: not fitted."
            save_figure(draw_law(law, model), folder, f"residual_law_{model}", fill(fitted_on, 90))
        samples = run.directory.read_samples()
        if samples:
            save_figure(draw_dictionary(samples), folder, "dictionary", fill(run.record["data"]["title"], 70))
            title = f"{run.record['data']['title']}; A z: reconstruction from the input code of {samples['model']}"
            save_figure(draw_samples(samples), folder, "samples", fill(title, 70))


def draw_accuracy_by_lambda(run: Run, summary: pd.DataFrame) -> Figure:
    """A panel per perturbation: mean accuracy over its severities against λ; models without λ are horizontal lines."""
    names = [name for name in ["clean", *run.corruptions] if name in set(summary["perturbation"])]
    figure, axes = panel_grid(len(names), x="λ at test time", y="accuracy (%)")
    for axis, name in zip(axes, names):
        axis.set_title(name.replace("_", " "))
        for index, model in enumerate(run.models):
            rows = summary[(summary["perturbation"] == name) & (summary["model"] == model)]
            _draw_model(axis, rows, model, index)
    _add_legend(figure, axes[0])
    return figure


def _draw_model(axis: Axes, rows: pd.DataFrame, model: str, index: int) -> None:
    colour, marker = MODEL_COLOURS[index % len(MODEL_COLOURS)], MODEL_MARKERS[index % len(MODEL_MARKERS)]
    for _, row in rows[rows["policy"] == "none"].iterrows():
        axis.axhspan(100 * row["ci_low"], 100 * row["ci_high"], color=colour, alpha=0.15, linewidth=0)
        axis.axhline(100 * row["accuracy"], color=colour, linestyle="--", label=model)
    fixed = rows[rows["policy"] == "fixed"].sort_values("lam")
    if len(fixed):
        axis.fill_between(fixed["lam"], 100 * fixed["ci_low"], 100 * fixed["ci_high"], color=colour, alpha=0.15, lw=0)
        axis.plot(fixed["lam"], 100 * fixed["accuracy"], color=colour, marker=marker, label=model)
    for _, row in rows[rows["policy"] == "trained"].iterrows():
        axis.plot(row["lam"], 100 * row["accuracy"], marker, color=colour, markersize=7, fillstyle="none")


def draw_accuracy_by_severity(run: Run, model: str) -> Figure:
    """A panel per corruption: accuracy of ``model`` against severity, a line per λ; other models without λ dashed."""
    cells = run.corrupted[run.corrupted["severity"] > 0]
    figure, axes = panel_grid(len(run.corruptions), x="severity", y="accuracy (%)")
    own = cells[cells["model"] == model]
    lambdas = sorted(own["lam"].dropna().unique())
    for axis, name in zip(axes, run.corruptions):
        axis.set_title(name.replace("_", " "))
        for index, lam in enumerate(lambdas):
            rows = own[(own["perturbation"] == name) & (own["lam"] == lam)].sort_values("severity")
            _draw_severities(axis, rows, f"λ = {lam:g}", lam_colour(index, len(lambdas)), "-")
        plain = cells[(cells["perturbation"] == name) & cells["lam"].isna()]
        for index, (other, rows) in enumerate(plain.groupby("model", sort=False)):
            _draw_severities(axis, rows.sort_values("severity"), str(other), MODEL_COLOURS[1 + index], "--")
    _add_legend(figure, axes[0], title=model)
    return figure


def _draw_severities(axis: Axes, rows: pd.DataFrame, label: str, colour: object, line: str) -> None:
    accuracy, low, high = (100 * rows[name].to_numpy() for name in ("accuracy", "ci_low", "ci_high"))
    axis.fill_between(rows["severity"], low, high, color=colour, alpha=0.12, linewidth=0)
    axis.plot(rows["severity"], accuracy, line, color=colour, marker=".", label=label)


def draw_samples(samples: dict[str, np.ndarray]) -> Figure:
    """One image under several perturbations (rows), and its reconstruction A z at every λ (columns)."""
    titles = json.loads(str(samples["titles"]))[:_MOST_ROWS]
    perturbed, reconstructed = samples["perturbed"][:_MOST_ROWS, 0], samples["reconstructed"][:_MOST_ROWS, 0]
    pictures = np.concatenate([perturbed[:, None], reconstructed], axis=1)
    n_rows, n_columns, side = pictures.shape[:3]
    gap = side // 12
    framed = np.pad(pictures, ((0, 0), (0, 0), (0, gap), (0, gap), (0, 0)), constant_values=255)
    mosaic = framed.transpose(0, 2, 1, 3, 4).reshape(n_rows * (side + gap), -1, 3)
    figure = Figure(figsize=(0.95 * n_columns + 1.0, 0.95 * n_rows + 0.6), layout="constrained")
    axis = figure.subplots()
    axis.imshow(mosaic, interpolation="nearest")
    centres = (side + gap) * np.arange(max(n_columns, n_rows)) + side / 2
    axis.set_xticks(centres[:n_columns], ["input", *(f"A z, λ = {lam:g}" for lam in samples["lambdas"])], fontsize=7)
    names = [f"{name} {severity or ''}".strip().replace("_", "\n") for name, severity in titles]
    axis.set_yticks(centres[:n_rows], names, fontsize=7)
    axis.tick_params(length=0, labeltop=True, labelbottom=False)
    axis.spines[:].set_visible(False)
    axis.grid(visible=False)
    return figure


def _add_legend(figure: Figure, axis: Axes, title: str | None = None) -> None:
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, title=title, loc="outside upper center", ncols=min(len(labels), 6), fontsize=8)
