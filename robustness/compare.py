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


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = CommandParser(
        prog="python -m robustness.compare",
        description="Accuracy of run B minus that of run A, paired image by image, with 95 % bootstrap intervals. "
        "Runs on other images, corruptions, seeds, speeds or protocols are refused; policies that chose from other λs "
        "are left out by name. The column cells counts what went into a mean. No model or data is needed.",
        epilog="examples:\n  python -m robustness.compare results/runs/before results/runs/after\n"
        "  python -m robustness.compare runs/a runs/b --models sdnet18-cifar10,my-sdnet18 --out difference.csv",
    )
    add_version(parser)
    parser.add_argument("first", type=Path, metavar="RUN_A", help="a run directory")
    parser.add_argument("second", type=Path, metavar="RUN_B", help="another one")
    parser.add_argument("--models", metavar="A,B", help="the model of each run (default: those that both have)")
    parser.add_argument("--out", type=Path, metavar="FILE.csv", help="write the tidy table, too")
    arguments = parser.parse_args(argv)
    import robustness
    from robustness.analysis.texts import to_markdown, write_csv

    first, second = robustness.open_run(arguments.first), robustness.open_run(arguments.second)
    names = parse_names(arguments.models, known=[*first._run.models, *second._run.models]) if arguments.models else ()
    if arguments.models and len(names) not in (1, 2):
        raise InputError(
            "expected --models as one name for both runs, or A,B, with a backslash before a comma within a name, got "
            f"{arguments.models!r}; name one or two"
        )
    table = first.compare(second, models=(names[0], names[-1]) if names else None)
    if arguments.out is not None:
        write_csv(table, arguments.out)
    print(to_markdown(_show(table)))
    print(f"\nA: {arguments.first}; B: {arguments.second}; n = {int(table['n'].iloc[0])} images, paired.")
    for reason in table.attrs["left_out"]:
        print(f"{reason}.")
    return EXIT_DONE


def _show(table: pd.DataFrame) -> pd.DataFrame:
    """Format the table for a reader: percent, and the difference with its interval in one cell."""
    import pandas as pd

    lam = table["lam"].map(lambda value: "" if pd.isna(value) else f" λ={format_lam(value)}")
    cells = table["severities"].map(str)
    shown = pd.DataFrame({"cells": cells, "A (%)": 100 * table["first"], "B (%)": 100 * table["second"]})
    parts = zip(100 * table["difference"], 100 * table["low"], 100 * table["high"])
    shown["B − A [95 %]"] = [f"{value:+.1f} [{low:+.1f}, {high:+.1f}]".replace("-", "−") for value, low, high in parts]
    shown.index = pd.Index(table["model"] + " " + table["policy"] + lam + ", " + table["perturbation"], name="accuracy")
    return shown


if __name__ == "__main__":
    sys.exit(run_command(main))
