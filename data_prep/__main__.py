"""The command line of the data sets: ``python -m data_prep``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from data_prep.commands import import_command
from data_prep.errors import run_command

COMMANDS = {"import": import_command}


def build_parser() -> argparse.ArgumentParser:
    """Build the parser, one subparser per module of ``COMMANDS``."""
    parser = argparse.ArgumentParser(prog="python -m data_prep", description=__doc__)
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        subparser = subparsers.add_parser(
            name,
            help=command.SUMMARY,
            description=command.__doc__,
            epilog=command.EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_arguments(subparser)
        subparser.set_defaults(run=command.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit code."""
    arguments = build_parser().parse_args(argv)
    return run_command(lambda: arguments.run(arguments))


if __name__ == "__main__":
    sys.exit(main())
