"""Measure how faithful the corruptions are: each next to the steps of the official generators on the same real images.

    python benchmarks/corruption_fidelity.py --profile cifar --n 300

Deterministic corruptions are compared value by value: the share within one grey level and the mean absolute difference.
Random ones are compared in how far they move the images, as root mean square and as mean absolute difference: the table
gives ours over the reference's, less one. Each entry is the worst of the severities.
"""

from __future__ import annotations

import sys

import numpy as np
from corruptions import IMAGES, SEVERITIES, check_packages, load_images  # the benchmark next to this file
from parity import reference as reference_module

from data_prep.command_line import CommandParser, parse_names
from data_prep.corruptions import corrupt, expand_names
from data_prep.corruptions.registry import CORRUPTIONS
from data_prep.errors import EXIT_DONE, run_command


def compare(ours: np.ndarray, theirs: np.ndarray, clean: np.ndarray) -> list[float]:
    """Share of values within one level, mean absolute difference, and the two ratios less one."""
    difference = np.abs(ours.astype(int) - theirs)
    changes = [images.astype(float) - clean for images in (ours, theirs)]
    squares = [np.sqrt((change**2).mean()) for change in changes]
    absolutes = [np.abs(change).mean() for change in changes]
    ratios = [mine / expected - 1 for mine, expected in (squares, absolutes)]
    return [(difference <= 1).mean(), difference.mean(), *ratios]


def main() -> int:
    parser = CommandParser(description=__doc__)
    parser.add_argument("--profile", choices=IMAGES, default="cifar")
    parser.add_argument("--n", type=int, default=300)
    parser.add_argument("--corruptions", default="all")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    names = expand_names(parse_names(arguments.corruptions))
    check_packages()
    reference = reference_module.Reference(arguments.profile, seed=arguments.seed)
    images, title = load_images(arguments.profile, arguments.n)
    size = " x ".join(map(str, images.shape[1:3]))
    print(f"{arguments.profile}, {len(images)} {title}, {size}, worst of 5 severities\n")
    print("| corruption | within 1 level | mean difference | RMSE | mean absolute |\n|---|--:|--:|--:|--:|")
    for name in names:
        rows = []
        for severity in SEVERITIES:
            theirs = np.stack([reference(image, name, severity) for image in images])
            ours = corrupt(images, name, severity=severity, profile=arguments.profile, seed=arguments.seed)
            rows.append(compare(ours, theirs, images))
        within, difference, squares, absolutes = zip(*rows, strict=True)
        ratios = " | ".join(f"{max(it, key=abs):+.2%}" for it in (squares, absolutes))
        direct = "random | random" if CORRUPTIONS[name].random else f"{min(within):.3%} | {max(difference):.4f}"
        print(f"| {name} | {direct} | {ratios} |", flush=True)
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(run_command(main))
