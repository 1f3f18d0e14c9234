"""Download, import, generate, list, describe and check images: data sets and archives of corruptions."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from data_prep.catalogue import format_data, list_data
from data_prep.command_line import CommandParser, add_version
from data_prep.commands import COMMANDS
from data_prep.errors import EXIT_DONE, run_command


class DataParser(CommandParser):
    """A parser whose help ends with the list of data sets currently on disk."""

    def format_help(self) -> str:
        """Return the help, followed by the output of ``python -m data_prep list``."""
        return f"{super().format_help()}\ndata:\n{format_data(list_data(Path('data')))}\n"


def build_parser() -> argparse.ArgumentParser:
    """Build the parser, one subparser for each of ``COMMANDS``."""
    parser = DataParser(prog="python -m data_prep", description=__doc__)
    add_version(parser)
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=CommandParser)
    for name, command in COMMANDS.items():
        subparser = subparsers.add_parser(
            name,
            help=command.summary,
            description=command.run.__doc__,
            epilog=command.epilog,
        )
        command.declare(subparser)
        if command.has_data:
            folder = "folder of the data sets (default: data)"
            subparser.add_argument("--data-dir", type=Path, default=Path("data"), help=folder)
        subparser.set_defaults(run=command.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit code."""

    def run() -> int:
        arguments = build_parser().parse_args(argv)
        arguments.run(arguments)
        return EXIT_DONE

    return run_command(run)


if __name__ == "__main__":
    sys.exit(main())
