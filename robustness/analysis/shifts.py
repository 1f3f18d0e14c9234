"""Natural shifts: accuracy compared with accuracy on clean images of the same classes, and effective robustness."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from data_prep.files import as_file_name
from data_prep.shifts import SHIFTS
from robustness.analysis.columns import ACCURACY, to_key
from robustness.analysis.drawings import Drawing
from robustness.analysis.frames import Run
from robustness.analysis.texts import format_value, name_setting
from sdnet_core.style import MODEL_COLOURS, MODEL_MARKERS, TEXT_WIDTH, as_label

FEWEST = 3
"""Fewest models that a line is fitted to: two always lie on one."""
_VALUES = ("n", *ACCURACY)
SHIFT_NOTE = (
    "Accuracy under every shift and on the clean images of the same classes, each as its paper asks. Effective "
    f"robustness: points above the line that the logits of the other models make, of at least {FEWEST} others."
)


def tabulate_shifts(run: Run) -> pd.DataFrame:
    """Tabulate accuracy under every shift next to accuracy on the clean images of its classes.

    Returns:
        A row per shift, model and λ: ``shift`` (title), ``protocol``, ``model, lam, n, accuracy, ci_low, ci_high``, the
        last four once more with ``clean_``, and the columns of :func:`add_effective_robustness`. Accuracies are shares
        with Wilson's 95 % interval. A shift whose clean cell is missing is left out.
    """
    clean = run.corrupted[run.corrupted["perturbation"] == "clean"].assign(shift="")
    cells = pd.concat([clean, run.shifted])
    is_clean = cells["perturbation"] == "clean"
    place = list(zip(cells["shift"], cells["model"], map(to_key, cells["lam"])))
    beside = dict(zip((key for key, keep in zip(place, is_clean) if keep), cells[is_clean][list(_VALUES)].to_numpy()))
    rows = []
    for (name, model, lam), (_, cell) in zip(place, cells.iterrows()):
        found = beside.get((name, model, lam), beside.get(("", model, lam)))
        if cell["perturbation"] in SHIFTS and found is not None:
            row = {"shift": SHIFTS[name].title, "protocol": SHIFTS[name].protocol, "model": model, "lam": cell["lam"]}
            row |= {value: cell[value] for value in _VALUES}
            rows.append(row | {f"clean_{value}": number for value, number in zip(_VALUES, found)})
    columns = ["shift", "protocol", "model", "lam", *_VALUES, *(f"clean_{value}" for value in _VALUES)]
    table = pd.DataFrame(rows, columns=columns).astype({"n": int, "clean_n": int})
    return add_effective_robustness(table)


def logit(accuracy: ArrayLike, n: ArrayLike) -> NDArray[np.float64]:
    """Compute log(p / (1 − p)), with p kept half an image away from 0 and 1 of ``n``."""
    margin = 0.5 / np.asarray(n, float)
    p = np.clip(np.asarray(accuracy, float), margin, 1 - margin)
    return np.asarray(np.log(p / (1 - p)))


def fit_line(rows: pd.DataFrame) -> tuple[float, float] | None:
    """Fit logit(accuracy under shift) = slope · logit(clean accuracy) + intercept to the rows of one shift.

    Least squares, as in Taori et al., "Measuring Robustness to Natural Distribution Shifts in Image Classification",
    NeurIPS 2020. Deviation: their line is fitted to 80 standard models, this line to the measured models.

    Returns:
        Slope and intercept; None for fewer than three models, or if all clean accuracies are equal.
    """
    clean = logit(rows["clean_accuracy"], rows["clean_n"])
    if rows["model"].nunique() < FEWEST or np.ptp(clean) < 1e-9:
        return None
    slope, intercept = np.polyfit(clean, logit(rows["accuracy"], rows["n"]), 1)
    return float(slope), float(intercept)


def add_effective_robustness(table: pd.DataFrame) -> pd.DataFrame:
    """Add ``expected`` and ``effective_robustness`` to a table of shifts.

    ``expected`` is the accuracy under shift that the line of the *other* models predicts for a model, so that no model
    draws the line towards itself; ``effective_robustness`` is accuracy minus expected accuracy, in shares. NaN if the
    others do not give a line.
    """
    expected = np.full(len(table), np.nan)
    for place, (_, row) in enumerate(table.iterrows()):
        others = table[(table["shift"] == row["shift"]) & (table["model"] != row["model"])]
        if (line := fit_line(others)) is not None:
            value = line[0] * float(logit(row["clean_accuracy"], row["clean_n"])) + line[1]
            expected[place] = 1 / (1 + np.exp(-value))
    return table.assign(expected=expected, effective_robustness=table["accuracy"] - expected)


def draw_shift(rows: pd.DataFrame) -> Figure:
    """Draw accuracy under one shift against clean accuracy on the same classes, with the line of all models."""
    figure = Figure(figsize=(0.6 * TEXT_WIDTH, 0.5 * TEXT_WIDTH), layout="constrained")
    axes = figure.subplots()
    x, y = 100 * rows["clean_accuracy"], 100 * rows["accuracy"]
    for index, (_, row) in enumerate(rows.iterrows()):
        low, high = 100 * (row["accuracy"] - row["ci_low"]), 100 * (row["ci_high"] - row["accuracy"])
        left = 100 * (row["clean_accuracy"] - row["clean_ci_low"])
        right = 100 * (row["clean_ci_high"] - row["clean_accuracy"])
        axes.errorbar(
            100 * row["clean_accuracy"],
            100 * row["accuracy"],
            xerr=[[left], [right]],
            yerr=[[low], [high]],
            marker=MODEL_MARKERS[index % len(MODEL_MARKERS)],
            color=MODEL_COLOURS[index % len(MODEL_COLOURS)],
            label=as_label(name_setting(row)),
            linestyle="none",
        )
    ends = np.linspace(max(min(x.min(), y.min()) - 2, 0.5), min(x.max() + 2, 99.5), 50)
    axes.plot(ends, ends, color="0.7", linestyle=":", linewidth=0.8, label="no loss")
    if (line := fit_line(rows)) is not None:
        share = ends / 100
        value = line[0] * np.log(share / (1 - share)) + line[1]
        axes.plot(ends, 100 / (1 + np.exp(-value)), color="0.4", linestyle="--", linewidth=0.8, label="line (logit)")
    axes.set(xlabel="clean accuracy on the same classes (%)", ylabel=f"{rows['shift'].iloc[0]} (%)")
    axes.legend()
    return figure


def list_shift_figures(table: pd.DataFrame) -> Iterator[Drawing]:
    """List a figure for every shift of :func:`tabulate_shifts`."""
    for title, rows in table.groupby("shift", sort=False):
        note = f"{title}: {rows['protocol'].iloc[0]}; n = {rows['n'].iloc[0]:,}, clean {rows['clean_n'].iloc[0]:,}"
        yield Drawing(as_file_name(f"shift_{title}"), note, partial(draw_shift, rows))


def format_shifts(table: pd.DataFrame) -> str:
    """Format the table as Markdown: percent, with 95 % intervals and the protocol of each set."""
    lines = ["| set | model | under shift | n | clean, same classes | n | effective robustness |"]
    lines.append("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    for _, row in table.iterrows():
        shifted, clean = (format_value(*row[[f"{kind}{name}" for name in ACCURACY]]) for kind in ("", "clean_"))
        gain = row["effective_robustness"]
        above = "–" if np.isnan(gain) else f"{100 * gain:+.1f}"
        cells = (row["shift"], name_setting(row), shifted, f"{row['n']:,}", clean, f"{row['clean_n']:,}", above)
        lines.append(f"| {' | '.join(cells)} |")
    protocols = table.drop_duplicates("shift")
    lines += ["", *(f"- {row['shift']}: {row['protocol']}." for _, row in protocols.iterrows())]
    return "\n".join([*lines, "", SHIFT_NOTE, ""])
