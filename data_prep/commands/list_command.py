"""List the data sets: the ones on disk, and how to get the rest."""

from __future__ import annotations

import argparse
from pathlib import Path

from data_prep.catalogue import format_data, list_data
from data_prep.commands.options import add_data_dir

SUMMARY = "list the data sets on disk, and how to get the rest"
EXAMPLES = """\
examples:
  python -m data_prep list
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``list``."""
    add_data_dir(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the list."""
    data_dir: Path = arguments.data_dir
    print(format_data(list_data(data_dir)))
    return 0
