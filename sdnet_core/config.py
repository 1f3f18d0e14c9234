"""The configuration of a network, the architectures and the shipped models by name, without importing torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from data_prep.errors import InputError, PrerequisiteError, check_choice

SUFFIX = ".safetensors"
SPEEDS = ("exact", "fast")
"""Forms of a network for evaluation; see :mod:`sdnet_core.speed`."""
LARGEST = {"width": 1024, "n_dict": 64, "num_classes": 100_000, "image_size": 2048, "n_steps": 1000}
"""Largest values that a card may contain, because a network is built before its weights are read."""
CIFAR_MEAN, CIFAR_STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
"""Channel statistics of the paper's CIFAR recipe; these standard deviations are part of its checkpoints."""
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A named architecture: its blocks per stage, and its convolutions that are sparse-coding layers."""

    blocks: tuple[int, int, int, int]
    sparse_input: bool
    sparse_blocks: bool


_DEPTHS = {"18": (2, 2, 2, 2), "34": (3, 4, 6, 3)}
ARCHITECTURES: dict[str, Architecture] = {
    **{f"sdnet{d}": Architecture(blocks=b, sparse_input=True, sparse_blocks=False) for d, b in _DEPTHS.items()},
    **{f"sdnet{d}_all": Architecture(blocks=b, sparse_input=True, sparse_blocks=True) for d, b in _DEPTHS.items()},
    **{f"resnet{d}": Architecture(blocks=b, sparse_input=False, sparse_blocks=False) for d, b in _DEPTHS.items()},
}
"""The architectures by name."""


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """The complete configuration of a network, stored with its weights.

    Args:
        arch: a key of :data:`ARCHITECTURES`.
        num_classes: number of outputs.
        image_size: H = W in pixels; up to 64 the CIFAR stem (3×3), above it the ImageNet stem (7×7/2).
        width: channels of the first stage; the later stages have 2, 4 and 8 times as many.
        n_dict: number of atoms of the sparse input layer, in multiples of ``width``; the first block takes them all.
        mean: channel means of images in [0, 1].
        std: channel standard deviations of images in [0, 1].
        lam: training λ of every sparse-coding layer.
        mu: μ ≥ 0, weight of the squared ℓ2 term.
        n_steps: number K ≥ 1 of FISTA steps.
        robust: use the data term ½‖x − Az‖₂.
        shortcut: use residual connections; only the -all variants work without them.
        lam_layers: the layers on which a call's λ acts: ``"input"``, the input layer only, as in the paper; or
            ``"all"``, every sparse-coding layer.
    """

    arch: str
    num_classes: int = 10
    image_size: int = 32
    width: int = 64
    n_dict: int = 1
    mean: tuple[float, ...] = CIFAR_MEAN
    std: tuple[float, ...] = CIFAR_STD
    lam: float = 0.1
    mu: float = 0.0
    n_steps: int = 2
    robust: bool = False
    shortcut: bool = True
    lam_layers: str = "input"

    def __post_init__(self) -> None:
        check_choice(self.arch, ARCHITECTURES, "an architecture")
        for name, smallest in (("num_classes", 1), ("image_size", 8), ("width", 1), ("n_dict", 1)):
            if getattr(self, name) < smallest:
                raise InputError(
                    f"expected {name} of at least {smallest}, got {getattr(self, name)}; give a larger one"
                )
        if len(self.mean) != 3 or len(self.std) != 3 or not all(math.isfinite(s) and s > 0 for s in self.std):
            raise InputError(
                f"expected mean and std of three values each, std > 0, got {self.mean} and {self.std}; give one of "
                "each per channel"
            )
        if not self.shortcut and not ARCHITECTURES[self.arch].sparse_blocks:
            raise InputError(
                f"{self.arch} needs its shortcuts, as only the -all variants work without; leave shortcut=False out"
            )
        if self.n_dict > 1 and not ARCHITECTURES[self.arch].sparse_input:
            raise InputError(f"expected n_dict of 1, as {self.arch} has no dictionary, got {self.n_dict}; leave it out")
        if self.lam_layers not in ("input", "all"):
            raise InputError(f"expected lam_layers of 'input' or 'all', got {self.lam_layers!r}; choose one of them")
        check_options(lam=self.lam, mu=self.mu, n_steps=self.n_steps)


def shipped_models() -> dict[str, Path]:
    """List the names and paths of the models that come with the package."""
    folder = Path(str(files("sdnet_core") / "weights"))
    return {path.stem: path for path in sorted(folder.glob(f"*{SUFFIX}"))}


def check_options(*, lam: float, mu: float, n_steps: int) -> None:
    """Check that λ and μ of a layer are finite numbers ≥ 0 and K ≥ 1; otherwise raise InputError."""
    if not (math.isfinite(lam) and lam >= 0):
        raise InputError(f"expected a finite λ ≥ 0, got {lam}; give such a number")
    if not (math.isfinite(mu) and mu >= 0):
        raise InputError(f"expected a finite μ ≥ 0, got {mu}; give such a number")
    if n_steps < 1:
        raise InputError(f"expected at least 1 FISTA step K, got {n_steps}; give a larger n_steps")


def find_checkpoint(name_or_path: str | Path) -> Path:
    """Find the path of a shipped model by name, or of a checkpoint file.

    Raises:
        PrerequisiteError: neither a shipped name nor an existing file.
        InputError: the file is not a safetensors checkpoint.
    """
    shipped = shipped_models()
    if str(name_or_path) in shipped:
        return shipped[str(name_or_path)]
    path = Path(name_or_path)
    if not path.is_file():
        raise PrerequisiteError(
            f"expected the path of a {SUFFIX} file or a shipped model ({', '.join(shipped) or 'none here'}), got "
            f"{str(name_or_path)!r}; check the name"
        )
    if path.suffix != SUFFIX:
        raise InputError(
            f"expected a {SUFFIX} file of this project, got {path}; convert an official SDNet checkpoint with `python "
            f"-m sdnet_core convert {path} --arch sdnet18 --out model{SUFFIX}`, or measure another model as "
            "docs/benchmark-your-model.md says"
        )
    return path
