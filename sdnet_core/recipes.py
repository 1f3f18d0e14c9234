"""Training recipes: one TOML file each, read into a frozen object; unknown keys are refused."""

from __future__ import annotations

import dataclasses
import math
import tomllib
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec

from data_prep.errors import InputError
from data_prep.files import as_file_name
from data_prep.schema import read, read_toml
from sdnet_core.config import LARGEST, NetworkConfig

_RANGES: dict[str, tuple[str, Callable[[float], bool]]] = {
    "epochs": ("epochs ≥ 1", lambda value: value >= 1),
    "batch_size": ("batch_size ≥ 2", lambda value: value >= 2),
    "lr": ("a finite lr > 0", lambda value: 0 < value < math.inf),
    "min_lr": ("a finite min_lr ≥ 0", lambda value: 0 <= value < math.inf),
    "warmup_epochs": ("finite warmup_epochs ≥ 0", lambda value: 0 <= value < math.inf),
    "momentum": ("0 ≤ momentum < 1", lambda value: 0 <= value < 1),
    "weight_decay": ("a finite weight_decay ≥ 0", lambda value: 0 <= value < math.inf),
    "label_smoothing": ("0 ≤ label_smoothing < 1", lambda value: 0 <= value < 1),
    "crop_padding": (f"0 ≤ crop_padding ≤ {LARGEST['image_size']}", lambda value: 0 <= value <= LARGEST["image_size"]),
    "ema_decay": ("0 ≤ ema_decay < 1", lambda value: 0 <= value < 1),
    "adversarial_eps": ("adversarial_eps in (0, 1] pixel units", lambda value: 0 < value <= 1),
    "adversarial_steps": ("adversarial_steps ≥ 1", lambda value: value >= 1),
    "adversarial_step_size": ("adversarial_step_size in (0, 1] pixel units", lambda value: 0 < value <= 1),
}
_SMALLEST_SIDE = 8
_OF_THE_DATA = ("num_classes", "image_size")
_LARGEST = {name: LARGEST[name] for name in ("width", "n_dict", "n_steps")}


class Recipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The recipe for training a model.

    Args:
        name: the file's name without ``.toml``.
        description: one sentence for the list of recipes.
        data: data set; training uses its ``train`` split, and its ``test`` split is only measured.
        model: fields of :class:`sdnet_core.NetworkConfig` other than ``num_classes`` and ``image_size``.
        epochs: number of passes over the training images.
        batch_size: number of images per step.
        lr: peak learning rate of SGD.
        min_lr: learning rate at the end of the cosine.
        warmup_epochs: epochs of the linear rise from 0 to ``lr``.
        momentum: momentum of SGD, in [0, 1).
        nesterov: use Nesterov's momentum, which must then be above 0.
        weight_decay: weight decay of all parameters.
        label_smoothing: probability mass spread over all classes, in [0, 1).
        crop_padding: pixels of padding before the random crop; 0 turns the crop off.
        flip: mirror images horizontally with probability ½.
        image_sizes: progressive resizing (Howard 2018, fast.ai's DAWNBench entry): sides in pixels to which training
            images are scaled after the crop, bilinear with antialiasing, each for an equal share of the epochs. If
            empty, training uses the size of the data set. Tests always use the size of the data set.
        ema_decay: d of the exponential moving average of the weights, θ̄ ← d θ̄ + (1 − d) θ after every
            step; the average is the final model (Polyak & Juditsky 1992), with BatchNorm statistics of its own. With 0
            the last weights are the model.
        adversarial: ``"pgd"`` trains on adversarial images instead of clean ones (:mod:`sdnet_core.adversarial`).
        adversarial_eps: radius ε of their L∞ ball, in [0, 1] pixel units.
        adversarial_steps: number of gradient steps for each of them.
        adversarial_step_size: step size α, in [0, 1] pixel units.

    Raises:
        InputError: a value out of range, or a model that cannot be built.
    """

    name: str
    data: str
    model: dict[str, Any]
    description: str = ""
    epochs: int = 220
    batch_size: int = 128
    lr: float = 0.1
    min_lr: float = 1e-6
    warmup_epochs: float = 0.0
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 5e-4
    label_smoothing: float = 0.0
    crop_padding: int = 4
    flip: bool = True
    image_sizes: tuple[int, ...] = ()
    ema_decay: float = 0.0
    adversarial: str = ""
    adversarial_eps: float = 8 / 255
    adversarial_steps: int = 10
    adversarial_step_size: float = 2 / 255

    def __post_init__(self) -> None:
        if not self.name or self.name != as_file_name(self.name) or self.name.startswith("."):
            raise InputError(
                f"expected letters, digits and . _ - in the name of a recipe, which names a folder, got {self.name!r}; "
                "rename it"
            )
        for name, (needed, holds) in _RANGES.items():
            if not holds(getattr(self, name)):
                raise InputError(f"recipe {self.name}: expected {needed}, got {getattr(self, name)}; give such a value")
        if self.nesterov and not self.momentum:
            raise InputError(
                f"recipe {self.name}: expected momentum > 0 for Nesterov's momentum, got 0; for plain SGD also give "
                "nesterov=false"
            )
        if self.adversarial not in ("", "pgd"):
            raise InputError(
                f"recipe {self.name}: expected adversarial of 'pgd' or empty, got {self.adversarial!r}; choose one of "
                "them"
            )
        if any(not _SMALLEST_SIDE <= side <= LARGEST["image_size"] for side in self.image_sizes):
            raise InputError(
                f"recipe {self.name}: expected image_sizes from {_SMALLEST_SIDE} to {LARGEST['image_size']} pixels, "
                f"got {', '.join(map(str, self.image_sizes))}; change those outside"
            )
        if (count := len(self.image_sizes)) > self.epochs:
            raise InputError(
                f"recipe {self.name}: expected at least as many epochs as image_sizes, {count}, got {self.epochs}; "
                "train longer or name fewer"
            )
        _check_model(self.model, f"the model of recipe {self.name}")

    def image_size(self, epoch: int) -> int | None:
        """Return the side in pixels to which images of ``epoch`` (from 0) are scaled; None for the data set's size."""
        return self.image_sizes[epoch * len(self.image_sizes) // self.epochs] if self.image_sizes else None

    def describe(self) -> dict[str, Any]:
        """Return every key and its value as JSON values, which model cards store and resumed trainings compare.

        Keys newer than the first trainings are left out at their defaults, so that old trainings can still be resumed.
        """
        described = msgspec.structs.asdict(self) | {"image_sizes": list(self.image_sizes)}
        for name, default in (("image_sizes", []), ("ema_decay", 0.0)):
            if described[name] == default:
                del described[name]
        return described

    def learning_rate(self, progress: float) -> float:
        """Return the learning rate after ``progress`` epochs: linear warm-up, then half a cosine to ``min_lr``."""
        if progress < self.warmup_epochs:
            return self.lr * progress / self.warmup_epochs
        phase = (progress - self.warmup_epochs) / max(self.epochs - self.warmup_epochs, 1e-9)
        return self.min_lr + 0.5 * (self.lr - self.min_lr) * (1.0 + math.cos(math.pi * min(phase, 1.0)))


def _check_model(model: dict[str, Any], where: str) -> None:
    """Check that ``model``, called ``where`` in messages, is a valid NetworkConfig once the data set adds its sizes."""
    choices = [f.name for f in dataclasses.fields(NetworkConfig) if f.name not in _OF_THE_DATA]
    if unknown := sorted(repr(name) for name in model if name not in choices):
        raise InputError(
            f"{where}: expected keys among {', '.join(choices)} ({' and '.join(_OF_THE_DATA)} come from the data set), "
            f"got {', '.join(unknown)}; rename or remove it"
        )
    try:
        config = read(model, NetworkConfig, where)
    except InputError as error:
        raise InputError(str(error) if str(error).startswith(where) else f"{where}: {error}") from error
    for name, largest in _LARGEST.items():
        if getattr(config, name) > largest:
            raise InputError(
                f"{where}: expected {name} of at most {largest}, got {getattr(config, name)}; give a smaller one"
            )


def shipped_recipes() -> dict[str, Path]:
    """List the names and paths of the recipes that come with the package."""
    folder = Path(str(files("sdnet_core") / "recipes"))
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def read_recipe(name_or_path: str, overrides: list[str] | None = None) -> Recipe:
    """Read a recipe by name or path, with ``key=value`` overrides such as ``epochs=3`` or ``model.width=16``.

    Raises:
        InputError: an unknown recipe or key, a value of the wrong type or out of range, or text that is not TOML.
    """
    path = shipped_recipes().get(name_or_path, Path(name_or_path))
    if not path.is_file():
        raise InputError(
            f"expected the path of a TOML file or a shipped recipe ({', '.join(shipped_recipes())}), got "
            f"{name_or_path!r}; check the name"
        )
    fields = {"name": path.stem, **read_toml(path)}
    for override in overrides or []:
        key, separator, value = override.partition("=")
        if not separator:
            raise InputError(
                f"expected an override as key=value, as in epochs=3 or model.width=16, got {override!r}; give both"
            )
        section = fields
        *parents, last = key.strip().split(".")
        for parent in parents:
            section = section.setdefault(parent, {})
            if not isinstance(section, dict):
                raise InputError(
                    f"expected an override of a key within tables, got {override!r}, where {parent} is a value; "
                    f"leave out what follows {parent}"
                )
        section[last] = _parse_value(value.strip())
    return read(fields, Recipe, f"recipe {name_or_path}")


def _parse_value(text: str) -> Any:
    """Parse a TOML value; a bare word counts as a string."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text
