"""The tables of a run as files and text: CSV, parquet, Markdown, LaTeX and the terminal."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from data_prep.files import replacing, write_text
from robustness.analysis.findings import Findings
from robustness.analysis.frames import Run
from robustness.analysis.headline import find_learnt
from robustness.analysis.latex import to_latex
from robustness.analysis.paper import COLUMNS, PUBLISHED_SOURCE, differences, tabulate_severities
from robustness.analysis.sequences import SEQUENCE_NOTE
from robustness.analysis.shifts import format_shifts
from robustness.analysis.summary import average, group_corruptions, list_planned
from robustness.attack import NORMS, format_eps
from robustness.grids import format_lam, thin_out
from robustness.policies import is_upper_bound
from robustness.statistics import adjust_for_many, paired_differences
from robustness.verdicts import INVALID, OK, SUSPECT

Column = tuple[str, str, float]
"""Model, policy, and the λ of ``fixed``."""
SYMBOLS = {OK: "", SUSPECT: " ?", INVALID: " ✗"}
BOLD_NOTE = (
    "Bold: better than every other column of its row (paired over the images, p < 0.05 after Holm's adjustment for all "
    "rows and for picking the best)."
)
RANK_NOTE = (
    "Rank: the places that the model may have, since a model counts as better than another only where the difference, "
    "paired over the images, has p < 0.05 after Holm's adjustment for all pairs. 95 % intervals. ?: SUSPECT, "
    "✗: INVALID, not to be believed."
)
_LEVEL, _MOST_COMPARED = 0.05, 60
SUMMARY_NOTE = "Mean accuracy over the severities; 95 % intervals are in tables/summary.csv and cells.csv."


def write_tables(findings: Findings) -> None:
    """Write ``cells.csv``, ``tables/policies.csv/.parquet``, ``scores.csv`` and ``summary.csv/.md/.tex``."""
    run, folder = findings.run, findings.run.directory.path
    write_csv(findings.cells, folder / "cells.csv")
    tables = folder / "tables"
    write_csv(findings.policies, tables / "policies.csv")
    with replacing(tables / "policies.parquet") as temporary:
        findings.policies.to_parquet(temporary, index=False)
    write_csv(findings.scores, tables / "scores.csv")
    write_csv(findings.summary, tables / "summary.csv")
    texts, bold = write_texts(findings)
    caption = f"{describe(run)}. Mean accuracy over the severities with 95 % intervals. {BOLD_NOTE}"
    write_text(tables / "summary.md", f"{to_markdown(texts.where(~bold, '**' + texts + '**'))}\n\n{caption}\n")
    heads = split_heads(list(texts.columns), run.models)
    short = texts.map(lambda text: text.partition(" ")[0])
    caption = f"{describe(run)}. {SUMMARY_NOTE} {BOLD_NOTE}"
    write_text(tables / "summary.tex", to_latex(short, caption, "summary", heads=heads, bold=bold))
    write_csv(findings.classes, tables / "per_class.csv")
    write_csv(findings.board.table, tables / "leaderboard.csv")
    board, caption = write_leaderboard(findings), f"{describe(run)}. {RANK_NOTE}"
    write_text(tables / "leaderboard.md", f"{to_markdown(board)}\n\n{caption}\n")
    write_text(tables / "leaderboard.tex", to_latex(board, caption, "leaderboard"))
    if len(findings.shifts):
        write_csv(findings.shifts, tables / "shifts.csv")
        write_text(tables / "shifts.md", format_shifts(findings.shifts))
    if len(findings.sequences):
        write_csv(findings.sequences, tables / "sequences.csv")
        about = f"{describe(run)}. Baseline: {run.baseline or 'none'}. {SEQUENCE_NOTE}"
        write_text(tables / "sequences.md", f"{to_markdown(format_sequences(findings.sequences))}\n\n{about}\n")
    for model in run.corrupted.dropna(subset=["lam"])["model"].unique():
        write_severities(findings, model, tables)


def format_sequences(table: pd.DataFrame) -> pd.DataFrame:
    """Format the table of sequences as text: flips in percent, rates in percent of the baseline model's."""
    titles = {"flips": "flips (%)", "distance": "top-5 distance", "flip_rate": "flip rate (%)"}
    titles |= {"distance_rate": "distance rate (%)"}
    rows = []
    for row in table.to_dict("records"):
        cells = {
            "sequence": row["sequence"],
            "model": name_setting({"model": row["model"], "lam": row["lam"], "policy": ""}),
        }
        for name, title in titles.items():
            value, low, high = ((100 if name == "flips" else 1) * row[f"{name}{end}"] for end in ("", "_low", "_high"))
            cells[title] = "–" if math.isnan(value) else f"{value:.2f} [{low:.2f}, {high:.2f}]"
        rows.append(cells)
    return pd.DataFrame(rows).set_index("sequence")


