"""The figures of a run: accuracy against λ, accuracy against severity, images next to their reconstructions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from robustness.analysis.columns import select_lam
from robustness.analysis.drawings import Drawing, Look, add_legend, model_looks
from robustness.analysis.findings import Findings
from robustness.analysis.frames import Run
from robustness.analysis.model_figures import draw_against_baseline, draw_dictionary, draw_law, has_comparison
from robustness.analysis.samples import has_codes, read_samples
from robustness.analysis.shifts import list_shift_figures
from robustness.analysis.tables import describe, own_up
from robustness.grids import format_lam, thin_out
from sdnet_core.drawing import hide_axis
from sdnet_core.style import MODEL_MARKERS, TEXT_WIDTH, as_label, lam_colour, panel_grid

MOST_MODELS = 8
"""Largest number of models in one figure; with more models, the first are compared."""
_MOST_LINES = 5
_MOST_IMAGES = 5
_CHARACTERS = 100
"""Characters per line of the legend."""


def list_figures(findings: Findings) -> Iterator[Drawing]:
    """List the figures of clean and corrupted images, of λ and of the models; see :data:`MOST_MODELS`."""
    run = findings.run
    about = f"{describe(run)}."
    if run.corrupted["lam"].nunique() > 1:
        note = f"{about} Mean over the severities; every panel has its own scale. Bands: 95 % intervals. "
        note += "Ring: training λ."
        if len(run.models) > MOST_MODELS:
            note += f" The first {MOST_MODELS} of {len(run.models)} models."
        yield Drawing("accuracy_by_lambda", note, partial(draw_accuracy_by_lambda, run, findings.summary))
    if (run.corrupted["severity"] > 0).any():
        note = f"{about} Every panel has its own scale. Bands: 95 % intervals."
        if len(run.models) > MOST_MODELS:
            note += f" The first {MOST_MODELS} of {len(run.models)} models by rank."
        yield Drawing("accuracy_by_severity", note, partial(draw_models_by_severity, findings))
    with_lam = {*run.corrupted.loc[(run.corrupted["severity"] > 0) & run.corrupted["lam"].notna(), "model"]}
    for model in run.models:
        if model in with_lam:
            note = f"{about} Every panel has its own scale. 95 % intervals of all λs: cells.csv."
            note += own_up(run, model)
            name = f"accuracy_by_severity_{run.file_names[model]}"
            yield Drawing(name, note, partial(draw_accuracy_by_severity, run, model), of_one=True)
        if has_comparison(findings.summary, model):
            note = f"{about} Mean over the severities, paired by image; error bars: 95 % intervals."
            note += own_up(run, model)
            draw = partial(draw_against_baseline, run, findings.summary, model)
            yield Drawing(f"against_baseline_{run.file_names[model]}", note, draw, of_one=True)
    for model in run.models:
        law = run.laws.get(model)
        if law is None:
            continue
        data = law.provenance.get("data", {})
        note = f"Training images: {data.get('title')}, n = {data.get('n')}. r is summed over the normalised values "
        note += "of an image. Bars: standard error of the best λ, which weighs the line; faint ones are not fitted."
        yield Drawing(f"residual_law_{run.file_names[model]}", note, partial(draw_law, law, model), of_one=True)
    yield from list_shift_figures(findings.shifts)
    samples = read_samples(run)
    if samples and has_codes(samples):
        yield Drawing("dictionary", run.record["data"]["title"], partial(draw_dictionary, samples))
        note = f"{run.record['data']['title']}; A z: reconstruction from the input code of {samples['model']}; "
        note += "below it the root mean square of x − A z, in steps of 1/255, and x − A z, grey where it is 0."
        yield Drawing("samples", note, partial(draw_samples, samples))


def draw_accuracy_by_lambda(run: Run, summary: pd.DataFrame) -> Figure:
    """Draw a panel per perturbation: mean accuracy over severities against λ; horizontal lines for models without λ.

    Draws the first :data:`MOST_MODELS` models.
    """
    names = [name for name in ["clean", *run.corruptions] if name in set(summary["perturbation"])]
    figure, axes = panel_grid(len(names), x="λ at test time", y="accuracy (%)", share_y=False)
    looks, shown = model_looks(run.models), run.models[:MOST_MODELS]
    found = dict(iter(summary[summary["model"].isin(shown)].groupby(["perturbation", "model"])))
    for axis, name in zip(axes, names):
        axis.set_title(name.replace("_", " "))
        for model in shown:
            if (name, model) in found:
                _draw_model(axis, found[name, model], model, looks[model])
    add_legend(figure, axes[0])
    return figure


def _draw_model(axis: Axes, rows: pd.DataFrame, model: str, look: Look) -> None:
    colour, marker = look.colour, look.marker
    for _, row in rows[rows["policy"] == "none"].iterrows():
        axis.axhspan(100 * row["ci_low"], 100 * row["ci_high"], color=colour, alpha=0.15, linewidth=0)
        axis.axhline(100 * row["accuracy"], color=colour, linestyle="--", label=as_label(model))
    fixed = rows[rows["policy"] == "fixed"].sort_values("lam")
    if len(fixed):
        axis.fill_between(fixed["lam"], 100 * fixed["ci_low"], 100 * fixed["ci_high"], color=colour, alpha=0.15, lw=0)
        axis.plot(fixed["lam"], 100 * fixed["accuracy"], color=colour, marker=marker, label=as_label(model))
    for _, row in rows[rows["policy"] == "trained"].iterrows():
        axis.plot(row["lam"], 100 * row["accuracy"], marker, color=colour, markersize=7, fillstyle="none")


def draw_accuracy_by_severity(run: Run, model: str) -> Figure:
    """Draw a panel per corruption: accuracy of ``model`` against severity at some λs; other models without λ dashed."""
    cells = run.corrupted[run.corrupted["severity"] > 0]
    figure, axes = panel_grid(len(run.corruptions), x="severity", y="accuracy (%)", share_y=False)
    looks = model_looks(run.models)
    axes[0].set_xticks(sorted(cells["severity"].unique()))
    cells = cells[(cells["model"] == model) | cells["lam"].isna()]
    own = cells[cells["model"] == model]
    lambdas = thin_out(sorted(own["lam"].dropna().unique()), _MOST_LINES, set(own["trained_lam"]))
    for axis, name in zip(axes, run.corruptions):
        axis.set_title(name.replace("_", " "))
        here = cells[cells["perturbation"] == name].sort_values("severity")
        for other, rows in here[here["lam"].isna()].groupby("model", sort=False):
            _draw_severities(axis, rows, str(other), looks[str(other)].colour, "--", "none")
        for index, lam in enumerate(lambdas):
            rows = here[(here["model"] == model) & (here["lam"] == lam)]
            colour, marker = lam_colour(index, len(lambdas)), MODEL_MARKERS[index % 7]
            _draw_severities(axis, rows, f"λ = {format_lam(lam)}", colour, "-", marker)
    add_legend(figure, axes[0], title=model)
    return figure


def draw_models_by_severity(findings: Findings) -> Figure:
    """Draw a panel per corruption: accuracy of every model, without λ or at its training λ, against severity.

    Draws the first :data:`MOST_MODELS` models of the ranking.
    """
    run = findings.run
    cells = run.corrupted[run.corrupted["severity"] > 0].sort_values("severity")
    figure, axes = panel_grid(len(run.corruptions), x="severity", y="accuracy (%)", share_y=False)
    looks, table = model_looks(run.models), findings.board.table.head(MOST_MODELS)
    axes[0].set_xticks(sorted(cells["severity"].unique()))
    settings = [
        (model if pd.isna(lam) else f"{model}, λ = {format_lam(lam)}", looks[model], select_lam(cells, model, lam))
        for model, lam in zip(table["model"], table["lam"])
    ]
    for axis, name in zip(axes, run.corruptions):
        axis.set_title(name.replace("_", " "))
        for title, look, own in settings:
            rows = own[own["perturbation"] == name]
            low, high = 100 * rows["ci_low"], 100 * rows["ci_high"]
            axis.fill_between(rows["severity"], low, high, color=look.colour, alpha=0.12, linewidth=0)
            _draw_severities(axis, rows, title, look.colour, "-", look.marker)
    longest = max((len(title) for title, _, _ in settings), default=1)
    add_legend(figure, axes[0], most=max(1, _CHARACTERS // (longest + 6)))
    return figure


def _draw_severities(axis: Axes, rows: pd.DataFrame, label: str, colour: object, line: str, marker: str) -> None:
    axis.plot(
        rows["severity"], 100 * rows["accuracy"], line, color=colour, marker=marker, label=as_label(label), linewidth=1
    )


def draw_samples(samples: dict[str, np.ndarray]) -> Figure:
    """Draw one image under several perturbations, its reconstruction A z at several λs, and below it the difference."""
    titles = json.loads(str(samples["titles"]))
    rows = np.linspace(0, len(titles) - 1, min(len(titles), _MOST_IMAGES)).round().astype(int)
    lambdas = samples["lambdas"].tolist()
    columns = [lambdas.index(lam) for lam in thin_out(lambdas, _MOST_LINES, set())]
    perturbed, rebuilt = samples["perturbed"][rows, 0], samples["reconstructed"][rows, 0][:, columns]
    rest = perturbed[:, None] / 255 - rebuilt / 255
    n_columns = 1 + len(columns)
    size = (TEXT_WIDTH, 2 * len(rows) * (TEXT_WIDTH - 0.9) / n_columns + 0.8)
    figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.03, wspace=0.02, hspace=0.0))
    axes = figure.subplots(2 * len(rows), n_columns, squeeze=False)
    for place, row in enumerate(rows):
        above, below = axes[2 * place], axes[2 * place + 1]
        above[0].imshow(perturbed[place], interpolation="nearest")
        name, severity = titles[row]
        above[0].set_ylabel(f"{name} {severity or ''}".strip().replace("_", "\n"), fontsize=7)
        below[0].text(0.5, 0.5, "x − A z", ha="center", va="center", fontsize=7)
        for column in range(len(columns)):
            above[column + 1].imshow(rebuilt[place, column], interpolation="nearest")
            below[column + 1].imshow((0.5 + rest[place, column] / 2).clip(0, 1), interpolation="nearest")
            error = 255 * float(np.sqrt(np.square(rest[place, column]).mean()))
            above[column + 1].set_xlabel(f"{error:.1f}", fontsize=7, labelpad=1)
    for axis, title in zip(axes[0], ["input x", *(f"A z, λ = {format_lam(lambdas[column])}" for column in columns)]):
        axis.set_title(title, fontsize=7)
    for axis in axes.flat:
        hide_axis(axis)
    return figure
