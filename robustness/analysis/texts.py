"""Numbers, settings and tables as text: Markdown, the terminal, CSV and the templates of pages."""

from __future__ import annotations

import math
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd

from data_prep.files import replacing
from robustness.attack import NORMS, format_eps
from robustness.grids import format_lam
from robustness.verdicts import INVALID, OK, SUSPECT

Head = tuple[str, str]
"""Head of a column: its group, often empty, and its own title."""
SYMBOLS = {OK: "", SUSPECT: " ?", INVALID: " ✗"}
MARK_NOTE = "?: SUSPECT, ✗: INVALID, not to be believed"


def format_value(value: float, low: float, high: float, *, scale: float = 100, digits: int = 1) -> str:
    """Format a number, times ``scale``, with its interval: ``81.2 [78.9, 83.4]``, or a dash for NaN."""
    if math.isnan(value):
        return "–"
    number, start, end = (f"{scale * it:.{digits}f}" for it in (value, low, high))
    return f"{number} [{start}, {end}]"


def format_number(value: float | str) -> str:
    """Format a number with one decimal, NaN as a dash; text stays as it is."""
    return value if isinstance(value, str) else "–" if math.isnan(value) else f"{value:.1f}"


def format_rank(first: float, last: float) -> str:
    """Format a range of ranks: ``1``, ``2–4`` or a dash."""
    return "–" if math.isnan(first) else f"{first:.0f}" if first == last else f"{first:.0f}–{last:.0f}"


def format_duration(seconds: float) -> str:
    """Format a time: ``33 s``, ``12 min`` or ``3.1 h``."""
    minutes = round(seconds / 60)
    return f"{seconds:.0f} s" if minutes < 2 else f"{minutes} min" if minutes < 120 else f"{seconds / 3600:.1f} h"


def name_setting(row: Mapping[Any, Any] | pd.Series) -> str:
    """Name the setting of a row: ``model``, ``model λ=0.1`` or, if it has a policy, ``model residual``."""
    policy, lam = row.get("policy"), row["lam"]
    if isinstance(policy, str) and policy:
        return f"{row['model']} {policy}"
    return str(row["model"]) if pd.isna(lam) else f"{row['model']} λ={format_lam(lam)}"


def name_budget(norm: str, eps: float) -> str:
    """Name a budget: ``L∞ 8/255``."""
    return f"{NORMS[norm]} {format_eps(eps, norm)}"


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """Write a table, whole or not at all."""
    with replacing(path) as temporary:
        table.to_csv(temporary, index=False)


def to_markdown(wide: pd.DataFrame) -> str:
    """Write a Markdown table with one decimal; a missing value is a dash."""
    header, *body = _to_cells(wide)
    lines = [header, ["---", *["---:"] * len(wide.columns)], *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def to_terminal(wide: pd.DataFrame, width: int) -> str:
    """Align the table in columns; if it would exceed ``width``, a legend of short column names comes first."""
    header, *body = _to_cells(wide)
    legend: list[str] = []
    if sum(max(map(len, column)) + 2 for column in zip(header, *body)) > width:
        legend = [f"  [{i}] {name}" for i, name in enumerate(header[1:], start=1)]
        header = [header[0], *(f"[{i}]" for i in range(1, len(header)))]
    widths = [max(map(len, column)) for column in zip(header, *body)]
    lines = [
        "  ".join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths)))
        for row in (header, *body)
    ]
    return "\n".join([*legend, lines[0], "-" * len(lines[0]), *lines[1:]])


def join_head(head: Head | str) -> str:
    """Join group and title of a column."""
    return head if isinstance(head, str) else " ".join(filter(None, head))


def _to_cells(wide: pd.DataFrame) -> list[list[str]]:
    """Write a table as rows of texts, the head first."""
    header = [str(wide.index.name), *map(join_head, wide.columns)]
    return [header, *([str(name), *map(format_number, row)] for name, row in zip(wide.index, wide.to_numpy()))]


def read_template(name: str) -> str:
    """Read a file of the folder ``template``."""
    return (files("robustness") / "analysis" / "template" / name).read_text(encoding="utf-8")


def fill_template(name: str, fields: Mapping[str, str]) -> str:
    """Fill the ``{{fields}}`` of a page; the field ``css`` is the style sheet that all pages share."""
    fields = {**fields, "css": read_template("page.css")}
    first, *parts = read_template(name).split("{{")
    return first + "".join(fields[field] + rest for field, rest in (part.split("}}", 1) for part in parts))
