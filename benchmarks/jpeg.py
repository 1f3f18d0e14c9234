"""Measure how JPEG training images and longer training change robustness, the gain of a larger λ, and SDNet's lead.

Networks are trained on the same lossless images as they are, after JPEG of several qualities, and for more epochs, with
everything else the same: split, recipe, seeds. Every network classifies the same corrupted test images, lossless and of
quality 75. Finished networks are kept in ``--out``, so that the same command resumes.

    python benchmarks/jpeg.py cifar10-lossless-part.tar --out results/runs/jpeg --threads 1
    python benchmarks/jpeg.py cifar10-lossless-part.tar --out results/runs/schedule --qualities "" --epochs 15,60
"""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from data_prep import ImageSet, corrupt, load_images
from data_prep.command_line import CommandParser
from data_prep.importing import import_tree
from robustness.statistics import accuracy_interval, paired_interval
from sdnet_core import load_model
from sdnet_core.augment import to_images
from sdnet_core.recipes import Recipe
from sdnet_core.training import TrainingRun, train

NOISES = ("gaussian_noise", "shot_noise", "impulse_noise")
BLURS = ("defocus_blur", "motion_blur", "gaussian_blur")
SEVERITIES = (1, 3, 5)
LAMBDAS = (0.1, 0.3, 0.5)
ARCHITECTURES = ("sdnet18", "resnet18")
TEST_QUALITY = 75
_BATCH = 250


@dataclass(frozen=True)
class Variant:
    """A way of training: JPEG quality of the training images (None: lossless) and number of epochs."""

    quality: int | None
    epochs: int

    @property
    def title(self) -> str:
        """Name in tables."""
        return f"{title_of(self.quality)}, {self.epochs} epochs"


@dataclass(frozen=True)
class Network:
    """One training: architecture, way of training and seed."""

    arch: str
    variant: Variant
    seed: int

    @property
    def name(self) -> str:
        """Folder of the training."""
        return f"{self.arch}-{self.variant.title.replace(' ', '').replace(',', '-')}-seed{self.seed}"


def title_of(quality: int | None) -> str:
    """Name of a version of the images in tables."""
    return "lossless" if quality is None else f"JPEG q{quality}"


def encode(images: ImageSet, quality: int | None) -> ImageSet:
    """Every image after one JPEG encoding and decoding (Pillow's, 4:2:0); None leaves them lossless."""
    if quality is None:
        return images
    pixels = np.empty_like(images.pixels)
    for source, target in zip(images.pixels, pixels, strict=True):
        buffer = io.BytesIO()
        Image.fromarray(np.asarray(source)).save(buffer, "jpeg", quality=quality)
        target[:] = np.asarray(Image.open(buffer))
    return replace(images, pixels=pixels, title=f"{images.title}, {title_of(quality)}")


def split_images(images: ImageSet, test_per_class: int) -> tuple[ImageSet, ImageSet]:
    """Training and test images: of each class as many test images, drawn with seed 0."""
    generator = np.random.default_rng(0)
    places = [generator.permutation(np.flatnonzero(images.labels == label)) for label in range(len(images.classes))]
    chosen = {
        "train": np.sort(np.concatenate([own[test_per_class:] for own in places])),
        "test": np.sort(np.concatenate([own[:test_per_class] for own in places])),
    }
    train_set, test_set = (replace(images.take(rows), split=split) for split, rows in chosen.items())
    return train_set, test_set


def corrupt_all(images: ImageSet, names: Sequence[str]) -> dict[tuple[str, int], NDArray[np.uint8]]:
    """Corrupt the images: clean and under every corruption and severity, parameters of CIFAR-10-C, seed 0."""
    versions = {("clean", 0): np.asarray(images.pixels)}
    pixels = torch.from_numpy(np.array(images.pixels))
    for name in names:
        for severity in SEVERITIES:
            result = corrupt(pixels, name, severity=severity, profile="cifar", seed=0, indices=images.indices)
            versions[name, severity] = result.numpy()
    return versions


