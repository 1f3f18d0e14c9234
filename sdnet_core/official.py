"""Weights of the official SDNet checkpoints, under the names that the reference implementation gives them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from data_prep.errors import InputError
from sdnet_core.checkpoints import assign_weights, build_model
from sdnet_core.config import CIFAR_MEAN, CIFAR_STD
from sdnet_core.networks import Network

_RENAMED = (
    (r"^module\.", ""),
    (r"^layer0\.0\.(dn\.)?weight$", "input_layer.weight"),
    (r"^layer0\.1\.", "input_norm."),
    (r"^layer0\.2\.dn\.", "second_layer."),
    (r"^layer(\d)\.layers\.", r"layer\1."),
    (r"\.dn\.weight$", ".weight"),
)
_IGNORED = re.compile(r"(^|\.)(step_size|running_c_loss|num_batches_tracked)$")


def import_official(
    state_dict: Mapping[Any, Any],
    arch: str,
    *,
    num_classes: int = 10,
    image_size: int = 32,
    mean: tuple[float, ...] = CIFAR_MEAN,
    std: tuple[float, ...] = CIFAR_STD,
    **options: Any,
) -> Network:
    """Build a network with the weights of an official SDNet checkpoint (or of its ResNet baseline), in eval mode.

    The bare state dict of ``model_best.pth.tar`` and the whole of ``checkpoint.pth.tar`` are accepted, with or without
    the prefix ``module.``, with ``step_size`` or the older ``running_c_loss`` (both are ignored: atoms are normalised
    and s = 0.9/L is computed anew). The keys show if an -all network has shortcuts.

    Raises:
        InputError: keys or shapes that do not belong to ``arch``, each named.

    Source: the layouts of the public reference implementation of SDNet.
    """
    nested = state_dict.get("state_dict", state_dict)
    if not isinstance(nested, Mapping):
        raise InputError(
            f"expected a state dict in the official checkpoint, got a {type(nested).__name__}; save model.state_dict()"
        )
    state = {}
    for key, value in nested.items():
        name = str(key)
        for pattern, replacement in _RENAMED:
            name = re.sub(pattern, replacement, name)
        if isinstance(value, Tensor) and not _IGNORED.search(name):
            state[name] = value
    if arch.endswith("_all"):
        options.setdefault("shortcut", any(".shortcut." in name for name in state))
    fields = {"num_classes": num_classes, "image_size": image_size, "mean": mean, "std": std, **options}
    model = build_model(arch, converge=False, **fields)
    state |= {"normalise.mean": model.normalise.mean, "normalise.std": model.normalise.std}
    assign_weights(model, state, source="the official checkpoint")
    return model.eval()
