"""Classifiers of torchvision and timm, with the weights of their authors or with yours: ``torchvision:NAME@FILE``."""

from __future__ import annotations

import re
import urllib.error
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

import torch

from data_prep.errors import InputError, PrerequisiteError
from robustness.measure.loaders.address import Address
from robustness.measure.loaders.loaded import Loaded, Wanted, import_package
from robustness.measure.loaders.weights import check_is_binary, hash_file, load_weights, read_tensors

NO_DOWNLOAD = (urllib.error.URLError, OSError)


def load_torchvision(address: Address, wanted: Wanted) -> Loaded:
    """Load a classifier of torchvision with its default weights or the weights of ``@FILE``, and the default preset.

    Raises:
        PrerequisiteError: the weights are missing.
        InputError: no such classifier, another number of classes, or a file that does not hold its weights.
    """
    from torchvision import models

    name, given = address.name, f"torchvision:{address.name}"
    if name not in models.list_models(module=models):
        raise InputError(
            f"expected a classifier of torchvision, got {name!r}; choose one of torchvision.models.list_models()"
        )
    weights = models.get_model_weights(name).DEFAULT
    if address.weights:
        if name in ("googlenet", "inception_v3"):
            raise InputError(
                f"{given} takes no @FILE, as a file of weights does not say how its input is scaled nor which outputs "
                "it has; give a function that builds it, file.py:function@FILE"
            )
        model = models.get_model(name, weights=None, num_classes=wanted.num_classes)
        load_weights(model, Path(address.weights), owner=given)
    else:
        check_classes(given, len(weights.meta["categories"]), wanted)
        place = Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rpartition("/")[2]
        _check_hash(place)
        missing = f"the weights of {given} cannot be downloaded ({{}}); put {weights.url} into {place.parent}"
        with _telling_of_downloads(missing, place, given):
            model = models.get_model(name, weights=weights)
    preset, version = weights.transforms(), f"torchvision {metadata.version('torchvision')}"
    size = (int(preset.crop_size[0]), int(preset.crop_size[-1]))
    mean, std = tuple(preset.mean), tuple(preset.std)
    notes = _tell_normalisation(address, mean, std)
    return Loaded(model=model, version=version, mean=mean, std=std, input_size=size, notes=notes)


def _check_hash(place: Path) -> None:
    """Raise InputError if the file at ``place`` does not match the hash in its name."""
    if not place.is_file():
        return
    check_is_binary(place)
    promised = torch.hub.HASH_REGEX.search(place.name)
    if promised and not hash_file(place).startswith(promised[1]):
        raise InputError(
            f"expected a file whose SHA-256 begins with {promised[1]}, as its name says, got {place}, which is damaged "
            "or another; remove it and download it again"
        )


def load_timm(address: Address, wanted: Wanted) -> Loaded:
    """Load a classifier of timm with its pretrained weights or the weights of ``@FILE``, and timm's configuration.

    Raises:
        PrerequisiteError: the package or the weights are missing.
        InputError: no such classifier, another number of classes, or a file that does not hold its weights.
    """
    name, given, timm = address.name, f"timm:{address.name}", import_package("timm", f"timm:{address.name}")
    if not timm.is_model(name.partition(".")[0]):
        raise InputError(f"expected a model of timm, got {name!r}; choose one of timm.list_models()")
    try:
        preset = timm.models.get_pretrained_cfg(name)
    except RuntimeError as error:
        raise InputError(f"{given}: {error}") from error
    if address.weights:
        model = timm.create_model(name, pretrained=False, num_classes=wanted.num_classes)
        load_weights(model, Path(address.weights), owner=given)
    else:
        check_classes(given, preset.num_classes, wanted)
        place = Path(torch.hub.get_dir()) / "timm" / f"{name}.safetensors"
        at_hand = {"file": str(place)} if place.is_file() else None
        if at_hand:
            read_tensors(place)
        missing = (
            f"the weights of {given} cannot be downloaded ({{}}); put model.safetensors of "
            f"huggingface.co/{preset.hf_hub_id} as {place}"
        )
        with _telling_of_downloads(missing, place, given):
            model = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=at_hand)
    version, mean, std = f"timm {metadata.version('timm')}", tuple(preset.mean), tuple(preset.std)
    notes = _tell_normalisation(address, mean, std)
    size = tuple(preset.input_size[1:])
    return Loaded(model=model, version=version, mean=mean, std=std, input_size=size, notes=notes)


def check_classes(given: str, found: int, wanted: Wanted) -> None:
    """Raise InputError if a model and the data set differ in the number of classes, before weights are fetched."""
    if found != wanted.num_classes:
        raise InputError(
            f"expected a model of {wanted.num_classes} classes, as the data set has, got {given}, which has {found}; "
            f"measure it on the data that it was trained for, or give weights for {wanted.num_classes} classes, "
            "NAME@FILE"
        )


def _tell_normalisation(address: Address, mean: tuple[float, ...], std: tuple[float, ...]) -> tuple[str, ...]:
    """Write a note on the normalisation assumed for weights from a file."""
    if not address.weights:
        return ()
    return (
        f"{address.title}: its images are normalised by mean {_round(mean)} and standard deviation {_round(std)}, as "
        f"images of {address.source}'s own weights are; if yours were trained otherwise, give a function with its own "
        "normalisation, file.py:function@FILE",
    )


def _round(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.3g}" for value in values)


@contextmanager
def _telling_of_downloads(missing: str, place: Path, given: str) -> Iterator[None]:
    """Turn a library's error over missing weights into ``missing``, with the reason in its braces."""
    try:
        yield
    except RuntimeError as error:  # timm also raises it if the package that downloads is not installed
        if place.is_file() and re.search("state_dict|size mismatch|[Kk]ey", str(error)):
            raise InputError(
                f"expected the weights of {given} in {place}, got others; remove it and download it again"
            ) from error
        raise PrerequisiteError(missing.format(str(error).partition("\n")[0])) from error
    except NO_DOWNLOAD as error:
        raise PrerequisiteError(missing.format(error)) from error
    except Exception as error:  # a damaged file may raise anything
        if not place.is_file():
            raise
        raise InputError(
            f"expected the weights of {given} in {place}, got a truncated or damaged file; remove it and download it "
            "again"
        ) from error
