"""Rebuild the tables, figures and reports of run directories: ``python -m robustness.report RUN_DIR``."""

from __future__ import annotations

import json
import shutil
import sys
from collections import Counter
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

from data_prep.command_line import CommandParser, add_version
from data_prep.errors import EXIT_DONE, EXIT_SOME_FAILED, run_command

if TYPE_CHECKING:
    from robustness.analysis.findings import Findings
    from robustness.analysis.overview import Overview

STRICT_HELP = "exit with 1 if any number carries a trust mark other than OK"
_MOST_LAMBDAS = 6
_MOST_LINES = 20


def print_summary(findings: Findings) -> None:
    """Print the final table and the location of every result."""
    from robustness.analysis.attack_tables import describe_attacks, explain_columns, widen_attacks
    from robustness.analysis.sequences import SEQUENCE_NOTE
    from robustness.analysis.shifts import format_shifts
    from robustness.analysis.tables import SUMMARY_NOTE, describe, format_sequences, list_doubts, list_missing, widen
    from robustness.analysis.texts import to_terminal
    from robustness.analysis.write import MOST_OWN

    run = findings.run
    for reason, count in Counter(run.missing.values()).items():
        print(f"{count} of {len(run.record['cells'])} cells are missing: {reason}", file=sys.stderr)
        lines = list_missing(run)[reason]
        print(*(f"  {line}" for line in lines[:_MOST_LINES]), sep="\n", file=sys.stderr)
        if len(lines) > _MOST_LINES:
            print(f"  and {len(lines) - _MOST_LINES} more: run.json", file=sys.stderr)
    if not len(run.cells):
        print("no cell is finished yet: nothing to show")
        return
    width = shutil.get_terminal_size((110, 40)).columns
    notes = [f"{describe(run)}."]
    if run.corruptions or findings.attacks is None:
        print(to_terminal(widen(findings.summary, run, most=_MOST_LAMBDAS), width), end="\n\n")
        notes.append(SUMMARY_NOTE)
    if len(findings.sequences):
        print(to_terminal(format_sequences(findings.sequences), width), end="\n\n")
        notes.append(SEQUENCE_NOTE)
    if len(findings.shifts):
        print(format_shifts(findings.shifts))
    if findings.attacks is not None:
        for norm in findings.attacks.rows["norm"].unique():
            print(to_terminal(widen_attacks(run, findings.attacks, norm, whole=False), width), end="\n\n")
        notes += [f"{describe_attacks(run)}.", explain_columns(findings.attacks)]
    if len(run.models) > MOST_OWN:
        notes.append(
            f"{len(run.models)} models are too many for figures of each in figures/: "
            f"robustness.open_run({str(run.directory.path)!r}).plot(NAME) draws them."
        )
    print("\n".join(fill(note, width) for note in notes))
    print(f"\n{fill(findings.headline, width)}\n")
    for line in list_doubts(run):
        print(f"{fill(line, width)}\n")
    print(f"written: {run.directory.path}/ (report.html, cells.csv, tables/, figures/, run.json)")


def print_overview(overview: Overview) -> None:
    """Print the leaderboard of several suites and its location."""
    from robustness.analysis.overview import ORDER_NOTE
    from robustness.analysis.tables import RANK_NOTE
    from robustness.analysis.texts import to_terminal

    width = shutil.get_terminal_size((110, 40)).columns
    print(f"\n{to_terminal(overview.lay_out(), width)}\n\n{fill(f'{RANK_NOTE} {ORDER_NOTE}', width)}")
    print(f"\nwritten: {overview.path}/ (report.html, leaderboard.csv, and a run directory for each suite)")


def to_json(findings: Findings) -> dict[str, Any]:
    """Return the run as JSON values: headline, status, the rows of ``summary.csv`` and the run's other results."""
    run, attacks, shifts = findings.run, findings.attacks, findings.shifts
    frames = {"summary": findings.summary, **({} if attacks is None else {"attacks": attacks.rows})}
    frames |= {"shifts": shifts} if len(shifts) else {}
    frames |= {"sequences": findings.sequences} if len(findings.sequences) else {}
    return {
        "headline": findings.headline if len(run.cells) else "",
        "run": str(run.directory.path),
        "status": run.record["status"],
        "missing": run.missing,
        "doubts": {model: {"trust": it.mark, "trust_reason": it.reason} for model, it in run.doubts.items()},
        **{name: json.loads(frame.to_json(orient="records")) for name, frame in frames.items()},
    }


def overview_to_json(overview: Overview) -> dict[str, Any]:
    """Return several suites as JSON values: the leaderboard, and every run as :func:`to_json` returns it."""
    board = json.loads(overview.board.to_json(orient="records"))
    runs = {name: to_json(findings) for name, findings in overview.findings.items()}
    return {"run": str(overview.path), "leaderboard": board, "suites": runs}


def exit_code(findings: Findings, *, strict: bool = False) -> int:
    """Return 0 if every cell is there and, under ``strict``, every mark is OK; 1 otherwise."""
    run = findings.run
    is_doubtful = strict and (bool(run.doubts) or (findings.attacks is not None and not findings.attacks.is_believed))
    return EXIT_SOME_FAILED if run.missing or is_doubtful else EXIT_DONE


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = CommandParser(
        prog="python -m robustness.report",
        description="Rebuild the tables, figures and report.html of run directories; no model, data or GPU is needed.",
        epilog="example:\n  python -m robustness.report results/runs/demo",
    )
    add_version(parser)
    parser.add_argument(
        "run_dirs",
        nargs="+",
        type=Path,
        metavar="RUN_DIR",
        help="run directory (the --out of robustness.run), of one suite or several",
    )
    parser.add_argument("--pdf", action="store_true", help="also draw the figures as PDF, for printing")
    parser.add_argument("--strict", action="store_true", help=STRICT_HELP)
    arguments = parser.parse_args(argv)
    from robustness.analysis.overview import Overview
    from robustness.analysis.write import write_analysis
    from robustness.run_directory import RunDirectory
    from robustness.suite_folders import is_parent, list_begun

    codes = []
    for path in arguments.run_dirs:
        runs = list_begun(path) if is_parent(path) else {"": RunDirectory(path)}
        written = {name: write_analysis(directory, pdf=arguments.pdf) for name, directory in runs.items()}
        for findings in written.values():
            print_summary(findings)
            codes.append(exit_code(findings, strict=arguments.strict))
        if is_parent(path):
            overview = Overview(path, written)
            overview.write()
            print_overview(overview)
    return max(codes, default=EXIT_DONE)


if __name__ == "__main__":
    sys.exit(run_command(main))
