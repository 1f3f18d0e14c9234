"""Several suites of one command: one leaderboard over all of them, and a page that links to each report."""

from __future__ import annotations

import html
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from data_prep.files import write_text
from robustness.analysis.columns import to_records, with_ends
from robustness.analysis.findings import Findings
from robustness.analysis.frames import Run
from robustness.analysis.tables import RANK_NOTE, describe, list_doubts
from robustness.analysis.texts import (
    SYMBOLS,
    fill_template,
    format_rank,
    format_value,
    name_setting,
    to_markdown,
    write_csv,
)
from robustness.suite_folders import list_begun

ORDER_NOTE = "Ordered by the mean of the middles of their ranks, every suite counting alike."
_LONG = 24
"""Characters of a name beyond which it may be broken into lines."""
_KEPT = ("model", "lam", "n", "rank_from", "rank_to")


@dataclass(frozen=True)
class Overview:
    """Several suites that were measured by one command.

    Args:
        path: the folder of their run directories.
        findings: results of each suite, by its name; those without a finished cell are not shown.
    """

    path: Path
    findings: dict[str, Findings]

    @classmethod
    def open(cls, path: Path) -> Overview:
        """Read the suites of a folder that have been started.

        Raises:
            InputError: the list of suites or a record is damaged.
        """
        return cls(path, {name: Findings.of(Run.open(directory)) for name, directory in list_begun(path).items()})

    def __post_init__(self) -> None:
        shown = {name: found for name, found in self.findings.items() if len(found.run.cells)}
        object.__setattr__(self, "findings", shown)

    @cached_property
    def board(self) -> pd.DataFrame:
        """One row per suite and model, in the order of :attr:`models`.

        Columns ``suite, measure, model, lam, n, rank_from, rank_to, value, low, high, trust``: the number that the
        suite ranks by, a share with its 95 % interval, and the resulting rank of the model.
        """
        parts = []
        for name, findings in self.findings.items():
            table, measure = findings.board.table, findings.board.measure
            values = dict(zip(("value", "low", "high"), (table[name] for name in with_ends(measure)), strict=True))
            marks = {name: verdict.mark for name, verdict in findings.run.doubts.items()}
            doubts = [marks.get(model, "") for model in table["model"]]
            trust = table.get(f"{measure}_trust", pd.Series(doubts, index=table.index, dtype=str))
            parts.append(table[list(_KEPT)].assign(suite=name, measure=measure, **values, trust=trust))
        columns = ["suite", "measure", *_KEPT, "value", "low", "high", "trust"]
        board = pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)
        middle = (board["rank_from"] + board["rank_to"]).groupby(board["model"], sort=False).mean()
        order = {model: place for place, model in enumerate(middle.sort_values(kind="stable").index)}
        return board.sort_values("model", key=lambda names: names.map(order), kind="stable", ignore_index=True)

    @property
    def models(self) -> list[str]:
        """The models of all suites, ordered by the mean of the midpoints of their ranks."""
        return list(dict.fromkeys(self.board["model"]))

    def write(self) -> None:
        """Write ``leaderboard.csv`` and ``.md``, and ``report.html``, which links to the reports of the suites."""
        write_csv(self.board, self.path / "leaderboard.csv")
        write_text(self.path / "leaderboard.md", f"{to_markdown(self.lay_out())}\n\n{RANK_NOTE} {ORDER_NOTE}\n")
        write_text(self.path / "report.html", self._fill_page())

    def lay_out(self) -> pd.DataFrame:
        """Format the leaderboard as text: a row per model; per suite the number that it ranks by and the rank."""
        rows: dict[str, dict[str, str]] = {model: {} for model in self.models}
        titles: dict[str, str] = {}
        heads = {name: f"{name}: {findings.board.title}" for name, findings in self.findings.items()}
        for findings in reversed(self.findings.values()):
            for model, *values in findings.board.table[["model", "clean", "clean_low", "clean_high"]].to_numpy():
                rows[model] |= {"clean": format_value(*values)}
        for row in to_records(self.board):
            titles[row["model"]] = name_setting(row)
            text = format_value(row["value"], row["low"], row["high"]) + SYMBOLS.get(str(row["trust"]), "")
            head, rank = heads[row["suite"]], format_rank(row["rank_from"], row["rank_to"])
            rows[row["model"]] |= {head: text, f"{row['suite']}: rank": rank}
        table = pd.DataFrame.from_dict(rows, orient="index").fillna("–").rename(index=titles)
        table.index.name = "accuracy (%)"
        return table

    def _fill_page(self) -> str:
        table = self.lay_out()
        heads = "".join(f'<th scope="col">{html.escape(str(name))}</th>' for name in [table.index.name, *table.columns])
        rows = "".join(
            f'<tr><td class="text{" long" * (len(str(name)) > _LONG)}">{html.escape(str(name))}</td>'
            + "".join(f"<td>{html.escape(str(text))}</td>" for text in cells)
            + "</tr>"
            for name, cells in zip(table.index, table.to_numpy())
        )
        suites = "".join(
            f'<section><h2><a href="{name}/report.html">{html.escape(name)}</a></h2>'
            f"<p>{html.escape(findings.headline)}</p>"
            + "".join(f'<p class="doubt">{html.escape(line)}</p>' for line in list_doubts(findings.run))
            + f'<p class="note">{html.escape(str(findings.run.record["suite"]["description"]))}. '
            f"{html.escape(describe(findings.run))}.</p></section>"
            for name, findings in self.findings.items()
        )
        count = len(self.models)
        fields = {
            "title": html.escape(f"{', '.join(self.findings)}: robustness"),
            "headline": html.escape(f"{count} model{'s' * (count != 1)} under {', '.join(self.findings)}"),
            "note": html.escape(f"A suite ranks by the number shown. {RANK_NOTE} {ORDER_NOTE}"),
            "table": f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>",
            "suites": suites,
        }
        return fill_template("overview.html", fields)
