"""Train a recipe with one thing changed at a time and measure what that changes: ``python -m robustness.ablate``."""

from __future__ import annotations

import argparse
import itertools
import sys
from pathlib import Path

import pandas as pd

from data_prep import corruption_names, load_images
from data_prep.errors import EXIT_DONE, InputError, check_seed, check_words, run_command
from data_prep.files import as_file_name, write_text
from data_prep.version import add_version
from robustness import run
from robustness.analysis.page_data import ABLATION
from robustness.analysis.statistics import wilson_interval
from robustness.analysis.summary import MEAN
from robustness.analysis.tables import to_markdown, write_csv
from robustness.suite import Suite, read_suite_file
from sdnet_core import read_card, train
from sdnet_core.networks import ARCHITECTURES, NetworkConfig
from sdnet_core.recipes import Recipe, read_recipe

BASE = "base"


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m robustness.ablate",
        description="Train a recipe as it is and with one key changed at a time, then measure all of them in one "
        "run of a suite, paired with the recipe as it is. The same command goes on after a kill.",
        epilog="example:\n  python -m robustness.ablate --recipe cifar10-sdnet18-small --set epochs=4 \\\n"
        "      --vary model.n_steps=1,4,8 --vary model.lam=0.05,0.2,0.5 --vary model.mu=0.05 --vary model.robust=true",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_version(parser)
    add = parser.add_argument
    add("--recipe", required=True, metavar="NAME|FILE.toml", help="the recipe that everything is compared with")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="override a key of it, in all trainings")
    add("--vary", action="append", required=True, metavar="KEY=A,B", help="a key of it and the values to give it")
    add("--seed", type=int, default=0, metavar="N", help="of every training (default 0)")
    add("--precision", choices=("float32", "bf16"), default="float32", help="of the trainings")
    add("--threads", type=int, metavar="N", help="CPU threads of the trainings (default: all cores)")
    add("--suite", default="noise", metavar="NAME|FILE.toml", help="what to measure (default noise)")
    add("--n", type=int, default=1000, metavar="N", help="images of the suite (default 1000)")
    add("--data-dir", type=Path, default=Path("data"), metavar="DIR", help="where data sets are (default data)")
    add("--device", metavar="cpu|cuda", help="default: cuda where it works")
    add("--out", type=Path, metavar="DIR", help="default results/runs/ablation-<recipe>")
    add("--dry-run", action="store_true", help="say what would be trained; train nothing")
    return parser


def list_variants(recipe: str, common: list[str], varied: list[str]) -> dict[str, list[str]]:
    """Overrides of every training by its name, that of the recipe as it is first.

    Args:
        recipe: name or path.
        common: ``KEY=VALUE`` of all.
        varied: ``KEY=A,B``.

    Raises:
        InputError: an unknown key, a value that cannot be used, a variant that is the recipe as it is.
    """
    base = read_recipe(recipe, common)
    variants = {BASE: list(common)}
    for text in varied:
        key, separator, values = text.partition("=")
        if not separator or not all(value.strip() for value in values.split(",")):
            raise InputError(f"--vary is KEY=A,B, as in model.n_steps=1,4,8; got {text!r}")
        for value in values.split(","):
            change = f"{key.strip()}={value.strip()}"
            if read_recipe(recipe, [*common, change]) == base:
                raise InputError(f"--vary {change} changes nothing: the recipe has that value")
            variants[as_file_name(change.removeprefix("model."))] = [*common, change]
    return variants


def compare_variants(out: Path, variants: dict[str, list[str]]) -> pd.DataFrame:
    """What every variant is worth at its own λ.

    Returns:
        Columns ``variant, clean, clean_low, clean_high`` (all test images, Wilson), ``mean, mean_low, mean_high`` (mean
        over the corruptions of the suite), ``versus, versus_low, versus_high`` (that minus the recipe's, paired image
        by image), ``oracle`` (the mean with the best fixed λ of every cell) and ``seconds`` (of the training).
    """
    summary = pd.read_csv(out / "run" / "tables" / "summary.csv")
    summary = summary[summary["perturbation"] == MEAN]
    means = {(row["model"], row["policy"]): row for row in summary.to_dict("records")}
    rows = []
    for name in variants:
        card = read_card(out / name / "model.safetensors")
        right, n = card.accuracy["correct"], card.accuracy["n"]
        mean = means[name, "trained"] if (name, "trained") in means else means[name, "none"]
        row = dict(zip(("clean", "clean_low", "clean_high"), (right / n, *wilson_interval(right, n)), strict=True))
        row |= {"mean": mean["accuracy"], "mean_low": mean["ci_low"], "mean_high": mean["ci_high"]}
        row |= {key: mean[key] for key in ("versus", "versus_low", "versus_high")}
        row |= {"oracle": means.get((name, "oracle"), {}).get("accuracy"), "seconds": card.record["seconds"]}
        rows.append({"variant": name, **row})
    return pd.DataFrame(rows)


