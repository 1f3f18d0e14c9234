"""Train variants of a recipe that differ in one thing and measure the effect: ``python -m robustness.ablate``."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from data_prep.command_line import CommandParser, add_version
from data_prep.errors import EXIT_DONE, check_words, run_command
from robustness.options import AblationOptions


def make_parser() -> argparse.ArgumentParser:
    """Build the command-line parser."""
    parser = CommandParser(
        prog="python -m robustness.ablate",
        description="Train a recipe as it is, and again with one key changed at a time. Then measure all models in "
        "one run of a suite, and pair each with the model of the unchanged recipe. After an interruption, the same "
        "command resumes.",
        epilog="example:\n  python -m robustness.ablate --recipe cifar10-sdnet18-small --set epochs=4 \\\n"
        "      --vary model.n_steps=1,4,8 --vary model.lam=0.05,0.2,0.5 --vary model.mu=0.05 --vary model.robust=true",
    )
    add_version(parser)
    add = parser.add_argument
    add("--recipe", required=True, metavar="NAME|FILE.toml", help="recipe to train; the variants are compared with it")
    add(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override a key of the recipe in every training"
    )
    add("--vary", action="append", required=True, metavar="KEY=A,B", help="key of the recipe to vary, and its values")
    add("--seed", type=int, default=0, metavar="N", help="seed of every training (default 0)")
    add("--precision", choices=("float32", "bf16"), default="float32", help="precision of the trainings")
    add("--threads", type=int, metavar="N", help="CPU threads of the trainings (default: all cores)")
    add("--suite", default="noise", metavar="NAME|FILE.toml", help="suite to measure (default noise)")
    add("--n", type=int, default=1000, metavar="N", help="number of images to measure (default 1000)")
    add("--data-dir", default="data", metavar="DIR", help="folder of the data sets (default data)")
    add("--device", metavar="cpu|cuda", help="device to compute on (default: cuda if it works)")
    add("--out", metavar="DIR", help="output folder (default results/runs/ablation-<recipe>)")
    add("--dry-run", action="store_true", help="print what would be trained, and train nothing")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    words = sys.argv[1:] if argv is None else argv
    check_words(words)
    arguments = vars(make_parser().parse_args(words))
    is_dry = arguments.pop("dry_run")
    given: dict[str, Any] = {name: tuple(it) if isinstance(it, list) else it for name, it in arguments.items()}
    from robustness.ablation import Ablation, lay_out
    from robustness.analysis.texts import to_markdown
    from robustness.report import exit_code, print_summary

    ablation = Ablation.plan(AblationOptions(**given))
    for name, variant in ablation.variants.items():
        state = "trained" if name in ablation.trained else "to train"
        print(f"{name:24} {state}  {' '.join(variant.changes)}")
    if is_dry:
        return EXIT_DONE
    ablation.train()
    findings = ablation.run_suite(say=print)
    print_summary(findings)
    if code := exit_code(findings):
        return code
    print(f"{to_markdown(lay_out(ablation.compare()))}\nwritten: {ablation.out / 'ablation.csv'}")
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(run_command(main))
