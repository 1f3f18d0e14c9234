"""Train a model by a recipe: ``python -m sdnet_core.train --recipe cifar10-sdnet18``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from data_prep.command_line import CommandParser, add_version
from data_prep.errors import check_seed, run_command
from sdnet_core.recipes import read_recipe, shipped_recipes


def make_parser() -> argparse.ArgumentParser:
    """Build the parser of ``python -m sdnet_core.train``."""
    listed = "\n".join(f"  {name:24} {read_recipe(name).description}" for name in shipped_recipes())
    parser = CommandParser(
        prog="python -m sdnet_core.train",
        description="Train a model by a recipe. After an interruption, the same command resumes at the last finished "
        "epoch.",
        epilog=f"recipes:\n{listed}\n\nexamples:\n"
        "  python -m sdnet_core.train --recipe shapes-sdnet18\n"
        "  python -m sdnet_core.train --recipe cifar10-sdnet18 --precision bf16 --seed 1\n"
        "  python -m sdnet_core.train --recipe cifar10-sdnet18-small --set epochs=3 --set model.lam=0.2\n"
        "  python -m sdnet_core.train --recipe cifar10-sdnet18 --adversarial pgd --set adversarial_steps=7\n"
        "  torchrun --nproc-per-node 8 -m sdnet_core.train --recipe cifar10-sdnet18-all   # eight GPUs, one batch",
    )
    add_version(parser)
    parser.add_argument("--recipe", required=True, metavar="NAME|FILE.toml", help="a shipped recipe or a file")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a key of the recipe")
    parser.add_argument(
        "--adversarial", choices=["pgd"], help="train on adversarial images; same as --set adversarial=pgd"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of weights, order and augmentation (default 0)")
    parser.add_argument("--init", metavar="NAME|FILE", help="start from the weights of this model (fine-tuning)")
    parser.add_argument("--data-dir", type=Path, default=Path("data"), help="folder of the data sets (default data)")
    parser.add_argument("--out", type=Path, help="run directory (default results/training/<recipe>-seed<seed>)")
    parser.add_argument("--device", help="cpu or cuda (default: cuda if it works)")
    parser.add_argument(
        "--precision", choices=["float32", "bf16"], default="float32", help="precision of the forward pass"
    )
    parser.add_argument("--threads", type=int, help="CPU threads (default: all cores)")
    parser.add_argument("--fresh", action="store_true", help="start again instead of resuming")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    arguments = vars(make_parser().parse_args(argv))
    check_seed(arguments["seed"])
    adversarial = arguments.pop("adversarial")
    overrides = arguments.pop("set") + ([f"adversarial={adversarial}"] if adversarial else [])
    recipe = read_recipe(arguments.pop("recipe"), overrides)
    out = arguments.pop("out") or Path("results/training") / f"{recipe.name}-seed{arguments['seed']}"
    from sdnet_core.training import train_recipe

    train_recipe(recipe, out, **arguments)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
