"""Compare two runs on the same images: ``python -m robustness.compare RUN_A RUN_B``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from data_prep.command_line import CommandParser, add_version, parse_names
from data_prep.errors import EXIT_DONE, InputError, run_command
from robustness.grids import format_lam

if TYPE_CHECKING:
    import pandas as pd


_UNITS = {"accuracy": "", "flips": ": flips (%)", "top5_distance": ": top-5 distance (0 to 15)"}


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = CommandParser(
        prog="python -m robustness.compare",
        description="Run B minus run A, paired image by image, with 95 % intervals: accuracy on clean and corrupted "
        "images and under natural shifts, flips and top-5 distances along sequences (less is better). Runs that differ "
        "in images, corruptions, seeds, speed or protocol are refused. Policies that chose from other λs, attacks, and "
        "results that only one run has are left out and listed. The column `cells` counts the cells that went into a "
        "mean. No model or data is needed.",
        epilog="examples:\n  python -m robustness.compare results/runs/before results/runs/after\n"
        "  python -m robustness.compare runs/a runs/b --models sdnet18-cifar10,my-sdnet18 --out difference.csv",
    )
    add_version(parser)
    parser.add_argument("first", type=Path, metavar="RUN_A", help="run directory to compare with")
    parser.add_argument("second", type=Path, metavar="RUN_B", help="run directory whose difference from RUN_A is shown")
    parser.add_argument("--models", metavar="A,B", help="model of each run to compare (default: all that both have)")
    parser.add_argument("--out", type=Path, metavar="FILE.csv", help="also write the table to this file")
    arguments = parser.parse_args(argv)
    import robustness
    from robustness.analysis.texts import to_markdown, write_csv

    first, second = robustness.open_run(arguments.first), robustness.open_run(arguments.second)
    names = parse_names(arguments.models, known=[*first.models, *second.models]) if arguments.models else ()
    if arguments.models and len(names) not in (1, 2):
        raise InputError(
            "expected --models as one name for both runs, or A,B, with a backslash before a comma within a name, got "
            f"{arguments.models!r}; name one or two"
        )
    table = first.compare(second, models=(names[0], names[-1]) if names else None)
    if arguments.out is not None:
        write_csv(table, arguments.out)
    print(to_markdown(_show(table)))
    print(f"\nA: {arguments.first}; B: {arguments.second}; paired over n images.")
    for reason in (*table.attrs["marks"], *table.attrs["left_out"]):
        print(f"{reason}.")
    return EXIT_DONE


def _show(table: pd.DataFrame) -> pd.DataFrame:
    """Format the table for a reader: percent, except for distances; the difference with its interval in one cell."""
    import pandas as pd

    lam = table["lam"].map(lambda value: "" if pd.isna(value) else f" λ={format_lam(value)}")
    scales = table["measure"].map(lambda measure: 1 if measure == "top5_distance" else 100)
    shown = table[["severities", "n"]].astype(str).rename(columns={"severities": "cells"})
    for name, column in {"A": "first", "B": "second"}.items():
        shown[name] = [f"{value:.1f}" for value in scales * table[column]]
    parts = zip(*(scales * table[column] for column in ("difference", "low", "high")))
    shown["B − A [95 %]"] = [f"{value:+.1f} [{low:+.1f}, {high:+.1f}]".replace("-", "−") for value, low, high in parts]
    suite = table["suite"] + ": " if "suite" in table else ""
    shown.index = pd.Index(
        suite
        + table["model"]
        + " "
        + table["policy"]
        + lam
        + ", "
        + table["perturbation"]
        + table["measure"].map(_UNITS),
        name="accuracy (%)",
    )
    return shown


if __name__ == "__main__":
    sys.exit(run_command(main))
