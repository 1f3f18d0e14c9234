"""The tables of a run as files and texts: CSV, parquet, Markdown, LaTeX and the terminal."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd

from data_prep.files import as_file_name, replacing, write_text
from robustness.analysis.findings import Findings
from robustness.analysis.frames import Run
from robustness.analysis.latex import to_latex
from robustness.analysis.paper import COLUMNS, PUBLISHED_SOURCE, differences, tabulate_severities
from robustness.analysis.summary import group_corruptions
from robustness.grids import format_lam, thin_out
from robustness.policies import is_upper_bound

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
    wide = widen(findings.summary, run)
    caption = f"{describe(run)}. {SUMMARY_NOTE}"
    write_text(tables / "summary.md", f"{to_markdown(wide)}\n\n{caption}\n")
    heads = split_heads(list(wide.columns), run.models)
    write_text(tables / "summary.tex", to_latex(wide.map(_format), caption, "summary", heads=heads))
    for model in run.corrupted.dropna(subset=["lam"])["model"].unique():
        write_severities(findings, model, tables)


def write_severities(findings: Findings, model: str, folder: Path) -> None:
    """Write the paper's table of one model into ``folder``, as ``severities_<model>.csv``, ``.md`` and ``.tex``."""
    run, name = findings.run, as_file_name(f"severities_{model}")
    table = tabulate_severities(findings, model)
    write_csv(table, folder / f"{name}.csv")
    caption = (
        f"{describe(run)}. Baseline: {run.baseline or 'none'}; trained: {model} at its λ of training; adaptive: its "
        "policy residual. Bold: better than both others: paired 95 % intervals exclude zero and, in a single cell, "
        "McNemar's p < 0.05 (sign-flip test in a mean in which at most ten images differ)."
    )
    if any(name.startswith("published_") for name in table.columns):
        caption += f" Published: {PUBLISHED_SOURCE}. What differs: {'; '.join(differences(run, model))}."
    texts, bold = lay_out_severities(table)
    marked = texts.where(~bold, "**" + texts + "**")
    write_text(folder / f"{name}.md", f"{to_markdown(marked)}\n\n{caption}\n")
    heads = split_heads(list(texts.columns), ["published"])
    write_text(folder / f"{name}.tex", to_latex(texts, caption, name, heads=heads, bold=bold))


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """Write a table, whole or not at all."""
    with replacing(path) as temporary:
        table.to_csv(temporary, index=False)


def lay_out_severities(table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The paper's table as texts, one row per corruption and severity; and which cell is the undoubted best."""
    names = [*COLUMNS, *(name for name in table.columns if name.startswith("published_"))]
    title = table["corruption"].where(table["severity"] == "0", table["corruption"] + " " + table["severity"])
    index = pd.Index(title, name="accuracy (%)")
    columns = [name.replace("_", " ") for name in names]
    texts = pd.DataFrame({title: table[name].map(_format) for title, name in zip(columns, names)}).set_index(index)
    bold = pd.DataFrame({title: table["best"] == name for title, name in zip(columns, names)}).set_index(index)
    return texts, bold


def widen(summary: pd.DataFrame, run: Run, *, most: int | None = None) -> pd.DataFrame:
    """One row per perturbation and for the means over the corruptions; a column per model, λ and policy, in percent.

    Policies that use test labels are left out: they are no results. The extra corruptions come after the mean of the
    others.

    Args:
        summary: what :func:`~robustness.analysis.summary.summarise` returned.
        run: gives the order of rows and columns.
        most: keep at most this many λs per model, evenly spread over the grid and with λ of training among them.
    """
    columns: dict[str, pd.Series] = {}
    for model in run.models:
        rows = summary[summary["model"] == model].set_index("perturbation")
        of_policy = {str(policy): group for policy, group in rows.groupby("policy", sort=False)}
        trained = set(of_policy["trained"]["lam"]) if "trained" in of_policy else set()
        if "none" in of_policy:
            columns[model] = of_policy["none"]["accuracy"] * 100
        if "fixed" in of_policy:
            fixed = of_policy["fixed"]
            for lam in thin_out(sorted(fixed["lam"].unique()), most, trained):
                title = f"{model} λ={format_lam(lam)}" + (" (trained)" if lam in trained else "")
                columns[title] = fixed.loc[fixed["lam"] == lam, "accuracy"] * 100
        for policy in of_policy:
            if policy not in ("none", "fixed", "trained") and not is_upper_bound(policy):
                columns[f"{model} {policy}"] = of_policy[policy]["accuracy"] * 100
    order = ["clean"]
    for title, names in group_corruptions(run).items():
        order += [*names, title]
    wide = pd.DataFrame(columns).reindex(order)
    wide.index.name = "accuracy (%)"
    return wide


def split_heads(columns: list[str], groups: list[str]) -> list[tuple[str, str]]:
    """Columns called ``group title``, of the groups given, as (group, title): short titles below a common head."""
    heads = []
    for column in columns:
        own = max((group for group in groups if column.startswith(f"{group} ")), key=len, default="")
        heads.append((own, column.removeprefix(own).strip()))
    return heads


def describe(run: Run) -> str:
    """What the numbers stand for: data, images, source of the corruptions, and what is missing."""
    data = run.record["data"]
    sources = {
        "official": "official -C archive",
        "generated": "corruptions generated from the clean images with the archive's parameters",
        "synthetic": "synthetic noise levels of the sweep",
    }
    source = f"; {sources[data['source']]}" if run.corruptions else ""
    gap = f"; {len(run.missing)} cells are missing" if run.missing else ""
    return f"{data['title']}, {data['split']} split, n = {data['n']}{source}{gap}"


def to_markdown(wide: pd.DataFrame) -> str:
    """A Markdown table with one decimal; a missing value is a dash."""
    header = [str(wide.index.name), *map(str, wide.columns)]
    lines = [header, ["---", *["---:"] * len(wide.columns)]]
    lines += [[str(name), *map(_format, row)] for name, row in zip(wide.index, wide.to_numpy())]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


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


def _format(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return "–" if math.isnan(value) else f"{value:.1f}"
