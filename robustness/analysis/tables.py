"""The tables of a run: ``cells.csv`` (every cell) and ``summary`` (corruption × model × λ policy)."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from data_prep import corruption_names
from robustness.analysis.frames import CELL_COLUMNS, Run
from robustness.analysis.statistics import clustered_interval

SUMMARY_NOTE = "Mean accuracy over the severities; 95 % intervals are in tables/summary.csv and cells.csv."


def write_tables(run: Run) -> None:
    """Write ``cells.csv`` and ``tables/summary.csv/.md/.tex`` into the run directory."""
    folder = run.directory.path
    run.cells[CELL_COLUMNS].to_csv(folder / "cells.csv", index=False)
    tables = folder / "tables"
    tables.mkdir(exist_ok=True)
    summary = summarise(run)
    summary.to_csv(tables / "summary.csv", index=False)
    wide = widen(summary, run)
    caption = f"{describe(run)}. {SUMMARY_NOTE}"
    (tables / "summary.md").write_text(f"{to_markdown(wide)}\n\n{caption}\n")
    (tables / "summary.tex").write_text(to_latex(wide, caption))


def summarise(run: Run) -> pd.DataFrame:
    """Mean accuracy over the severities of every corruption, for every model and λ policy.

    Policies: ``fixed`` (every λ of the grid), ``trained`` (λ of training, where the grid has it) and ``oracle`` (the λ
    that is best on these very test images: an upper bound, never a result). Models without λ have ``none``.

    Returns:
        Columns ``perturbation, model, policy, lam, n, severities, accuracy, ci_low, ci_high`` and ``gain, gain_low,
        gain_high``: accuracy minus that at λ of training, paired image by image. The intervals treat the images as the
        independent units (:func:`~robustness.analysis.statistics.clustered_interval`).
    """
    rows = []
    for (perturbation, model), group in run.corrupted.groupby(["perturbation", "model"], sort=False):
        trained = group[group["lam"] == group["trained_lam"]]
        by_lam = pd.DataFrame(
            [_pool_severities(run, cells, trained) for _, cells in group.groupby("lam", dropna=False)]
        )
        has_lam = by_lam["lam"].notna()
        policies = {
            "none": by_lam[~has_lam],
            "trained": by_lam[by_lam["lam"] == group["trained_lam"].iloc[0]],
            "fixed": by_lam[has_lam],
            "oracle": by_lam[has_lam & (by_lam["severities"] == by_lam["severities"].max())].nlargest(1, "accuracy"),
        }
        for policy, chosen in policies.items():
            rows.append(chosen.assign(perturbation=perturbation, model=model, policy=policy))
    columns = ["perturbation", "model", "policy", "lam", "n", "severities", "accuracy", "ci_low", "ci_high"]
    columns += ["gain", "gain_low", "gain_high"]
    return pd.DataFrame(pd.concat(rows, ignore_index=True), columns=columns)


def _pool_severities(run: Run, cells: pd.DataFrame, trained: pd.DataFrame) -> dict[str, float]:
    """The severities of a corruption at one λ in one row; its gain over ``trained`` where both have the same ones."""
    fields = {"lam": float(cells["lam"].iloc[0]), "n": int(cells["n"].iloc[0]), "severities": len(cells)}
    per_image = run.correct(list(cells["key"])).mean(axis=0)
    fields |= zip(("accuracy", "ci_low", "ci_high"), clustered_interval(per_image), strict=True)
    if list(cells["severity"]) == list(trained["severity"]):
        paired = per_image - run.correct(list(trained["key"])).mean(axis=0)
        fields |= zip(("gain", "gain_low", "gain_high"), clustered_interval(paired), strict=True)
    return fields


def widen(summary: pd.DataFrame, run: Run, *, most: int | None = None) -> pd.DataFrame:
    """One row per perturbation and one for the mean of the corruptions; a column per model and λ, in percent.

    The extra corruptions come after that mean, with a mean of their own.

    Args:
        summary: what :func:`summarise` returned.
        run: gives the order of rows and columns.
        most: keep at most this many λs per model, evenly spread over the grid and with λ of training among them.
    """
    shown = summary[summary["policy"].isin(["none", "fixed"])]
    columns: dict[str, pd.Series] = {}
    for model in run.models:
        rows = shown[shown["model"] == model]
        trained = summary.loc[(summary["model"] == model) & (summary["policy"] == "trained"), "lam"]
        lambdas = sorted(rows["lam"].dropna().unique())
        if not lambdas:
            columns[model] = rows.set_index("perturbation")["accuracy"] * 100
        for lam in _thin_out(lambdas, most, set(trained)):
            title = f"{model} λ={lam:g}" + (" (trained)" if lam in set(trained) else "")
            columns[title] = rows[rows["lam"] == lam].set_index("perturbation")["accuracy"] * 100
    wide = pd.DataFrame(columns).reindex(["clean", *run.corruptions])
    blocks = [wide.loc[["clean"]]]
    for title, names in group_corruptions(run.corruptions).items():
        rows = wide.loc[names]
        blocks += [rows, rows.mean(skipna=False).to_frame(title).T]
    wide = pd.concat(blocks)
    wide.index.name = "accuracy (%)"
    return wide


def group_corruptions(names: list[str]) -> dict[str, list[str]]:
    """The corruptions that are averaged together, by the title of their mean, in the order given.

    The standard 15 are what robustness is reported on; the extra 4, which serve to choose λ, come last and apart.
    """
    extra = corruption_names("extra")
    groups = {
        "mean of corruptions": [name for name in names if name not in extra],
        "mean of extra corruptions": [name for name in names if name in extra],
    }
    return {title: members for title, members in groups.items() if members}


def _thin_out(lambdas: list[float], most: int | None, keep: set[float]) -> list[float]:
    if most is None or len(lambdas) <= most:
        return lambdas
    spread = np.linspace(0, len(lambdas) - 1, most).round().astype(int)
    return sorted({lambdas[i] for i in spread} | keep)


def describe(run: Run) -> str:
    """What the numbers stand for: data, images, source of the corruptions, and what is missing."""
    data = run.record["data"]
    sources = {
        "official": "official -C archive",
        "generated": "corruptions generated from the clean images with the archive's parameters",
        "synthetic": "synthetic noise levels of the sweep",
    }
    missing = sum(cell["status"] != "done" for cell in run.record["cells"])
    gap = f"; {missing} cells are missing (run.json says why)" if missing else ""
    return f"{data['title']}, {data['split']} split, n = {data['n']}; {sources[data['source']]}{gap}"


def to_markdown(wide: pd.DataFrame) -> str:
    """A Markdown table with one decimal; a missing value is a dash."""
    header = [str(wide.index.name), *map(str, wide.columns)]
    lines = [header, ["---", *["---:"] * len(wide.columns)]]
    lines += [[str(name), *map(_format, row)] for name, row in zip(wide.index, wide.to_numpy())]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def to_latex(wide: pd.DataFrame, caption: str) -> str:
    """A booktabs table with one decimal and the caption."""

    def escape(text: object) -> str:
        return str(text).replace("%", r"\%").replace("_", r"\_").replace("λ=", r"$\lambda$=").replace("−", "--")

    lines = [[escape(wide.index.name), *map(escape, wide.columns)]]
    lines += [[escape(name), *map(_format, row)] for name, row in zip(wide.index, wide.to_numpy())]
    head, *body = [" & ".join(line) + r" \\" for line in lines]
    rows = [r"\begin{table}", r"\centering", rf"\begin{{tabular}}{{l{'r' * len(wide.columns)}}}", r"\toprule", head]
    rows += [r"\midrule", *body, r"\bottomrule", r"\end{tabular}", rf"\caption{{{escape(caption)}}}", r"\end{table}"]
    return "\n".join(rows) + "\n"


def to_terminal(wide: pd.DataFrame, width: int) -> str:
    """The table in aligned columns: a legend of short column names first where it would be wider than ``width``."""
    body = [[str(name), *map(_format, row)] for name, row in zip(wide.index, wide.to_numpy())]
    header = [str(wide.index.name), *map(str, wide.columns)]
    legend: list[str] = []
    if sum(max(len(row[i]) for row in [header, *body]) + 2 for i in range(len(header))) > width:
        legend = [f"  [{i}] {name}" for i, name in enumerate(header[1:], start=1)]
        header = [header[0], *(f"[{i}]" for i in range(1, len(header)))]
    widths = [max(len(row[i]) for row in [header, *body]) for i in range(len(header))]
    lines = [
        "  ".join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths)))
        for row in [header, *body]
    ]
    return "\n".join([*legend, lines[0], "-" * len(lines[0]), *lines[1:]])


def _format(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.1f}"