def write_severities(findings: Findings, model: str, folder: Path) -> None:
    """Write the paper's table of one model into ``folder``, as ``severities_<model>.csv``, ``.md`` and ``.tex``."""
    run, name = findings.run, f"severities_{findings.run.file_names[model]}"
    table = tabulate_severities(findings, model)
    write_csv(table, folder / f"{name}.csv")
    caption = (
        f"{describe(run)}. Baseline: {run.baseline or 'none'}; trained: {model} at its λ of training; adaptive: its "
        "policy residual. Bold: better than both others, paired over the images: p < 0.05 after Holm's adjustment for "
        "all rows."
    )
    caption += own_up(run, model)
    if any(name.startswith("published_") for name in table.columns):
        caption += f" Published: {PUBLISHED_SOURCE}. What differs: {'; '.join(differences(run, model))}."
    texts, bold = lay_out_severities(table)
    marked = texts.where(~bold, "**" + texts + "**")
    write_text(folder / f"{name}.md", f"{to_markdown(marked)}\n\n{caption}\n")
    heads = split_heads(list(texts.columns), ["published"])
    write_text(folder / f"{name}.tex", to_latex(texts, caption, name, heads=heads, bold=bold))


def own_up(run: Run, model: str) -> str:
    """Write a sentence for captions if the law of ``model`` was fitted on corruptions of the run; empty otherwise."""
    learnt = find_learnt(run, model)
    names = ", ".join(name.replace("_", " ") for name in learnt)
    return f" The law of residual was fitted on training images under {names}, which are judged here." if learnt else ""


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """Write a table, whole or not at all."""
    with replacing(path) as temporary:
        table.to_csv(temporary, index=False)


