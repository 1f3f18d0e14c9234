"""Train variants of a recipe that differ in one thing and measure the effect."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from data_prep import corruption_names, load_images
from data_prep.errors import InputError, check_seed
from data_prep.files import as_file_name, write_text
from robustness.analysis.findings import Findings
from robustness.analysis.summary import MEAN
from robustness.analysis.texts import to_markdown, write_csv
from robustness.measure.prepare import find_images, prepare
from robustness.options import AblationOptions, RunOptions
from robustness.session import conduct
from robustness.statistics import wilson_interval
from robustness.suite import Suite, read_suite_file
from sdnet_core import read_card
from sdnet_core.networks import ARCHITECTURES, NetworkConfig
from sdnet_core.recipes import Recipe, read_recipe
from sdnet_core.training import check_threads, train_recipe

BASE = "base"


def list_variants(recipe: str, common: list[str], varied: list[str]) -> dict[str, list[str]]:
    """Return the overrides of every training by its name; the unchanged recipe comes first.

    Args:
        recipe: name or path of the recipe.
        common: ``KEY=VALUE`` overrides shared by all trainings.
        varied: ``KEY=A,B``: values that each key takes, one at a time.

    Raises:
        InputError: an unknown key, an invalid value, or a variant equal to the unchanged recipe.
    """
    base = read_recipe(recipe, common)
    variants = {BASE: list(common)}
    for text in varied:
        key, separator, values = text.partition("=")
        if not separator or not all(value.strip() for value in values.split(",")):
            raise InputError(f"expected --vary KEY=A,B, as in model.n_steps=1,4,8, got {text!r}; give both")
        for value in values.split(","):
            change = f"{key.strip()}={value.strip()}"
            if read_recipe(recipe, [*common, change]) == base:
                raise InputError(
                    f"expected --vary to change the recipe, got {change}, which it has already; leave it out"
                )
            variants[as_file_name(change.removeprefix("model."))] = [*common, change]
    return variants


def compare_variants(out: Path, variants: Iterable[str]) -> pd.DataFrame:
    """Tabulate the accuracy of every variant at its own λ.

    Returns:
        Columns ``variant, clean, clean_low, clean_high`` (all test images, Wilson), ``mean, mean_low, mean_high`` (mean
        over the corruptions of the suite), ``versus, versus_low, versus_high`` (difference from the unchanged recipe,
        paired image by image), ``oracle`` (the mean with the best fixed λ of every cell) and ``seconds`` (of training).
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
    """Format the table as text, in percent."""

    def interval(title: str) -> pd.Series:
        values = zip(*(100 * table[f"{title}{end}"] for end in ("", "_low", "_high")), strict=True)
        texts = [f"{a:.1f} [{b:.1f}, {c:.1f}]" if a == a else "" for a, b, c in values]
        return pd.Series(texts).str.replace("-", "−")

    texts = {"clean": interval("clean"), "corrupted": interval("mean"), "minus base": interval("versus")}
    texts |= {"oracle": (100 * table["oracle"]).map("{:.1f}".format), "seconds": table["seconds"].map("{:.0f}".format)}
    return pd.DataFrame(texts).set_index(pd.Index(table["variant"], name="variant"))


@dataclass(frozen=True)
class Variant:
    """A training of an ablation: the keys that it replaces, the resulting recipe, and its output folder."""

    changes: list[str]
    recipe: Recipe
    folder: Path

    @property
    def model(self) -> str:
        """Path of the trained model."""
        return str(self.folder / "model.safetensors")


