"""Read a data set again from end to end and compare it with its checksums, shapes and fingerprints."""

from __future__ import annotations

import argparse

from data_prep.commands.options import add_data_dir
from data_prep.verify import verify_data

SUMMARY = "check a data set against its checksums and fingerprints"
EXAMPLES = """\
examples:
  python -m data_prep verify cifar10
  python -m data_prep verify cifar10c
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``verify``."""
    parser.add_argument("name", help="a name from `python -m data_prep list`")
    add_data_dir(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print a line for every correct part; stop at the first incorrect one."""
    for line in verify_data(arguments.name, arguments.data_dir):
        print(line, flush=True)
    print(f"{arguments.name} is right")
    return 0