def lay_out_severities(table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Format the paper's table as text, a row per corruption and severity, with each row's significantly best cell."""
    names = [*COLUMNS, *(name for name in table.columns if name.startswith("published_"))]
    title = table["corruption"].where(table["severity"] == "0", table["corruption"] + " " + table["severity"])
    index = pd.Index(title, name="accuracy (%)")
    columns = [name.replace("_", " ") for name in names]
    texts = pd.DataFrame({title: table[name].map(_format) for title, name in zip(columns, names)}).set_index(index)
    bold = pd.DataFrame({title: table["best"] == name for title, name in zip(columns, names)}).set_index(index)
    return texts, bold


def widen(summary: pd.DataFrame, run: Run, *, most: int | None = None) -> pd.DataFrame:
    """Lay out one row per perturbation and per mean over corruptions; a column per model, λ and policy, in percent.

    Policies that use test labels are left out: they are not results. The extra corruptions come after the mean of the
    others.

    Args:
        summary: the table of :func:`~robustness.analysis.summary.summarise`.
        run: determines the order of rows and columns.
        most: keep at most this many λs per model, evenly spread over the grid and including the training λ.
    """
    columns = {title: 100 * rows["accuracy"] for title, (_, rows) in list_columns(summary, run, most=most).items()}
    wide = pd.DataFrame(columns).reindex(_order_rows(run))
    wide.index.name = "accuracy (%)"
    return wide


def list_columns(summary: pd.DataFrame, run: Run, *, most: int | None = None) -> dict[str, tuple[Column, pd.DataFrame]]:
    """List the columns of :func:`widen` by title (model, policy and λ of ``fixed``), and the rows by perturbation."""
    columns: dict[str, tuple[Column, pd.DataFrame]] = {}
    for model in run.models:
        rows = summary[summary["model"] == model].set_index("perturbation")
        of_policy = {str(policy): group for policy, group in rows.groupby("policy", sort=False)}
        trained = set(of_policy["trained"]["lam"]) if "trained" in of_policy else set()
        if "none" in of_policy:
            columns[model] = (model, "none", math.nan), of_policy["none"]
        if "fixed" in of_policy:
            fixed = of_policy["fixed"]
            for lam in thin_out(sorted(fixed["lam"].unique()), most, trained):
                title = f"{model} λ={format_lam(lam)}" + (" (trained)" if lam in trained else "")
                columns[title] = (model, "fixed", float(lam)), fixed[fixed["lam"] == lam]
        for policy in of_policy:
            if policy not in ("none", "fixed", "trained") and not is_upper_bound(policy):
                columns[f"{model} {policy}"] = (model, policy, math.nan), of_policy[policy]
    return columns


def _order_rows(run: Run) -> list[str]:
    order = ["clean"]
    for title, names in group_corruptions(run).items():
        order += [*names, title]
    return order


def write_texts(findings: Findings) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Format the table of :func:`widen` with intervals, as text, and find the significantly best cell of each row.

    The best is better than each of the k others by :func:`~robustness.statistics.paired_differences`: the
    largest p, times k + 1 since it was picked, is below 0.05 after Holm's adjustment for all rows. A table of more
    than :data:`_MOST_COMPARED` columns has no best cells.
    """
    run, columns = findings.run, list_columns(findings.summary, findings.run)
    order = _order_rows(run)
    texts = pd.DataFrame("–", index=pd.Index(order, name="accuracy (%)"), columns=list(columns), dtype=object)
    for title, (_, rows) in columns.items():
        for name, value, low, high in zip(rows.index, rows["accuracy"], rows["ci_low"], rows["ci_high"]):
            texts.at[name, title] = f"{100 * value:.1f} [{100 * low:.1f}, {100 * high:.1f}]"
    best: dict[str, tuple[str, float]] = {}
    groups = {name: [name] for name in order} | group_corruptions(run)
    for name in order if 1 < len(columns) <= _MOST_COMPARED else ():
        planned, values = list_planned(run, groups[name]), {}
        for title, ((model, policy, lam), rows) in columns.items():
            places = findings.settings[model, policy, str(lam)]
            if name in rows.index and all(place in places for place in planned):
                values[title] = average(places, planned)
        if len(values) > 1:
            winner = max(values, key=lambda title: values[title].mean())
            others = [values[winner] - value for title, value in values.items() if title != winner]
            best[name] = winner, min(1.0, len(values) * float(paired_differences(np.stack(others, axis=1))[:, 3].max()))
    bold = pd.DataFrame(False, index=texts.index, columns=texts.columns)
    for (name, (winner, _)), p in zip(best.items(), adjust_for_many([p for _, p in best.values()])):
        bold.at[name, winner] = p < _LEVEL
    return texts, bold


def write_leaderboard(findings: Findings) -> pd.DataFrame:
    """Format the leaderboard as text: a row per model, best first, with its ranks and every number's interval."""
    board = findings.board
    titles = {"clean": "clean", "mean": "corrupted", "clean_top5": "clean, top 5", "mean_top5": "corrupted, top 5"}
    titles |= {
        "shifts": "under natural shifts",
        "steady": "frames of the same class",
        "mce": f"errors in % of {findings.run.baseline}'s",
        "mce_alexnet": "mCE (AlexNet)",
    }
    titles |= {threat: f"robust {title}" for threat, title in board.threats.items()}
    rows = {}
    for row in board.table.to_dict("records"):
        cells = {"rank": format_rank(row["rank_from"], row["rank_to"])}
        for name, title in titles.items():
            if board.table[name].notna().any():
                scale = 1 if name.startswith("mce") else 100
                value, low, high = (scale * row[f"{name}{end}"] for end in ("", "_low", "_high"))
                text = "–" if math.isnan(value) else f"{value:.1f} [{low:.1f}, {high:.1f}]"
                cells[title] = text + SYMBOLS.get(str(row.get(f"{name}_trust")), "")
        rows[name_setting({"model": row["model"], "lam": row["lam"], "policy": ""})] = cells
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index.name = "accuracy (%)"
    return table


def format_rank(first: float, last: float) -> str:
    """Format a range of ranks: ``1``, ``2–4`` or a dash."""
    return "–" if math.isnan(first) else f"{first:.0f}" if first == last else f"{first:.0f}–{last:.0f}"


def name_setting(row: dict[str, Any]) -> str:
    """Name a setting: ``model``, ``model λ=0.1`` or ``model residual``."""
    policy, lam = row["policy"], row["lam"]
    if isinstance(policy, str) and policy:
        return f"{row['model']} {policy}"
    return f"{row['model']} λ={format_lam(lam)}" if isinstance(lam, float) and lam == lam else str(row["model"])


def split_heads(columns: list[str], groups: list[str]) -> list[tuple[str, str]]:
    """Split columns called ``group title`` into (group, title): short titles below a common head."""
    heads = []
    for column in columns:
        own = max((group for group in groups if column.startswith(f"{group} ")), key=len, default="")
        heads.append((own, column.removeprefix(own).strip()))
    return heads


def list_missing(run: Run) -> dict[str, list[str]]:
    """List missing outcomes with the reason: a line for every model and perturbation, with severities or budgets."""
    places: dict[str, dict[str, list[str]]] = {}
    for cell in run.record["cells"]:
        if cell["key"] in run.missing:
            level = str(cell["severity"] or "") if cell.get("norm") is None else name_budget(cell["norm"], cell["eps"])
            found = places.setdefault(run.missing[cell["key"]], {})
            levels = found.setdefault(f"{cell['model']}: {cell['perturbation']}", [])
            levels += [level] if level and level not in levels else []
    return {
        reason: [f"{place} {', '.join(levels)}".strip() for place, levels in found.items()]
        for reason, found in places.items()
    }


def name_budget(norm: str, eps: object) -> str:
    """Name a budget: ``L∞ 8/255``."""
    return f"{NORMS[norm]} {format_eps(float(str(eps)), norm)}"


def _name_parameters(run: Run) -> str:
    """Name the source of the generated corruptions' parameters."""
    published = {"cifar": "CIFAR-10-C", "imagenet": "ImageNet-C"}.get(run.record["suite"]["profile"])
    return f" with the parameters of {published}" if published else ""


def describe(run: Run) -> str:
    """Describe the basis of the numbers: data, images, source of the corruptions, and what is missing."""
    data = run.record["data"]
    sources = {
        "official": "official -C archive",
        "generated": f"corruptions generated from the clean images{_name_parameters(run)}",
        "synthetic": "synthetic noise levels of the sweep",
    }
    source = f"; {sources[data['source']]}" if run.corruptions else ""
    if len(run.sequences):
        source = f"; {'official -P archive' if data['source'] == 'official' else 'sequences made of the clean images'}"
    gap = f"; {len(run.missing)} cells are missing" if run.missing else ""
    return f"{data['title']}, {data['split']} split, n = {data['n']}{source}{gap}"


def to_markdown(wide: pd.DataFrame) -> str:
    """Write a Markdown table with one decimal; a missing value is a dash."""
    header = [str(wide.index.name), *map(str, wide.columns)]
    lines = [header, ["---", *["---:"] * len(wide.columns)]]
    lines += [[str(name), *map(_format, row)] for name, row in zip(wide.index, wide.to_numpy())]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def to_terminal(wide: pd.DataFrame, width: int) -> str:
    """Align the table in columns; if it would exceed ``width``, a legend of short column names comes first."""
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


def _format(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return "–" if math.isnan(value) else f"{value:.1f}"
