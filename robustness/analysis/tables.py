"""The tables of a run as files and text: CSV, parquet, Markdown, LaTeX and the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from data_prep.corruptions import corruption_names
from data_prep.files import replacing, write_text
from robustness.analysis.columns import ACCURACY, to_records, with_ends
from robustness.analysis.decisions import Setting
from robustness.analysis.findings import Findings
from robustness.analysis.frames import Run
from robustness.analysis.headline import find_learnt
from robustness.analysis.latex import to_latex
from robustness.analysis.leaderboard import PERCENT
from robustness.analysis.paper import COLUMNS, PUBLISHED_SOURCE, differences, list_published, tabulate_severities
from robustness.analysis.sequences import SEQUENCE_NOTE
from robustness.analysis.shifts import format_shifts
from robustness.analysis.summary import average, group_corruptions, list_planned
from robustness.analysis.texts import (
    MARK_NOTE,
    SYMBOLS,
    Head,
    format_number,
    format_rank,
    format_value,
    join_head,
    name_budget,
    name_setting,
    to_markdown,
    write_csv,
)
from robustness.grids import format_lam, thin_out
from robustness.policies import is_upper_bound
from robustness.statistics import LEVEL, adjust_for_many, paired_differences

BOLD_NOTE = (
    "Bold: better than every other column of its row (paired over the images, p < 0.05 after Holm's adjustment for all "
    "rows and for picking the best)."
)
RANK_NOTE = (
    "Rank: the places that the model may have, since a model counts as better than another only where the difference, "
    "paired over the images, has p < 0.05 after Holm's adjustment for all pairs. 95 % intervals. "
    f"{MARK_NOTE}."
)
_MOST_COMPARED = 60
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
    columns = list_columns(findings.summary, run)
    texts, bold = lay_out_summary(columns, run), find_best(findings, columns)
    caption = f"{describe(run)}. Mean accuracy over the severities with 95 % intervals. {BOLD_NOTE}"
    write_text(tables / "summary.md", f"{to_markdown(texts.where(~bold, '**' + texts + '**'))}\n\n{caption}\n")
    short = lay_out_summary(columns, run, intervals=False)
    caption = f"{describe(run)}. {SUMMARY_NOTE} {BOLD_NOTE}"
    write_text(tables / "summary.tex", to_latex(short, caption, "summary", bold=bold))
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
    for row in to_records(table):
        cells = {"sequence": row["sequence"], "model": name_setting(row)}
        for name, title in titles.items():
            value = [row[column] for column in with_ends(name)]
            cells[title] = format_value(*value, scale=100 if name == "flips" else 1, digits=2)
        rows.append(cells)
    return pd.DataFrame(rows).set_index("sequence")


def write_severities(findings: Findings, model: str, folder: Path) -> None:
    """Write the paper's table of one model into ``folder``, as ``severities_<model>.csv``, ``.md`` and ``.tex``."""
    run, name = findings.run, f"severities_{findings.run.file_names[model]}"
    table = tabulate_severities(findings, model)
    write_csv(table, folder / f"{name}.csv")
    caption = (
        f"{describe(run)}. Baseline: {run.baseline or 'none'}; trained: {model} at its training λ; adaptive: its "
        "policy residual. Bold: better than both others, paired over the images: p < 0.05 after Holm's adjustment for "
        "all rows."
    )
    caption += own_up(run, model)
    if list_published(table):
        caption += f" Published: {PUBLISHED_SOURCE}. What differs: {'; '.join(differences(run, model))}."
    texts, bold = lay_out_severities(table)
    marked = texts.where(~bold, "**" + texts + "**")
    write_text(folder / f"{name}.md", f"{to_markdown(marked)}\n\n{caption}\n")
    write_text(folder / f"{name}.tex", to_latex(texts, caption, name, bold=bold))


def own_up(run: Run, model: str) -> str:
    """Write a sentence for captions if the law of ``model`` was fitted on corruptions of the run; empty otherwise."""
    learnt = find_learnt(run, model)
    names = ", ".join(name.replace("_", " ") for name in learnt)
    return f" The law of residual was fitted on training images under {names}, which are judged here." if learnt else ""


