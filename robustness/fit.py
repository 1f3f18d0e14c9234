"""Fit the residual law of a model on training images: ``python -m robustness.fit sdnet18-cifar10 --data cifar10``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from data_prep.command_line import CommandParser, add_version
from data_prep.corruptions import severities
from data_prep.errors import EXIT_DONE, run_command
from robustness.grids import parse_lambdas
from robustness.policies import SWEEP_NOISES
from sdnet_core.config import SPEEDS

_LEVELS = 1 + sum(len(severities(noise, "sweep")) for noise in SWEEP_NOISES)


def make_parser() -> argparse.ArgumentParser:
    """Build the command-line parser."""
    parser = CommandParser(
        prog="python -m robustness.fit",
        description="Fit the line λ = slope · r + intercept to the best λs of training images at "
        f"{_LEVELS} noise levels (one of them without noise), where r = ‖x − Az‖² is the residual of an image at the "
        "training λ. The law is stored next to the weights, and runs of the model then report the policy `residual`.",
        epilog="examples:\n  python -m robustness.fit sdnet18-shapes --data shapes\n"
        "  python -m robustness.fit my/model.safetensors --data cifar10 --n 2000 --lambdas 0.1:1.4:14\n"
        "  python -m robustness.fit my/model.safetensors --data cifar10 --noises speckle_noise",
    )
    add_version(parser)
    add = parser.add_argument
    add("model", metavar="NAME|FILE", help="a shipped name or a .safetensors checkpoint")
    add("--data", required=True, metavar="NAME", help="data set that the model was trained on")
    add("--data-dir", type=Path, default=Path("data"), metavar="DIR", help="folder of the data sets (default data)")
    add("--n", type=int, default=1000, metavar="N", help="number of training images, drawn at random (default 1000)")
    add("--lambdas", default="0.1:1.4:14", metavar="GRID", help="λs to choose from (default 0.1:1.4:14)")
    add(
        "--noises",
        default=",".join(SWEEP_NOISES),
        metavar="NOISES",
        help="noises to fit the law to (default: all four); a law that is fitted to speckle_noise alone is not fitted "
        "to any of the 15 corruptions of a -C benchmark",
    )
    add("--seed", type=int, default=0, metavar="N", help="seed of the subset and of the noise (default 0)")
    add("--device", metavar="cpu|cuda", help="device to compute on (default: cuda if it works)")
    add("--speed", choices=SPEEDS, default="exact", help="as in robustness.run; the residual is exact either way")
    add("--batch-size", type=int, default=250, metavar="N", help="images per forward pass (default 250)")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    arguments = vars(make_parser().parse_args(argv))
    lambdas = parse_lambdas(arguments.pop("lambdas"))
    noises = arguments.pop("noises").replace(" ", "").split(",")
    from robustness.measure.fitting import fit_law

    fitted, path = fit_law(lambdas=lambdas, noises=noises, **arguments)
    law, quality = fitted.law, "–" if fitted.r_squared is None else f"{fitted.r_squared:.2f}"
    used = f"{sum(point.fitted for point in fitted.points)} of {len(fitted.points)} noise levels"
    data = fitted.provenance["data"]
    print(
        f"λ = {law.slope:.3g} · r + {law.intercept:.3g}, clipped to [{law.lowest:g}, {law.highest:g}]; R² = {quality}, "
        f"{used}, n = {data['n']} {data['title']} {data['split']}\nwritten: {path}"
    )
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(run_command(main))
