"""The subcommands of ``python -m data_prep``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from data_prep.catalogue import format_data, list_data
from data_prep.command_line import parse_names
from data_prep.decode import Geometry
from data_prep.describe import describe
from data_prep.download import REMOTES, download_data
from data_prep.generate import SOURCES, generate_archive_c
from data_prep.importing import import_tree
from data_prep.verify import verify_data

OFFICIAL_IMAGES = 10_000


@dataclass(frozen=True, kw_only=True)
class Command:
    """A subcommand.

    summary: its line in the list of commands. examples, note: the end of its help.
    run: runs it with the parsed arguments; its help begins with this function's docstring.
    declare: adds its arguments to a parser, except ``--data-dir``. has_data: whether it has ``--data-dir``.
    """

    summary: str
    examples: tuple[str, ...]
    run: Callable[[argparse.Namespace], object]
    declare: Callable[[argparse.ArgumentParser], object] = lambda _: None
    has_data: bool = True
    note: str = ""

    @property
    def epilog(self) -> str:
        """The end of its help."""
        return "\n".join(["examples:", *(f"  python -m data_prep {words}" for words in self.examples), self.note])


def run_list(arguments: argparse.Namespace) -> None:
    """List the data sets: which are on disk, and how to get the others."""
    print(format_data(list_data(arguments.data_dir)))


def _declare_download(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help=", ".join(REMOTES))


def run_download(arguments: argparse.Namespace) -> None:
    """Download an official data set: resume a partial download, check its published MD5, keep only a complete file."""
    path = download_data(arguments.name, arguments.data_dir, progress=True)
    print(f"{arguments.name} is in {path}")
    archive = arguments.data_dir / REMOTES[arguments.name].file
    if path != archive and archive.is_file():
        print(f"{archive} is no longer needed and can be removed")


def _declare_import(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "path", type=Path, help="tree <split>/<class>/<file>, or a .tar, .tar.gz, .tar.xz or .zip of one"
    )
    parser.add_argument("--name", required=True, help="name of the data set, as in load_images(NAME)")
    parser.add_argument(
        "--note",
        default="",
        help='how the images differ from the original, as in "JPEG q75"; shown in every table and figure',
    )
    parser.add_argument("--resize", type=int, metavar="SHORT", help="bring the short side to this length, bilinear")
    parser.add_argument("--crop", type=int, metavar="SIDE", help="keep the centre square of this side")
    parser.add_argument("--replace", action="store_true", help="replace a data set of this name")


def run_import(arguments: argparse.Namespace) -> None:
    """Import an image tree, or an archive of one: every image is decoded once, into flat arrays."""
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


def _declare_generate(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    names = ", ".join(SOURCES)
    add(
        "name",
        help=f"{names}, or your own data set or folder; written to a folder that ends in -generated, never to "
        "the folder of an archive",
    )
    add("--split", metavar="NAME", help="split of your own data set (default: test, otherwise a validation split)")
    add(
        "--corruptions",
        metavar="A,B",
        default="all",
        help="names, or the groups all, standard, extra, noise, blur, weather, digital, cbar; all,-frost leaves one "
        "out (default: all)",
    )
    add("--n", type=int, metavar="N", help="number of images, drawn at random (default: all)")
    add("--seed", type=int, default=0, metavar="N", help="seed of the corruptions (default: 0)")
    add("--device", choices=("cpu", "cuda"), default="cpu", help="device to compute on (default: cpu)")


def run_generate(arguments: argparse.Namespace) -> None:
    """Write a corrupted test set in the official layout from the clean test images, in place of a missing archive."""
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


def _declare_verify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="a name from `python -m data_prep list`")


def run_verify(arguments: argparse.Namespace) -> None:
    """Read a data set again from end to end and compare it with its checksums, shapes and fingerprints."""
    for line in verify_data(arguments.name, arguments.data_dir):
        print(line, flush=True)
    print(f"{arguments.name} is right")


def _declare_describe(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", help="a folder, an archive, a .npz or .npy")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run_describe(arguments: argparse.Namespace) -> None:
    """Describe the data at a path: layout, data set, sizes, classes, corruptions, severities, image counts, hash."""
    description = describe(arguments.path)
    if arguments.json:
        print(json.dumps(description.as_json(), indent=2))
    else:
        print("\n".join(description.lines()))


COMMANDS = {
    "list": Command(
        summary="list the data sets on disk, and how to get the rest",
        examples=("list",),
        run=run_list,
    ),
    "download": Command(
        summary="get an official data set",
        examples=("download cifar10", "download cifar10c --data-dir /mnt/data"),
        note="\nwithout a network, fetch the file on another machine, put it into the data folder and run the same "
        "command:\n" + "\n".join(f"  {name:<10} {remote.file:<24} {remote.url}" for name, remote in REMOTES.items()),
        declare=_declare_download,
        run=run_download,
    ),
    "import": Command(
        summary="import an image tree or an archive of one",
        examples=(
            'import cifar10-jpeg.tar.xz --name cifar10 --note "JPEG q75"',
            "import ~/imagenet --name imagenet --resize 256 --crop 224",
        ),
        declare=_declare_import,
        run=run_import,
    ),
    "generate": Command(
        summary="make a corrupted test set from the clean test images",
        examples=(
            "generate cifar10c",
            "generate cifar10c --corruptions noise,fog --n 1000",
            "generate pets --split val --corruptions standard",
        ),
        declare=_declare_generate,
        run=run_generate,
    ),
    "verify": Command(
        summary="check a data set against its checksums and fingerprints",
        examples=("verify cifar10", "verify cifar10c"),
        declare=_declare_verify,
        run=run_verify,
    ),
    "describe": Command(
        summary="describe the data at a path: a data set, pictures, a -C archive, a shifted set",
        examples=("describe pets/", "describe data/Tiny-ImageNet-C --json"),
        declare=_declare_describe,
        run=run_describe,
        has_data=False,
    ),
}
