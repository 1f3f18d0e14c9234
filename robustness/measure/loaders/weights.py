"""Weights in a file, without their network: read as tensors only, and fitted to a module."""

from __future__ import annotations

import hashlib
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from data_prep.errors import InputError, PrerequisiteError, damage_named, describe_error

_CONTAINERS = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "weights", "state_dict_ema")
"""Keys under which training scripts keep the state dict; the first one found counts."""
_PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "backbone.")
"""Prefixes that wrappers add to every name."""
_HASH = re.compile(r"-([0-9a-f]{8,64})\.[^.]+$")
_DATE = re.compile(r"(19|20)\d{6}")
_SHOWN = 4


def load_weights(model: nn.Module, path: Path, *, owner: str) -> None:
    """Fill ``model`` with the weights of a file; every name and shape must fit.

    Args:
        model: the architecture.
        path: a state dict of ``torch.save``, bare or within a checkpoint, or a ``.safetensors`` file.
        owner: name of the architecture in messages.

    Raises:
        PrerequisiteError: no such file.
        InputError: not weights (:func:`read_weights`), or weights of another architecture or number of classes.
    """
    fit_weights(model, read_weights(path), source=str(path), owner=owner)


def fit_weights(model: nn.Module, state: Mapping[str, Tensor], *, source: str, owner: str) -> None:
    """Copy ``state``, read from ``source``, into ``model``; raise InputError if a name or a shape differs.

    If ``model`` only wraps the network that the weights belong to, that network is filled.
    """
    expected = {name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)}
    state = _strip(state, expected)
    if not state.keys() & expected.keys():
        for child in model.children():
            if set(child.state_dict()) & state.keys():
                return fit_weights(child, state, source=source, owner=owner)
    wanted = {name: value for name, value in expected.items() if not name.endswith("num_batches_tracked")}
    lazy = {name for name, value in wanted.items() if nn.parameter.is_lazy(value)}
    other = [name for name in wanted.keys() & state.keys() - lazy if state[name].shape != wanted[name].shape]
    missing, unexpected = sorted(wanted.keys() - state.keys()), sorted(state.keys() - expected.keys())
    if not missing and not unexpected and other and all(_differ_in_outputs(state[it], wanted[it]) for it in other):
        name = other[0]
        raise InputError(
            f"expected weights of {owner} for {len(wanted[name])} classes in {source}, got weights for "
            f"{len(state[name])}; choose the data that it was trained on, or other weights"
        )
    problems = [f"missing {name}" for name in missing] + [f"unexpected {name}" for name in unexpected]
    problems += [
        f"{name} has shape {tuple(state[name].shape)} instead of {tuple(wanted[name].shape)}" for name in sorted(other)
    ]
    if problems:
        rest = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise InputError(
            f"expected the weights of {owner} in {source}, got: {'; '.join(problems[:_SHOWN])}{rest}; give the "
            "architecture that it was trained with"
        )
    if bad := [name for name, value in state.items() if value.is_floating_point() and not value.isfinite().all()]:
        raise InputError(
            f"expected finite weights in {source}, got others in {bad[0]}, as in a damaged file or after a diverged "
            "training; take others"
        )
    advice = "give the architecture that it was trained with"
    with damage_named(f"the weights of {owner} in {source}", advice, (RuntimeError,)):
        model.load_state_dict(dict(state), strict=False)
    return None


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read the state dict in a file; nothing in it is executed.

    Raises:
        PrerequisiteError: no such file.
        InputError: a file that does not hold weights, is damaged, or does not match the hash in its name.
    """
    content = read_tensors(path)
    check_name(path)
    for key in _CONTAINERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not any(isinstance(it, Tensor) for it in content.values()):
        held = f"the keys {', '.join(map(str, list(content)[:8]))}" if isinstance(content, Mapping) else "no dictionary"
        raise InputError(
            f"expected a state dict in {path}, got {held}; save the weights with torch.save(model.state_dict(), FILE)"
        )
    return {str(name): value for name, value in content.items() if isinstance(value, Tensor)}


def check_is_binary(path: Path) -> None:
    """Raise InputError if a download left a page, a pointer or nothing instead of the file."""
    with path.open("rb") as file:
        start = file.read(512).lstrip().lower()
    if not start:
        raise InputError(f"expected weights in {path}, got an empty file; download it again")
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        raise InputError(f"expected a file of weights, got {path}, an HTML page; download the file itself")
    if start.startswith(b"version https://git-lfs"):
        raise InputError(
            f"expected a file of weights, got {path}, a pointer of Git LFS; fetch the file itself, git lfs pull"
        )


def check_name(path: Path) -> None:
    """Raise InputError if the name ends in eight or more digits of another SHA-256, as PyTorch's file names do."""
    match = _HASH.search(path.name)
    if match is None or _DATE.fullmatch(match[1]):
        return
    found = hash_file(path)
    if not found.startswith(match[1]):
        raise InputError(
            f"expected a SHA-256 that begins with {match[1]}, as the name of {path} says, got "
            f"{found[: len(match[1])]}, as of a damaged or another file; download it again, or rename it if the name "
            "means something else"
        )


def hash_file(path: Path) -> str:
    """Compute the SHA-256 (hex) of the bytes of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_tensors(path: Path) -> Any:
    """Read the content of a ``torch.save`` or safetensors file, whatever its form; raise as :func:`read_weights`."""
    if not path.is_file():
        raise PrerequisiteError(f"expected a file of weights, got {path}, which is not there; check the path")
    check_is_binary(path)
    damaged = f"expected a file of torch.save or safetensors, got {path}, which is truncated, damaged or another file"
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL (\S+)", str(error))
        if found is None or found[1].startswith("_"):
            raise InputError(f"{damaged}; save or download it again") from error
        raise InputError(
            f"expected weights alone in {path}, got objects of Python ({found[1]}), and reading them would run code; "
            "save the weights with torch.save(model.state_dict(), FILE)"
        ) from error
    except (SafetensorError, OSError, RuntimeError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"{damaged}: {describe_error(error)}; save or download it again") from error


def _strip(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return ``state`` without the prefixes of wrappers that ``expected`` lacks."""
    found = dict(state)
    while found.keys() != expected.keys():
        prefix = next((it for it in _PREFIXES if all(name.startswith(it) for name in found)), None)
        if prefix is None or any(name.startswith(prefix) for name in expected):
            return found
        found = {name.removeprefix(prefix): value for name, value in found.items()}
    return found


def _differ_in_outputs(value: Tensor, wanted: Tensor) -> bool:
    """Check whether two weights differ only in their first dimension, the outputs."""
    return value.ndim > 0 and value.shape[1:] == wanted.shape[1:] and len(value) != len(wanted)
