"""Measure natural shifts: ``python -m robustness.shifts --models torchvision:resnet50,timm:NAME --data imagenet``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from data_prep.errors import EXIT_DONE, InputError, PrerequisiteError, check_seed, run_command
from data_prep.names import parse_names
from data_prep.parser import CommandParser
from data_prep.version import add_version
from robustness.grids import parse_lambdas

if TYPE_CHECKING:
    from data_prep.shifts import Shift

_CLEAN_SPLITS = {"imagenet": "val", "cifar10": "test"}
_LARGE_SIDE, _BATCH_SIZE, _BATCH_SIZE_OF_LARGE = 64, 250, 50


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = CommandParser(
        prog="python -m robustness.shifts",
        description="Measure models on the natural shifts that lie in the data directory (ImageNet-V2, -A, -R, "
        "-Sketch, ObjectNet; CIFAR-10.1, 10.2), beside their accuracy on the clean images of the same classes, and "
        "their effective robustness: what they have above the line that the other models make.",
        epilog="examples:\n  python -m robustness.shifts --data cifar10 --models sdnet18-cifar10,resnet18-cifar10\n"
        "  python -m robustness.shifts --data imagenet --models torchvision:resnet50 --shifts imagenetr --n 1000",
        allow_abbrev=False,
    )
    add_version(parser)
    add = parser.add_argument
    add("--models", required=True, metavar="A,B", help="as in robustness.run")
    add("--data", choices=tuple(_CLEAN_SPLITS), required=True, help="the clean set, whose classes the models have")
    add("--shifts", metavar="A,B", help="names of python -m data_prep list (default: all that are there)")
    add("--lambdas", metavar="GRID", help="of models that have a λ (default: that of training)")
    add("--n", type=int, metavar="N", help="images of each set, a random subset (default: all)")
    add("--seed", type=int, default=0, metavar="N", help="of the subset (default 0)")
    add("--data-dir", type=Path, default=Path("data"), metavar="DIR", help="where data sets are (default data)")
    add("--out", type=Path, metavar="DIR", help="folder of the tables and figures (default results/shifts/<data>)")
    add("--device", metavar="cpu|cuda", help="default: cuda where it works")
    add("--batch-size", type=int, metavar="N", help="per forward pass (default 250; 50 above 64 pixels a side)")
    return parser


def _announced(shifts: Iterator[Shift]) -> Iterator[Shift]:
    """Pass the sets on and say what is to be known of them."""
    for shift in shifts:
        for note in shift.images.notes:
            print(f"note: {note}", file=sys.stderr)
        yield shift


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    arguments = make_parser().parse_args(argv)
    check_seed(arguments.seed)
    for name in ("n", "batch_size"):
        if (value := getattr(arguments, name)) is not None and value < 1:
            raise InputError(
                f"expected --{name.replace('_', '-')} of at least 1, got {value}; leave it out or raise it"
            )
    lambdas = () if arguments.lambdas is None else parse_lambdas(arguments.lambdas)
    wanted = None if arguments.shifts is None else parse_names(arguments.shifts)
    from data_prep import load_images
    from data_prep.disk import check_folder
    from data_prep.shifts import SHIFTS, find_shifts, geometry_beside, read_shift
    from robustness.analysis.shifts import format_shifts, write_shifts
    from robustness.measure.shifts import measure_shifts
    from robustness.measure.subjects import load_subjects
    from sdnet_core.environment import select_device

    out: Path = arguments.out or Path("results/shifts") / arguments.data
    check_folder(out)
    clean = load_images(arguments.data, _CLEAN_SPLITS[arguments.data], arguments.data_dir)
    found = find_shifts(arguments.data_dir, arguments.data)
    names = tuple(found) if wanted is None else wanted
    if not names:
        known = ", ".join(name for name, info in SHIFTS.items() if info.clean == arguments.data)
        raise PrerequisiteError(
            f"expected shifted sets of {arguments.data} ({known}) in {arguments.data_dir}, got none; "
            "python -m data_prep list says how to get them"
        )
    if others := [name for name in names if name not in SHIFTS or SHIFTS[name].clean != arguments.data]:
        known = ", ".join(name for name, info in SHIFTS.items() if info.clean == arguments.data)
        raise InputError(f"expected shifted sets of {arguments.data} ({known}), got {others[0]!r}; choose among them")
    device = select_device(arguments.device)
    side = max(clean.pixels.shape[1:3])
    subjects = load_subjects(parse_names(arguments.models), num_classes=len(clean.classes), device=device)
    geometry = geometry_beside(clean, arguments.data_dir)
    options = {"geometry": geometry, "n": arguments.n, "seed": arguments.seed}
    shifts = (read_shift(name, arguments.data_dir, progress=sys.stderr.isatty(), **options) for name in names)
    table = measure_shifts(
        subjects,
        clean,
        _announced(shifts),
        lambdas=lambdas,
        n=arguments.n,
        seed=arguments.seed,
        device=device,
        batch_size=arguments.batch_size or (_BATCH_SIZE_OF_LARGE if side > _LARGE_SIDE else _BATCH_SIZE),
        say=lambda line: print(line, file=sys.stderr),
    )
    full, paths = write_shifts(table, out)
    print(
        f"{clean.title}, {arguments.data} classes\n\n{format_shifts(full)}\nwritten: {', '.join(map(str, paths[:2]))}"
    )
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(run_command(main))