@torch.inference_mode()
def answer(path: Path, versions: dict[tuple[str, int], NDArray[np.uint8]], labels: NDArray[np.int64]) -> pd.DataFrame:
    """Right answers: a row per perturbation, severity and λ, a column per image."""
    model = load_model(path).eval()
    lambdas: tuple[float | None, ...] = LAMBDAS if model.has_lam else (None,)
    rows = []
    for (name, severity), pixels in versions.items():
        batches = [to_images(torch.from_numpy(part)) for part in np.array_split(pixels, -(-len(pixels) // _BATCH))]
        for lam in lambdas:
            predicted = torch.cat([model(batch, lam).argmax(1) for batch in batches]).numpy()
            rows.append(((name, severity, lam if lam is not None else LAMBDAS[0]), predicted == labels))
    index = pd.MultiIndex.from_tuples([row[0] for row in rows], names=["perturbation", "severity", "lam"])
    return pd.DataFrame([row[1] for row in rows], index=index)


def make_recipe(network: Network, arguments: argparse.Namespace) -> Recipe:
    """The same recipe for all, but for the architecture and the number of epochs."""
    return Recipe(
        name=network.name,
        data="lossless",
        model={"arch": network.arch, "width": arguments.width},
        epochs=network.variant.epochs,
        batch_size=64,
        lr=0.1,
        min_lr=0.0,
        warmup_epochs=2.0,
        crop_padding=2,
        ema_decay=0.99,
    )


def mean_per_image(answers: pd.DataFrame, names: tuple[str, ...], lam: float) -> NDArray[np.float64]:
    """Share of right answers of every image over ``names`` and all their severities at λ."""
    own = answers[answers.index.isin(names, level="perturbation") & (answers.index.get_level_values("lam") == lam)]
    return own.to_numpy(float).mean(0)


def summarise(answers: dict[tuple[Network, str], pd.DataFrame], seeds: int) -> pd.DataFrame:
    """Rows: question, way of training, test images; value in points with its interval, and the values of the seeds.

    Differences are from the first way of training. Intervals are of the choice of test images, 95 %: an image counts
    once, with its mean over seeds and perturbations.
    """
    rows = []
    for tested in dict.fromkeys(test for _, test in answers):
        own = {network: frame for (network, test), frame in answers.items() if test == tested}

        def of(arch: str, variant: Variant, names: tuple[str, ...], lam: float) -> NDArray[np.float64]:
            """(seeds, images)."""
            return np.stack([mean_per_image(own[Network(arch, variant, s)], names, lam) for s in range(seeds)])  # noqa: B023

        variants = list(dict.fromkeys(network.variant for network in own))
        is_schedule = len({variant.epochs for variant in variants}) > 1
        titles = {variant: variant.title if is_schedule else title_of(variant.quality) for variant in variants}
        for kind, names in (("clean", ("clean",)), ("noise", NOISES), ("blur", BLURS)):
            base, *others = LAMBDAS
            clean = {arch: {v: of(arch, v, ("clean",), base) for v in variants} for arch in ARCHITECTURES}
            sets = {arch: {v: of(arch, v, names, base) for v in variants} for arch in ARCHITECTURES}
            for lam in others:
                sets[f"gain of λ = {lam:g}"] = {
                    v: of("sdnet18", v, names, lam) - of("sdnet18", v, names, base) for v in variants
                }
            for arch in ARCHITECTURES if kind != "clean" else ():
                sets[f"lost by {arch}"] = {v: clean[arch][v] - sets[arch][v] for v in variants}
            sets["sdnet18 − resnet18"] = {v: sets["sdnet18"][v] - sets["resnet18"][v] for v in variants}
            for measure, values in sets.items():
                for variant in variants:
                    row = {"tested on": tested, "under": kind, "measure": measure, "trained on": titles[variant]}
                    interval = accuracy_interval if measure in ARCHITECTURES else paired_interval
                    rows.append(row | describe(values[variant], interval))
                    if variant != variants[0]:
                        difference = describe(values[variant] - values[variants[0]], paired_interval)
                        rows[-1] |= {f"{key} − {titles[variants[0]]}": value for key, value in difference.items()}
    return pd.DataFrame(rows)


def describe(
    values: NDArray[np.float64], interval: Callable[[NDArray[np.float64]], tuple[float, float, float]]
) -> dict[str, str]:
    """Points with the interval over images, and every seed's: ``+1.2 [0.3, 2.1]`` and ``0.9, 1.1, 1.6``."""
    mean, low, high = (100 * value for value in interval(values.mean(0)))
    seeds = ", ".join(f"{100 * value:.1f}" for value in values.mean(1))
    return {"points": f"{mean:.1f} [{low:.1f}, {high:.1f}]", "seeds": seeds}


def main() -> None:
    parser = CommandParser(description=__doc__)
    parser.add_argument("source", type=Path, help="lossless images: an archive or a folder train/class/file")
    parser.add_argument("--out", type=Path, default=Path("results/runs/jpeg"))
    parser.add_argument(
        "--qualities", default="95,75,50", help="JPEG qualities, next to the lossless images; may be empty"
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", default="15", help="epochs; further numbers are for the lossless images only")
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--test-per-class", type=int, default=100)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    data_dir = arguments.out / "data"
    if not (data_dir / "lossless").is_dir():
        import_tree(arguments.source, name="lossless", data_dir=data_dir)
    train_set, test_set = split_images(
        load_images("lossless", split="train", data_dir=data_dir), arguments.test_per_class
    )
    first, *longer = map(int, arguments.epochs.split(","))
    qualities = [None, *(int(quality) for quality in arguments.qualities.split(",") if quality)]
    variants = [*(Variant(quality, first) for quality in qualities), *(Variant(None, epochs) for epochs in longer)]
    tests = {
        title_of(quality): corrupt_all(encode(test_set, quality), (*NOISES, *BLURS)) for quality in (None, TEST_QUALITY)
    }
    grid = [Network(a, v, s) for s in range(arguments.seeds) for v in variants for a in ARCHITECTURES]
    answers = {}
    for network in tqdm(grid, unit="network", desc="trained and measured"):
        folder = arguments.out / network.name
        recipe = make_recipe(network, arguments)
        run = TrainingRun(recipe, network.seed, folder, torch.device("cpu"), "float32")
        if not (folder / "model.safetensors").exists():
            train(run, encode(train_set, network.variant.quality), encode(test_set, network.variant.quality))
        for title, versions in tests.items():
            path = folder / f"answers-{title.replace(' ', '')}.parquet"
            if not path.exists():
                frame = answer(folder / "model.safetensors", versions, test_set.labels)
                frame.rename(columns=str).to_parquet(path)
            answers[network, title] = pd.read_parquet(path)
    table = summarise(answers, arguments.seeds)
    table.to_csv(arguments.out / "jpeg.csv", index=False)
    options = {key: str(value) for key, value in vars(arguments).items() if key not in ("source", "out")}
    (arguments.out / "options.json").write_text(
        json.dumps({**options, "n_train": len(train_set), "n_test": len(test_set), "fingerprint": test_set.fingerprint})
    )
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
