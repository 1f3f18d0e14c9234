"""Import an image tree, or an archive of one: every image is decoded once, into flat arrays."""

from __future__ import annotations

import argparse
from pathlib import Path

from data_prep.commands.options import add_data_dir
from data_prep.decode import Geometry
from data_prep.importing import import_tree

SUMMARY = "import an image tree or an archive of one"
EXAMPLES = """\
examples:
  python -m data_prep import cifar10-jpeg.tar.xz --name cifar10 --note "JPEG q75"
  python -m data_prep import ~/imagenet --name imagenet --resize 256 --crop 224
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``import``."""
    parser.add_argument(
        "path", type=Path, help="tree <split>/<class>/<file>, or a .tar, .tar.gz, .tar.xz or .zip of one"
    )
    parser.add_argument("--name", required=True, help="name of the data set, as in load_images(NAME)")
    parser.add_argument(
        "--note", default="", help='how it differs from the original, shown in every figure: "JPEG q75"'
    )
    add_data_dir(parser)
    parser.add_argument("--resize", type=int, metavar="SHORT", help="bring the short side to this length, bilinear")
    parser.add_argument("--crop", type=int, metavar="SIDE", help="keep the centre square of this side")
    parser.add_argument("--replace", action="store_true", help="replace a data set of this name")


def run(arguments: argparse.Namespace) -> int:
    """Import the tree and print a summary."""
    record = import_tree(
        arguments.path,
        name=arguments.name,
        note=arguments.note,
        data_dir=arguments.data_dir,
        geometry=Geometry(resize=arguments.resize, crop=arguments.crop),
        replace=arguments.replace,
        progress=True,
    )
    counts = ", ".join(f"{count:,} {split}" for split, count in record.counts.items())
    height, width = record.image_size
    print(f"{record.title}: {counts} images of {height} x {width} in {len(record.classes)} classes")
    return 0
