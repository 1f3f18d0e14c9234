"""Training recipes: one TOML file each, read into one frozen object; unknown keys are refused."""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from data_prep.errors import InputError
from data_prep.fields import check_fields


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a model is trained.

    Args:
        name: the file's name without ``.toml``.
        description: one sentence for the list of recipes.
        data: data set; its ``train`` split is trained on, its ``test`` split only measured.
        model: fields of :class:`sdnet_core.NetworkConfig` other than ``num_classes`` and ``image_size``.
        epochs: passes over the training images.
        batch_size: images per step.
        lr: peak learning rate of SGD.
        min_lr: learning rate at the end of the cosine.
        warmup_epochs: linear rise from 0 to ``lr``.
        momentum: of SGD, in [0, 1).
        nesterov: whether the momentum is Nesterov's.
        weight_decay: on all parameters.
        label_smoothing: in [0, 1).
        crop_padding: pixels of padding before the random crop; 0 is no crop.
        flip: horizontal mirror with probability ½.
        adversarial: ``"pgd"`` trains on adversarial images instead of clean ones (:mod:`sdnet_core.adversarial`).
        adversarial_eps: radius ε of their L∞ ball, in [0, 1] pixel units.
        adversarial_steps: gradient steps for each of them.
        adversarial_step_size: α of a step, in [0, 1] pixel units.
    """

    name: str
    data: str
    model: dict[str, Any] = field(hash=False)
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
    adversarial: str = ""
    adversarial_eps: float = 8 / 255
    adversarial_steps: int = 10
    adversarial_step_size: float = 2 / 255

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 2 or self.crop_padding < 0:
            raise InputError(
                f"recipe {self.name}: epochs ≥ 1, batch_size ≥ 2 and crop_padding ≥ 0 are needed; got "
                f"{self.epochs}, {self.batch_size}, {self.crop_padding}"
            )
        if not (math.isfinite(self.lr) and self.lr > 0 and 0 <= self.label_smoothing < 1 and 0 <= self.momentum < 1):
            raise InputError(
                f"recipe {self.name}: lr > 0, 0 ≤ momentum < 1 and 0 ≤ label_smoothing < 1 are needed; got "
                f"{self.lr}, {self.momentum}, {self.label_smoothing}"
            )
        if self.adversarial not in ("", "pgd"):
            raise InputError(f"recipe {self.name}: adversarial must be 'pgd' or empty; got {self.adversarial!r}")
        if not (0 < self.adversarial_eps <= 1 and 0 < self.adversarial_step_size <= 1 and self.adversarial_steps >= 1):
            raise InputError(
                f"recipe {self.name}: adversarial_eps and adversarial_step_size in (0, 1] pixel units and "
                f"adversarial_steps ≥ 1 are needed; got {self.adversarial_eps}, {self.adversarial_step_size}, "
                f"{self.adversarial_steps}"
            )

    def learning_rate(self, progress: float) -> float:
        """Learning rate after ``progress`` epochs: linear warm-up, then half a cosine from ``lr`` to ``min_lr``."""
        if progress < self.warmup_epochs:
            return self.lr * progress / self.warmup_epochs
        phase = (progress - self.warmup_epochs) / max(self.epochs - self.warmup_epochs, 1e-9)
        return self.min_lr + 0.5 * (self.lr - self.min_lr) * (1.0 + math.cos(math.pi * min(phase, 1.0)))


def shipped_recipes() -> dict[str, Path]:
    """Names and paths of the recipes that come with the package."""
    folder = Path(str(files("sdnet_core") / "recipes"))
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def read_recipe(name_or_path: str, overrides: list[str] | None = None) -> Recipe:
    """The recipe called ``name_or_path``, with ``key=value`` overrides such as ``epochs=3`` or ``model.width=16``.

    Raises:
        InputError: unknown recipe or key, a value of the wrong type, text that is not TOML.
    """
    path = shipped_recipes().get(name_or_path, Path(name_or_path))
    if not path.is_file():
        raise InputError(f"no recipe {name_or_path!r}: give a TOML file or one of {', '.join(shipped_recipes())}")
    try:
        fields = tomllib.loads(path.read_text(encoding="utf-8"))
        for override in overrides or []:
            key, separator, value = override.partition("=")
            if not separator:
                raise InputError(f"an override is key=value, as in epochs=3 or model.width=16; got {override!r}")
            section = fields
            *parents, last = key.strip().split(".")
            for parent in parents:
                section = section.setdefault(parent, {})
                if not isinstance(section, dict):
                    raise InputError(f"an override is key=value; {parent} in {override!r} has no keys of its own")
            section[last] = _parse_value(value.strip())
    except InputError:
        raise
    except (ValueError, RecursionError) as error:  # not TOML, not UTF-8, or a number of thousands of digits
        raise InputError(f"{path} is not valid TOML: {error}") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    fields = {"name": path.stem, **fields}
    check_fields(fields, Recipe, f"recipe {name_or_path}")
    return Recipe(**fields)


def _parse_value(text: str) -> Any:
    """A TOML value; a bare word counts as a string."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text
