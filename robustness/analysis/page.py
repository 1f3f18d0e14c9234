"""The report ``report.html``: all results of a run in one file that needs no network."""

from __future__ import annotations

import html
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.files import write_text
from robustness.analysis.findings import Findings
from robustness.analysis.page_data import collect, list_shown
from robustness.analysis.tables import describe, list_doubts
from robustness.analysis.texts import fill_template, read_template
from robustness.suite_folders import is_parent

_DECIMALS = 4
_NBSP = "\N{NO-BREAK SPACE}"
_SCRIPTS = ("tools.js", "charts.js", "contest.js", "law.js", "attacks.js", "tables.js", "page.js")
"""Files of the folder ``template``, in the order in which the page runs them."""


def write_page(findings: Findings, path: Path | None = None) -> None:
    """Write the page to ``path``; by default to ``report.html`` in the run directory."""
    run, shown = findings.run, list_shown(findings)
    has_lam = bool(run.corrupted["lam"].notna().any())
    subject = "Robustness across λ" if has_lam else "Robustness"
    left_out = len(run.models) - len(shown)
    limit = (
        f" Of {len(run.models)} models this page shows {len(shown)}: all are in cells.csv and tables/."
        if left_out
        else ""
    )
    fields = {
        "title": html.escape(f"{run.record['suite']['name']}: {subject.lower()}"),
        "kicker": _link_up(run.directory.path, path) + html.escape(f"{subject} · suite {run.record['suite']['name']}"),
        "skip": "Skip to the λ slider" if has_lam else "Skip to the results",
        "headline": html.escape(findings.headline),
        "lede": html.escape(
            f"{run.record['suite']['description']}. {describe(run)}. Intervals are of 95{_NBSP}%.{limit}"
        ),
        "doubts": "".join(f'\n  <p class="doubt">{html.escape(line)}</p>' for line in list_doubts(run)),
        "script": "".join(map(read_template, _SCRIPTS)),
        "data": to_embedded_json(collect(findings)),
    }
    write_text(path or run.directory.path / "report.html", fill_template("page.html", fields))


def _link_up(folder: Path, path: Path | None) -> str:
    """Write a link to the page over several suites, if the report lies below one."""
    is_below = path in (None, folder / "report.html") and is_parent(folder.resolve().parent)
    return '<a href="../report.html">all suites</a> · ' if is_below else ""


def to_embedded_json(values: Any) -> str:
    """Write JSON that is safe inside a ``<script>`` element whatever it holds: no ``<``, NaN as null."""

    def clean(value: Any) -> Any:
        if isinstance(value, (float, np.floating)):
            return round(float(value), _DECIMALS) if math.isfinite(value) else None
        if isinstance(value, dict):
            return {str(key): clean(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [clean(item) for item in value]
        return value.item() if isinstance(value, np.generic) else value

    text = json.dumps(clean(values), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
