"""Describe the data at a path: layout, data set, sizes, classes, corruptions, severities, number of images, hash."""

from __future__ import annotations

import argparse
import json

from data_prep.describe import describe

SUMMARY = "describe the data at a path: a data set, pictures, a -C archive, a shifted set"
EXAMPLES = """\
examples:
  python -m data_prep describe pets/
  python -m data_prep describe data/Tiny-ImageNet-C --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``describe``."""
    parser.add_argument("path", help="a folder, an archive, a .npz or .npy")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Print the description."""
    description = describe(arguments.path)
    if arguments.json:
        print(json.dumps(description.as_json(), indent=2))
    else:
        print("\n".join(description.lines()))
    return 0