@dataclass(frozen=True)
class Ablation:
    """An ablation that is ready to run: its data is present, and every variant can be trained and measured.

    Args:
        options: the requested ablation.
        out: folder of the trainings, the run and the table.
        variants: the variants by name; the unchanged recipe comes first.
        suite: the suite that every variant is measured on.
        trained: names of the variants that are already trained.
    """

    options: AblationOptions
    out: Path
    variants: dict[str, Variant]
    suite: Suite
    trained: frozenset[str]

    @classmethod
    def plan(cls, options: AblationOptions) -> Ablation:
        """Read the recipe and its variants, and refuse, before any training, whatever cannot be trained or measured.

        Raises:
            PrerequisiteError: data is missing.
            InputError: an unknown key, an invalid value, or a suite without standard corruptions.
        """
        check_seed(options.seed)
        if options.threads is not None:
            check_threads(options.threads)
        changes = list_variants(options.recipe, list(options.set), list(options.vary))
        recipes = {name: read_recipe(options.recipe, overrides) for name, overrides in changes.items()}
        name = f"ablation-{recipes[BASE].name}"
        out = Path(options.out) if options.out else Path("results/runs") / name
        variants = {key: Variant(changes[key], recipe, out / key) for key, recipe in recipes.items()}
        lambdas = set(map(_trained_lam, recipes.values())) - {None}
        fields = read_suite_file(options.suite)
        fields |= {"name": name, "data": recipes[BASE].data, "selection": "", "n": options.n, "baseline": BASE}
        fields |= {"models": tuple(variant.model for variant in variants.values()), "lambdas": tuple(lambdas)}
        suite = Suite(**fields)
        if not set(suite.corruptions) - set(corruption_names("extra")):
            raise InputError(
                f"expected standard corruptions in the suite {options.suite}, as variants are compared by their mean, "
                "got none; choose another --suite"
            )
        find_images(suite, Path(options.data_dir))  # refuse before training
        names = {recipe.data for recipe in recipes.values()}
        images = {data: load_images(data, split="train", data_dir=options.data_dir) for data in names}
        for key, variant in variants.items():
            if variant.recipe.batch_size > (n := len(images[variant.recipe.data])):
                raise InputError(
                    f"expected batch_size of the variant {key} of at most {n}, the training images of "
                    f"{variant.recipe.data}, got {variant.recipe.batch_size}; give it a smaller one"
                )
        fingerprints = {data: split.fingerprint for data, split in images.items()}
        done = [key for key, it in variants.items() if _is_trained(it, options, fingerprints[it.recipe.data])]
        return cls(options, out, variants, suite, frozenset(done))

    def train(self) -> None:
        """Train every variant that is not trained yet; an interrupted training resumes."""
        options = self.options
        for name, variant in self.variants.items():
            if name not in self.trained:
                train_recipe(
                    variant.recipe,
                    variant.folder,
                    seed=options.seed,
                    precision=options.precision,
                    threads=options.threads,
                    data_dir=options.data_dir,
                    device=options.device,
                )

    def run_suite(self, *, say: Callable[[str], object] = lambda _: None) -> Findings:
        """Measure all variants in one run of the suite."""
        options = RunOptions(data_dir=self.options.data_dir, device=self.options.device, out=str(self.out / "run"))
        findings = conduct(prepare(self.suite, options), options, asked=self.options, say=say)
        assert findings is not None
        return findings

    def compare(self) -> pd.DataFrame:
        """Compare the variants at their own λ (:func:`compare_variants`); write ``ablation.csv`` and ``.md``."""
        table = compare_variants(self.out, list(self.variants))
        write_csv(table, self.out / "ablation.csv")
        write_text(self.out / "ablation.md", f"{to_markdown(lay_out(table))}\n")
        return table


def _trained_lam(recipe: Recipe) -> float | None:
    """Return the training λ, by default the model's; None for a model without λ."""
    has_lam = ARCHITECTURES[recipe.model["arch"]].sparse_input
    return recipe.model.get("lam", NetworkConfig.lam) if has_lam else None


def _is_trained(variant: Variant, options: AblationOptions, images: str) -> bool:
    """Check that the finished model of this training exists and was trained on images with this fingerprint.

    If the folder holds the model of another training, the training itself refuses it.
    """
    if not Path(variant.model).exists():
        return False
    card = read_card(variant.model)
    asked = variant.recipe.describe(), options.seed, options.precision, images
    return asked == (card.recipe, *(card.record.get(name) for name in ("seed", "precision", "train_fingerprint")))