def lay_out_severities(table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Format the paper's table as text, a row per corruption and severity, with each row's significantly best cell."""
    heads: dict[str, Head] = {name: ("", name) for name in COLUMNS}
    heads |= {column: ("published", name) for name, column in list_published(table).items()}
    title = table["corruption"].where(table["severity"] == "0", table["corruption"] + " " + table["severity"])
    index = pd.Index(title, name="accuracy (%)")
    texts = pd.DataFrame({head: table[name].map(format_number) for name, head in heads.items()}).set_index(index)
    bold = pd.DataFrame({head: table["best"] == name for name, head in heads.items()}).set_index(index)
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
    listed = list_columns(summary, run, most=most)
    columns = {join_head(head): 100 * column.rows["accuracy"] for head, column in listed.items()}
    wide = pd.DataFrame(columns).reindex(_order_rows(run))
    wide.index.name = "accuracy (%)"
    return wide


class Column(NamedTuple):
    """A column of :func:`widen`: its setting, and the rows of the summary at that setting, by perturbation."""

    setting: Setting
    rows: pd.DataFrame


def list_columns(summary: pd.DataFrame, run: Run, *, most: int | None = None) -> dict[Head, Column]:
    """List the columns of :func:`widen` by their heads: the model, then its λ or policy."""
    columns: dict[Head, Column] = {}
    for model in run.models:
        rows = summary[summary["model"] == model].set_index("perturbation")
        of_policy = {str(policy): group for policy, group in rows.groupby("policy", sort=False)}
        trained = set(of_policy["trained"]["lam"]) if "trained" in of_policy else set()
        if "none" in of_policy:
            columns["", model] = Column(Setting(model, "none"), of_policy["none"])
        if "fixed" in of_policy:
            fixed = of_policy["fixed"]
            for lam in thin_out(sorted(fixed["lam"].unique()), most, trained):
                title = f"λ={format_lam(lam)}" + (" (trained)" if lam in trained else "")
                columns[model, title] = Column(Setting(model, "fixed", float(lam)), fixed[fixed["lam"] == lam])
        for policy in of_policy:
            if policy not in ("none", "fixed", "trained") and not is_upper_bound(policy):
                columns[model, policy] = Column(Setting(model, policy), of_policy[policy])
    return columns


def _order_rows(run: Run) -> list[str]:
    order = ["clean"]
    for title, names in group_corruptions(run).items():
        order += [*names, title]
    return order


def lay_out_summary(columns: Mapping[Head, Column], run: Run, *, intervals: bool = True) -> pd.DataFrame:
    """Format the table of :func:`widen` as text, with or without intervals."""
    texts = {
        head: pd.Series(
            [
                format_value(*value) if intervals else format_number(100 * value[0])
                for value in zip(*(rows[name] for name in ACCURACY))
            ],
            index=rows.index,
            dtype=object,
        )
        for head, (_, rows) in columns.items()
    }
    return pd.DataFrame(texts, index=pd.Index(_order_rows(run), name="accuracy (%)")).fillna("–")


def find_best(findings: Findings, columns: Mapping[Head, Column]) -> pd.DataFrame:
    """Find the significantly best cell of each row of :func:`lay_out_summary`, bool in its shape.

    The best is better than each of the k others by :func:`~robustness.statistics.paired_differences`: the
    largest p, times k + 1 since it was picked, is below 0.05 after Holm's adjustment for all rows. A table of more
    than :data:`_MOST_COMPARED` columns has no best cells.
    """
    run, order = findings.run, _order_rows(findings.run)
    best: dict[str, tuple[Head, float]] = {}
    groups = {name: [name] for name in order} | group_corruptions(run)
    for name in order if 1 < len(columns) <= _MOST_COMPARED else ():
        planned, values = list_planned(run, groups[name]), {}
        for head, (setting, rows) in columns.items():
            places = findings.settings[setting]
            if name in rows.index and all(place in places for place in planned):
                values[head] = average(places, planned)
        if len(values) > 1:
            winner = max(values, key=lambda head: values[head].mean())
            others = [values[winner] - value for head, value in values.items() if head != winner]
            best[name] = winner, min(1.0, len(values) * float(paired_differences(np.stack(others, axis=1))[:, 3].max()))
    bold = pd.DataFrame(dict.fromkeys(columns, False), index=order)
    for (name, (winner, _)), p in zip(best.items(), adjust_for_many([p for _, p in best.values()])):
        bold.at[name, winner] = p < LEVEL
    return bold


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
    for row in to_records(board.table):
        cells = {"rank": format_rank(row["rank_from"], row["rank_to"])}
        for name, title in titles.items():
            if board.table[name].notna().any():
                text = format_value(*(row[end] for end in with_ends(name)), scale=1 if name in PERCENT else 100)
                cells[title] = text + SYMBOLS.get(str(row.get(f"{name}_trust")), "")
        rows[name_setting(row)] = cells
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index.name = "accuracy (%)"
    return table


def list_doubts(run: Run) -> list[str]:
    """Describe the doubts about the models themselves, a line each: ``SUSPECT: model: reason.``."""
    return [f"{verdict.mark}: {model}: {verdict.reason}." for model, verdict in run.doubts.items()]


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


def _name_parameters(run: Run) -> str:
    """Name the source of the generated corruptions' parameters."""
    published = {"cifar": "CIFAR-10-C", "imagenet": "ImageNet-C"}.get(run.record["suite"]["profile"])
    if not published:
        return ""
    cbar = {*corruption_names("cbar")}
    sets = {f"{published}-bar" if name in cbar else published: None for name in run.corruptions}
    return f" with the parameters of {' and '.join(sets)}"


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
