"""Write a corrupted test set in the official layout from the clean test images, in place of a missing archive."""

from __future__ import annotations

import argparse

from data_prep.commands.options import add_data_dir
from data_prep.generate import SOURCES, generate_archive_c
from data_prep.names import parse_names

OFFICIAL_IMAGES = 10_000
SUMMARY = "make a corrupted test set from the clean test images"
EXAMPLES = """\
examples:
  python -m data_prep generate cifar10c
  python -m data_prep generate cifar10c --corruptions noise,fog --n 1000
  python -m data_prep generate pets --split val --corruptions standard
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``generate``."""
    add = parser.add_argument
    names = ", ".join(SOURCES)
    add(
        "name",
        help=f"{names}, or your own data set or folder; written to a folder that ends in -generated, never to "
        "the folder of an archive",
    )
    add_data_dir(parser)
    add("--split", metavar="NAME", help="split of your own data set (default: test, otherwise a validation split)")
    add(
        "--corruptions",
        metavar="A,B",
        default="all",
        help="names or all, standard, extra, noise, blur, weather, digital; all,-frost excludes one (default: all)",
    )
    add("--n", type=int, metavar="N", help="number of images, drawn at random (default: all)")
    add("--seed", type=int, default=0, metavar="N", help="seed of the corruptions (default: 0)")
    add("--device", choices=("cpu", "cuda"), default="cpu", help="device to compute on (default: cpu)")


def run(arguments: argparse.Namespace) -> int:
    """Generate the missing files and print their folder."""
    if arguments.name in SOURCES and arguments.n is not None and arguments.n < OFFICIAL_IMAGES:
        print(f"RobustBench cannot read a set of {arguments.n:,}: it wants all {OFFICIAL_IMAGES:,} images per severity")
    folder = generate_archive_c(
        arguments.name,
        data_dir=arguments.data_dir,
        split=arguments.split,
        corruptions=parse_names(arguments.corruptions),
        n=arguments.n,
        seed=arguments.seed,
        device=arguments.device,
        progress=True,
    )
    print(f"{arguments.name}: all requested files are in {folder}")
    return 0
