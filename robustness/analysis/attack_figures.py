"""The figures of attacks: robust accuracy against ε, the λ × λ transfer matrix, adversarial images and their codes."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from robustness.analysis.attacks import Attacks
from robustness.analysis.columns import ACCURACY, to_records
from robustness.analysis.drawings import Drawing, Look, add_legend, model_looks, scale_budgets
from robustness.analysis.frames import Run
from robustness.analysis.tables import describe
from robustness.analysis.texts import MARK_NOTE, SYMBOLS, name_budget, name_setting
from robustness.attack import NORMS, format_eps
from robustness.grids import format_lam, thin_out
from robustness.verdicts import INVALID, OK, SUSPECT
from robustness.which_lam import WhichLam
from sdnet_core.drawing import hide_axis
from sdnet_core.style import TEXT_WIDTH, lam_colour, panel_grid

_POLICY_COLOUR = "#000000"
_MOST_CODES = 4
_CELL = 0.18
"""Inches per number of the transfer matrix."""
_MARKERS = {SUSPECT: "$?$", INVALID: "x"}
_SAMPLED = ("model", "perturbation", "norm", "eps", "lam")
"""Columns that tell whose the sample images of an attack are."""


def list_attack_figures(run: Run, attacks: Attacks) -> Iterator[Drawing]:
    """List the figures of the attacks."""
    lines = "Solid: crafted at that λ (whitebox); dashed: worst case over every λ and policy (adaptive). "
    note = f"{describe(run)}. {lines if attacks.has_lam else ''}Bands: 95 % intervals. {MARK_NOTE}."
    yield Drawing("accuracy_by_eps", note, partial(draw_accuracy_by_eps, run, attacks))
    for (model, attack, norm), group in attacks.transfers.groupby(["model", "perturbation", "norm"], sort=False):
        if group["shown"].nunique() > 1:
            title = f"{model}, {attack} {NORMS[str(norm)]}; {describe(run)}. Right on the clean image, too. "
            title += f"{MARK_NOTE}."
            name = f"transfer_{run.file_names[str(model)]}_{attack}_{norm}"
            yield Drawing(name, title, partial(draw_transfer_matrix, group), of_one=True)
    samples = run.directory.read_samples("attack_samples")
    if samples and not samples.keys() >= {*_SAMPLED}:
        print(
            "note: the figure adversarial_images is left out, as an earlier version stored its images; run the same "
            "command again to draw it",
            file=sys.stderr,
        )
    elif samples:
        own = pd.Series({name: samples[name].item() for name in _SAMPLED})
        if (attacks.rows[[*_SAMPLED]] == own).all(axis=1).any():  # otherwise of another run
            yield Drawing("adversarial_images", _caption(attacks, own), partial(draw_adversarial_images, samples))


def _caption(attacks: Attacks, own: pd.Series[Any]) -> str:
    """Write what the adversarial images of the attack ``own`` are, with its mark unless it is OK."""
    text = f"{own['model']}, {own['perturbation']} {name_budget(own['norm'], own['eps'])}, whitebox at training λ; "
    text += "codes: mean over the atoms of |z(x′) − z(x)|."
    rows = attacks.rows[attacks.rows["threat"] == "whitebox"]
    marked = rows[(rows[[*_SAMPLED]] == own).all(axis=1) & (rows["trust"] != OK)]
    return text + "".join(f" Marked {row['trust']}: {row['trust_reason']}." for row in to_records(marked))


def draw_accuracy_by_eps(run: Run, attacks: Attacks) -> Figure:
    """Draw a panel per attack and norm: accuracy against ε for every model and λ; ε = 0 is natural accuracy."""
    rows = attacks.rows
    panels = [(str(attack), str(norm), g) for (attack, norm), g in rows.groupby(["perturbation", "norm"], sort=False)]
    figure, axes = panel_grid(len(panels), x="ε", y="accuracy (%)", share_x=False, height=2.4)
    clean = run.cells[run.cells["perturbation"] == "clean"]
    natural = {(row["model"], WhichLam.from_row(row)): row for row in to_records(clean)}
    lambdas = sorted(rows["lam"].dropna().unique())
    looks = model_looks(run.models)
    for axis, (attack, norm, group) in zip(axes, panels):
        axis.set_title(f"{attack} {NORMS[norm]}")
        scale = scale_budgets(axis, norm)
        axis.set_xticks([0.0, *(scale * eps for eps in sorted(group["eps"].astype(float).unique()))])
        settings: dict[tuple[str, WhichLam], list[dict[str, Any]]] = {}
        for row in to_records(group[group["threat"] != "transfer"]):
            settings.setdefault((row["model"], WhichLam.from_row(row)), []).append(row)
        for setting, of_setting in settings.items():
            colour = _colour(of_setting[0], lambdas, looks)
            for threat, line in (("whitebox", "-"), ("adaptive", "--")):
                points = [row for row in of_setting if row["threat"] == threat]
                if points:
                    style = {"color": colour, "marker": looks[setting[0]].marker, "linestyle": line}
                    style |= {"label": name_setting(points[0])} if threat == "whitebox" else {}
                    _draw_line(axis, pd.DataFrame([natural[setting], *points]), scale, style)
    add_legend(figure, axes[0], most=3)
    return figure


def _colour(row: dict[str, Any], lambdas: list[float], looks: dict[str, Look]) -> object:
    """Choose a colour: λs from a sequential map, black for the policy, the model's own colour without λ."""
    if row["policy"]:
        return _POLICY_COLOUR
    if row["lam"] in lambdas:
        return lam_colour(lambdas.index(row["lam"]), len(lambdas))
    return looks[row["model"]].colour