def lay_out(table: pd.DataFrame) -> pd.DataFrame:
    """The table as texts, in percent."""

    def interval(title: str) -> pd.Series:
        values = zip(*(100 * table[f"{title}{end}"] for end in ("", "_low", "_high")), strict=True)
        texts = [f"{a:.1f} [{b:.1f}, {c:.1f}]" if a == a else "" for a, b, c in values]
        return pd.Series(texts).str.replace("-", "−")

    texts = {"clean": interval("clean"), "corrupted": interval("mean"), "minus base": interval("versus")}
    texts |= {"oracle": (100 * table["oracle"]).map("{:.1f}".format), "seconds": table["seconds"].map("{:.0f}".format)}
    return pd.DataFrame(texts).set_index(pd.Index(table["variant"], name="variant"))


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    words = sys.argv[1:] if argv is None else argv
    check_words(words)
    arguments = make_parser().parse_args(words)
    check_seed(arguments.seed)
    threads = [] if arguments.threads is None else ["--threads", str(train.check_threads(arguments.threads))]
    variants = list_variants(arguments.recipe, arguments.set, arguments.vary)
    recipes = {name: read_recipe(arguments.recipe, changes) for name, changes in variants.items()}
    recipe = recipes[BASE]
    out = arguments.out or Path("results/runs") / f"ablation-{recipe.name}"
    models = [str(out / name / "model.safetensors") for name in variants]
    lambdas = set(map(_trained_lam, recipes.values())) - {None}
    fields = read_suite_file(arguments.suite)
    fields |= {"name": f"ablation-{recipe.name}", "data": recipe.data, "selection": "", "n": arguments.n}
    fields |= {"models": tuple(models), "lambdas": tuple(lambdas), "baseline": BASE}
    suite = Suite(**fields)
    if not set(suite.corruptions) - set(corruption_names("extra")):
        raise InputError(
            f"the suite {arguments.suite} has none of the standard corruptions, by whose mean variants are compared: "
            "choose another --suite"
        )
    run.find_images(suite, arguments.data_dir)  # what cannot be measured is refused before it is trained
    names = {variant.data for variant in recipes.values()}
    images = {data: load_images(data, split="train", data_dir=arguments.data_dir) for data in names}
    trained = set()
    for name, variant in recipes.items():
        if variant.batch_size > (n := len(images[variant.data])):
            raise InputError(
                f"batch_size of the variant {name} must be at most {n}, the training images of {variant.data}; got "
                f"{variant.batch_size}: give it a smaller one"
            )
        if _is_trained(out / name, variant, arguments, images[variant.data].fingerprint):
            trained.add(name)
    for name, changes in variants.items():
        print(f"{name:24} {'trained' if name in trained else 'to train'}  {' '.join(changes)}")
    if arguments.dry_run:
        return EXIT_DONE
    options = ["--recipe", arguments.recipe, "--seed", str(arguments.seed), "--precision", arguments.precision]
    shared = ["--data-dir", str(arguments.data_dir)]
    shared += ["--device", arguments.device] if arguments.device else []
    for name in [name for name in variants if name not in trained]:
        overrides = itertools.chain.from_iterable(("--set", change) for change in variants[name])
        train.main([*options, *overrides, *threads, *shared, "--out", str(out / name)])
    measuring = run.make_parser().parse_args([*shared, "--out", str(out / "run")])
    if code := run.measure(suite, measuring, [*ABLATION, *words]):
        return code
    table = compare_variants(out, variants)
    write_csv(table, out / "ablation.csv")
    text = to_markdown(lay_out(table))
    write_text(out / "ablation.md", f"{text}\n")
    print(f"{text}\nwritten: {out / 'ablation.csv'}")
    return EXIT_DONE


def _trained_lam(recipe: Recipe) -> float | None:
    """λ of training, the default where the recipe gives none; None for models without λ."""
    has_lam = ARCHITECTURES[recipe.model["arch"]].sparse_input
    return recipe.model.get("lam", NetworkConfig.lam) if has_lam else None


def _is_trained(folder: Path, recipe: Recipe, arguments: argparse.Namespace, images: str) -> bool:
    """Whether ``folder`` has the finished model of this training, on images with this fingerprint.

    Where it has that of another one, the training refuses the folder.
    """
    path = folder / "model.safetensors"
    if not path.exists():
        return False
    card = read_card(path)
    asked = recipe.describe(), arguments.seed, arguments.precision, images
    return asked == (card.recipe, *(card.record.get(name) for name in ("seed", "precision", "train_fingerprint")))


if __name__ == "__main__":
    sys.exit(run_command(main))
