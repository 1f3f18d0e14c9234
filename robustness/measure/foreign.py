"""Models that this project did not build: from torchvision, timm, RobustBench, or a function of yours.

All of them are seen alike: images in [0, 1] in, logits out, the normalisation their own. A module whose ``forward``
takes ``lam`` and that has a number ``lam`` exposes that knob as λ, and every λ grid, policy and attack works on it.
"""

from __future__ import annotations

import importlib
import inspect
import math
import urllib.error
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from data_prep.errors import InputError, PrerequisiteError, describe_error
from robustness.measure.guest import Guest
from robustness.robustbench_shim import import_robustbench
from sdnet_core.networks import Network, Normalise
from sdnet_core.sparse_coding import Lambda, check_lam

_BENCHMARK_DATA = {10: "cifar10", 100: "cifar100", 1000: "imagenet"}
_THREATS = ("Linf", "L2", "corruptions")
_NO_DOWNLOAD = (urllib.error.URLError, OSError)


class ForeignClassifier(nn.Module):
    """A module from elsewhere behind the calls that the harness makes.

    Args:
        model: images (N, 3, H, W) to logits (N, K); may take ``lam`` as a keyword.
        num_classes: K.
        origin: what the user called it, and the version of the library that it comes from.
        mean: channel means that the model wants taken off; None if it takes images in [0, 1].
        std: channel standard deviations; as ``mean``.
        input_size: height and width of the images that its source evaluates it on; None if the source does not say.
    """

    has_code = False

    def __init__(
        self,
        model: nn.Module,
        *,
        num_classes: int,
        origin: str,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
        input_size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.model, self.num_classes, self.origin, self.input_size = model, num_classes, origin, input_size
        self.normalise = nn.Identity() if mean is None or std is None else Normalise(mean, std)
        self.lam = _find_knob(model, origin)
        self.eval()
        self.guest = Guest(model, _take_logits)

    @property
    def has_lam(self) -> bool:
        """Whether the model has a knob to turn at test time."""
        return self.lam is not None

    def forward(self, images: Float[Tensor, "n 3 h w"], lam: Lambda | None = None) -> Float[Tensor, "n k"]:
        """Logits of images in [0, 1] at λ = ``lam``; None is the model's own.

        Raises:
            InputError: λ was given to a model without one, or is negative or not finite.
        """
        x = self.normalise(images.contiguous())
        if not self.has_lam:
            if lam is not None:
                raise InputError(f"{self.origin} has no λ; got lam={lam}")
            return self.guest.ask(x)
        assert self.lam is not None
        return self.guest.ask(x, lam=check_lam(self.lam if lam is None else lam, len(images)))

    def reset(self) -> None:
        """Undo what the calls since the first one of this method have changed in the model."""
        self.guest.reset()

    def describe(self) -> dict[str, Any]:
        """What decides the answers beside the weights; JSON values."""
        return {"arch": self.origin, "lam": self.lam, "num_classes": self.num_classes}


def _take_logits(output: Any) -> Tensor:
    if not isinstance(output, Tensor):
        raise TypeError(f"a model must return its logits as one tensor; it returned {type(output).__name__}")
    return output


def _find_knob(model: nn.Module, origin: str) -> float | None:
    """The number ``model.lam`` if ``model.forward`` takes ``lam``; None if it does not."""
    if "lam" not in inspect.signature(model.forward).parameters:
        return None
    lam = getattr(model, "lam", None)
    if not isinstance(lam, int | float) or not math.isfinite(lam) or lam < 0:
        raise InputError(
            f"{origin}: its forward takes lam, so model.lam must be the λ it was trained with, a finite number ≥ 0; "
            f"got {lam!r}"
        )
    return float(lam)


@dataclass(frozen=True)
class _Loaded:
    """A module with the normalisation and the image size that its source asks for."""

    model: nn.Module
    version: str
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    input_size: tuple[int, int] | None = None


def is_foreign(given: str) -> bool:
    """Whether a model is given as ``source:name`` rather than as a shipped name or a path."""
    return ":" in given and not Path(given).exists()


def runs_code(given: str) -> bool:
    """Whether loading the model imports a module of the user's choice."""
    return is_foreign(given) and given.partition(":")[0] not in _SOURCES


def load_foreign(given: str, *, num_classes: int) -> ForeignClassifier:
    """Load ``torchvision:NAME``, ``timm:NAME``, ``robustbench:NAME[@Linf|@L2|@corruptions]`` or ``module:function``.

    Args:
        given: the model; a ``function`` is called without arguments and returns a ``torch.nn.Module``.
        num_classes: of the data set.

    Raises:
        PrerequisiteError: a package or the weights are missing.
        InputError: the source has no such model; a function that does not return a module.
    """
    source, _, name = given.partition(":")
    loaded = _SOURCES[source](name, num_classes) if source in _SOURCES else _call(source, name)
    origin = f"{given} ({loaded.version})" if loaded.version else given
    fields: dict[str, Any] = {"mean": loaded.mean, "std": loaded.std, "input_size": loaded.input_size}
    return ForeignClassifier(loaded.model, num_classes=num_classes, origin=origin, **fields)


class _Function(nn.Module):
    """A function images → logits behind the interface of a module."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, images: Tensor) -> Any:
        """What the function answers."""
        return self.function(images)


def wrap_model(
    name: str,
    model: nn.Module | Callable[..., Any],
    *,
    num_classes: int,
    image_size: tuple[int, int] | None = None,
) -> ForeignClassifier | Network:
    """Put a module, or a function images → logits, behind the calls that the harness makes."""
    if isinstance(model, Network):
        return model.eval()
    module = model if isinstance(model, nn.Module) else _Function(model)
    return ForeignClassifier(module, num_classes=num_classes, origin=name, input_size=image_size)


def _from_torchvision(name: str, num_classes: int) -> _Loaded:  # noqa: ARG001
    from torchvision import models

    if name not in models.list_models(module=models):
        raise InputError(f"torchvision has no classifier {name!r}: see torchvision.models.list_models()")
    weights = models.get_model_weights(name).DEFAULT
    try:
        model = models.get_model(name, weights=weights)
    except _NO_DOWNLOAD as error:
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        raise PrerequisiteError(
            f"the weights of torchvision:{name} cannot be downloaded ({error}): put {weights.url} into {folder}"
        ) from error
    preset, version = weights.transforms(), f"torchvision {metadata.version('torchvision')}"
    size = (int(preset.crop_size[0]), int(preset.crop_size[-1]))
    return _Loaded(model, version, tuple(preset.mean), tuple(preset.std), size)


def _from_timm(name: str, num_classes: int) -> _Loaded:  # noqa: ARG001
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what timm itself uses
            timm = importlib.import_module("timm")
    except ImportError as error:
        raise PrerequisiteError(f"timm:{name} needs the package timm: pip install timm") from error
    if not timm.is_model(name.partition(".")[0]):
        raise InputError(f"timm has no model {name!r}: see timm.list_models()")
    try:
        preset = timm.models.get_pretrained_cfg(name)
    except RuntimeError as error:
        raise InputError(f"timm:{name}: {error}") from error
    place = Path(torch.hub.get_dir()) / "timm" / f"{name}.safetensors"
    at_hand = {"file": str(place)} if place.is_file() else None
    try:
        model = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=at_hand)
    except (*_NO_DOWNLOAD, RuntimeError) as error:  # RuntimeError: the package that downloads is not installed
        raise PrerequisiteError(
            f"the weights of timm:{name} cannot be downloaded ({error}): put model.safetensors of "
            f"huggingface.co/{preset.hf_hub_id} as {place}"
        ) from error
    version = f"timm {metadata.version('timm')}"
    return _Loaded(model, version, tuple(preset.mean), tuple(preset.std), tuple(preset.input_size[1:]))


def _from_robustbench(name: str, num_classes: int) -> _Loaded:
    name, _, threat = name.partition("@")
    threat = threat or _THREATS[0]
    data = _BENCHMARK_DATA.get(num_classes)
    if data is None:
        raise InputError(
            f"RobustBench has models for {sorted(_BENCHMARK_DATA)} classes; the data set has {num_classes}"
        )
    import_robustbench()
    zoo = importlib.import_module("robustbench.model_zoo.enums")
    names = importlib.import_module("robustbench.model_zoo").model_dicts[zoo.BenchmarkDataset(data)]
    if threat not in _THREATS or name not in names[zoo.ThreatModel(threat)]:
        raise InputError(
            f"RobustBench has no model {name!r} for {data} under {threat!r}: give robustbench:NAME@THREAT with a name "
            f"of its leaderboard and one of {', '.join(_THREATS)}"
        )
    folder = Path(torch.hub.get_dir()) / "robustbench"
    load = importlib.import_module("robustbench.utils").load_model
    try:
        model = load(model_name=name, model_dir=str(folder), dataset=data, threat_model=threat)
    except _NO_DOWNLOAD as error:
        place = folder / data / threat / f"{name}.pt"
        raise PrerequisiteError(
            f"the weights of robustbench:{name} cannot be downloaded ({error}): put them into {place}"
        ) from error
    return _Loaded(model, f"robustbench {metadata.version('robustbench')}")


def _call(module_name: str, function_name: str) -> _Loaded:
    """The module that a user's function returns; it takes images in [0, 1]."""
    given = f"{module_name}:{function_name}"
    if not all(part.isidentifier() for part in module_name.split(".")):
        raise InputError(f"no model {given!r}: the sources are {', '.join(_SOURCES)}, or a module:function to import")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not module_name.startswith(error.name):
            raise PrerequisiteError(f"{given} imports {error.name}, which is not installed") from error
        raise InputError(
            f"no model {given}: the sources are {', '.join(_SOURCES)}, and no module {module_name} can be imported "
            "from here"
        ) from error
    except Exception as error:
        raise InputError(f"{given}: its import fails with {describe_error(error)}") from error
    function = getattr(module, function_name, None)
    if not callable(function):
        raise InputError(f"{module_name} has no function {function_name!r}")
    try:
        inspect.signature(function).bind()
    except (TypeError, ValueError) as error:
        raise InputError(f"{given} must be callable without arguments: {error}") from error
    try:
        model = function()
    except Exception as error:
        raise InputError(f"{given} fails with {describe_error(error)}") from error
    if not isinstance(model, nn.Module):
        raise InputError(f"{given} must return a torch.nn.Module; it returned {type(model).__name__}")
    return _Loaded(model, "")


_SOURCES: dict[str, Callable[[str, int], _Loaded]] = {
    "torchvision": _from_torchvision,
    "timm": _from_timm,
    "robustbench": _from_robustbench,
}