def _draw_line(axis: Axes, points: pd.DataFrame, scale: float, style: dict[str, Any]) -> None:
    x = points["eps"].astype(float).fillna(0.0).to_numpy() * scale
    accuracy, low, high = (100 * points[name].to_numpy(dtype=float) for name in ACCURACY)
    if style["linestyle"] == "-":
        axis.fill_between(x, low, high, color=style["color"], alpha=0.06, linewidth=0)
    axis.plot(x, accuracy, **style)
    for mark, symbol in _MARKERS.items():
        marked = (points["trust"] == mark).to_numpy()
        axis.plot(
            x[marked],
            accuracy[marked],
            marker=symbol,
            markersize=8,
            markeredgewidth=1.4,
            color="#C00000",
            linestyle="none",
        )


def draw_transfer_matrix(transfers: pd.DataFrame) -> Figure:
    """Draw a panel per ε: a row per λ that images are crafted for, a column per λ of the evaluation."""
    panels = list(transfers.groupby("eps", sort=True))
    choices = list(dict.fromkeys(transfers["crafted"]))
    columns = max(1, min(len(panels), int(TEXT_WIDTH / (_CELL * len(choices) + 0.35))))
    rows, side = -(-len(panels) // columns), min(2.2, (TEXT_WIDTH - 0.5) / columns)
    figure = Figure(figsize=(TEXT_WIDTH, rows * (side + 0.35) + 0.5), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for axis in axes[len(panels) :]:
        axis.remove()
    names = [format_lam(choice) if isinstance(choice, float) else str(choice) for choice in choices]
    for position, (axis, (eps, group)) in enumerate(zip(axes, panels)):
        tables = {name: group.pivot(index="crafted", columns="shown", values=name) for name in ("accuracy", "trust")}
        matrix, marks = (table.reindex(index=choices, columns=choices).to_numpy() for table in tables.values())
        axis.imshow(100 * matrix, vmin=0, vmax=100, cmap="viridis", aspect="auto")
        for (row, column), value in np.ndenumerate(matrix):
            colour = "white" if value < 0.6 else "black"
            text = "" if np.isnan(value) else f"{100 * value:.0f}{SYMBOLS[str(marks[row, column])]}"
            axis.text(column, row, text, ha="center", va="center", color=colour, fontsize=7)
        axis.set_title(f"ε = {format_eps(float(str(eps)), str(group['norm'].iloc[0]))}: accuracy (%)")
        axis.set_xticks(range(len(names)), names, fontsize=7, rotation=45)
        axis.set_yticks(range(len(names)), [] if position % columns else names, fontsize=7)
        axis.set_xlabel("shown at λ" if position // columns == rows - 1 else "")
        axis.set_ylabel("" if position % columns else "crafted for λ")
        axis.grid(visible=False)
        axis.spines[:].set_visible(False)
    return figure


def draw_adversarial_images(samples: dict[str, np.ndarray]) -> Figure:
    """Draw a row per image: clean, adversarial, the perturbation (±ε stretched to 0 and 1), the code's change."""
    labels = json.loads(str(samples["answers"]))
    everywhere, eps = samples["lambdas"].tolist(), float(samples["eps"])
    lambdas = thin_out(everywhere, _MOST_CODES, set())
    columns = [everywhere.index(lam) for lam in lambdas]
    n_rows = len(labels)
    titles = ["clean", "adversarial", f"perturbation\n× {0.5 / eps:.0f}"]
    titles += [f"code,\nλ = {format_lam(lam)}" for lam in lambdas]
    side = (TEXT_WIDTH - 0.2) / len(titles)
    figure = Figure(figsize=(TEXT_WIDTH, (side + 0.25) * n_rows + 0.6), layout="constrained")
    axes = figure.subplots(n_rows, len(titles), squeeze=False)
    for row in range(n_rows):
        change = samples["code_change"][row][columns]
        clean, adversarial = samples["clean"][row], samples["adversarial"][row]
        perturbation = (0.5 + (adversarial - clean / 255) / (2 * eps)).clip(0, 1)
        for axis, picture in zip(axes[row], [clean, adversarial, perturbation]):
            axis.imshow(picture, interpolation="nearest")
        for axis, picture in zip(axes[row, 3:], change):
            axis.imshow(picture, interpolation="nearest", cmap="magma", vmin=0, vmax=max(float(change.max()), 1e-9))
        for axis, text in zip(axes[row, :2], labels[row]):
            axis.set_xlabel(text, fontsize=7)
    for axis, title in zip(axes[0], titles):
        axis.set_title(title, fontsize=7)
    for axis in axes.flat:
        hide_axis(axis)
    return figure
