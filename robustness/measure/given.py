"""Models given as Python objects: modules, functions and names, in a dict or a list."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from data_prep import ImageSet
from data_prep.errors import InputError
from robustness.measure.foreign import wrap_model
from robustness.measure.loaders.loaded import Wanted
from robustness.measure.subjects import name_object, name_of
from sdnet_core.augment import to_images

Model = str | nn.Module | Callable[..., Any]
"""A name as on the command line, a module, or a function images → logits."""
Models = Model | Mapping[str, Model] | Sequence[Model]


def name_models(given: Any) -> dict[str, Model]:
    """Name every model: by the key of the dict, by the name of a shipped or stored model, or by its class.

    Objects of one class are numbered in the order of the list: ``ResNet-1``, ``ResNet-2``.

    Raises:
        InputError: no model, an object that is not a model, or two models with one name.
    """
    if isinstance(given, Mapping):
        models = dict(given)
    else:
        listed: list[Any] = list(given) if isinstance(given, list | tuple) else [given]
        names = _number([_name(model) for model in listed], listed)
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise InputError(
                f"expected models of different names, got two called {twice!r}; give a dict of models by name"
            )
        models = dict(zip(names, listed, strict=True))
    if not models:
        raise InputError("expected at least one model, got none; give one")
    for name, model in models.items():
        if not isinstance(name, str) or not name:
            raise InputError(f"expected the name of a model as text, got {name!r}; give one")
        if isinstance(model, type):
            raise InputError(f"expected a model, got the class {name}; give an object of it, {model.__name__}(…)")
        if not isinstance(model, str) and not callable(model):
            kind = type(model).__name__
            raise InputError(
                f"{name}: expected a module, a function images → logits or a name, got {kind}; give one of them"
            )
    return models


def _name(model: Model) -> str:
    return name_of(model) if isinstance(model, str) else name_object(model).strip("<>")


def _number(names: list[str], models: list[Any]) -> list[str]:
    """Number names with ``-1``, ``-2``, … if several objects share one."""
    counts: Counter[str] = Counter()
    numbered = []
    for name, model in zip(names, models, strict=True):
        counts[name] += 1
        is_shared = not isinstance(model, str) and names.count(name) > 1
        numbered.append(f"{name}-{counts[name]}" if is_shared else name)
    return numbered


def widen_classes(images: ImageSet, models: Mapping[str, Model]) -> ImageSet:
    """Give images with unnamed labels as many classes as the first model given as an object has.

    A part of a data set may lack the last classes, but the model has all of them.
    """
    names = tuple(map(str, range(len(images.classes))))
    model = next((model for model in models.values() if not isinstance(model, str)), None)
    if images.classes != names or model is None or not len(images):
        return images
    network = wrap_model("model", model, Wanted(num_classes=len(names), image_size=images.pixels.shape[1:3]))
    parameter = next(network.parameters(), torch.empty(0))
    try:
        with torch.no_grad():
            logits = network(to_images(torch.from_numpy(images.pixels[:1].copy())).to(parameter.device))
    except Exception:  # the run reports the fault
        return images
    count = logits.shape[-1] if logits.ndim == 2 else 0
    return dataclasses.replace(images, classes=tuple(map(str, range(count)))) if count > len(names) else images


@contextmanager
def undisturbed(models: Mapping[str, Model]) -> Iterator[None]:
    """Allow modules to be moved and set to eval mode during the block; restore them at its end."""
    modules = [model for model in models.values() if isinstance(model, nn.Module)]
    modes = [(part, part.training) for module in modules for part in module.modules()]
    places = [(module, parameter.device) for module in modules for parameter in [*module.parameters()][:1]]
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode
        for module, place in places:
            module.to(place)
