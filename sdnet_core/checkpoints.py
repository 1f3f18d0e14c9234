"""Weights on disk: safetensors with a model card. Nothing is unpickled."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Required, TypedDict

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from data_prep.errors import InputError, check_known, place_named
from data_prep.files import check_folder, replacing
from data_prep.schema import read
from sdnet_core.config import LARGEST, SUFFIX, NetworkConfig, find_checkpoint
from sdnet_core.networks import Network

_FORMAT = "sdnet-robustness/1"


class _Recipe(TypedDict, total=False):
    data: str


class _Accuracy(TypedDict, total=False):
    correct: Required[int]
    n: Required[int]
    data: str
    fingerprint: str


class _Record(TypedDict, total=False):
    hardware: dict[str, Any]
    versions: dict[str, Any]
    git: dict[str, Any]


class _Parts(TypedDict, total=False):
    """The parts of a card, with the types of the keys that code reads; other keys are only shown."""

    recipe: _Recipe
    accuracy: _Accuracy
    record: _Record


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """The description of a model, stored in its checkpoint.

    Args:
        name: the model's name in tables.
        config: the configuration that builds the network.
        recipe: the resolved training recipe; empty for imported weights.
        accuracy: ``correct``, ``n``, ``data`` (title) and ``fingerprint`` of the test set; empty when unknown.
        record: seconds, epochs, seed, hardware and versions of the training.
    """

    name: str
    config: NetworkConfig
    recipe: dict[str, Any] = field(default_factory=dict)
    accuracy: dict[str, Any] = field(default_factory=dict)
    record: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """Convert the card to canonical JSON."""
        return json.dumps({"format": _FORMAT, **dataclasses.asdict(self)}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> ModelCard:
        """Read a card; raises InputError for another format and for values that cannot build a network."""
        where = "the checkpoint's model card"
        try:
            fields = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError(f"expected JSON in {where}, got: {error}; download or convert it again") from error
        if not isinstance(fields, dict) or fields.pop("format", None) != _FORMAT:
            raise InputError(
                f"expected a checkpoint in the format {_FORMAT!r}, got another; train or convert it with this version "
                "of the project"
            )
        read(fields.get("config"), NetworkConfig, where)
        card = read(fields, cls, where)
        read({name: part for name, part in fields.items() if part}, _Parts, where)
        for name, largest in LARGEST.items():
            if getattr(card.config, name) > largest:
                raise InputError(
                    f"{where}: expected {name} of at most {largest}, got {getattr(card.config, name)}; do not trust it"
                )
        if card.accuracy:
            correct, n = card.accuracy["correct"], card.accuracy["n"]
            if not 0 <= correct <= n or not n:
                raise InputError(
                    f"{where}: expected an accuracy with 0 ≤ correct ≤ n, n > 0, got {correct} and {n}; do not trust it"
                )
        return card


def build_model(arch: str, *, converge: bool = True, **options: Any) -> Network:
    """Build an untrained network; ``options`` are fields of :class:`NetworkConfig`, ``converge`` is as in ``Network``.

    Raises:
        InputError: unknown architecture or option, or a value out of range.
    """
    known = sorted({f.name for f in dataclasses.fields(NetworkConfig)} - {"arch"})
    check_known(options, known, "model options")
    for name in ("mean", "std"):
        if name in options:
            options[name] = tuple(float(v) for v in options[name])
    return Network(NetworkConfig(arch=arch, **options), converge=converge)


def weights_fingerprint(model: nn.Module) -> str:
    """Compute the SHA-256 (hex) of names, shapes and float32 values of the state dict, independent of the device.

    BatchNorm's counts of batches, which training raises and checkpoints drop, count as 0. Quantised weights enter with
    their integers and scales, and a module's extra state with its items.
    """
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        if name.endswith("num_batches_tracked"):
            value = torch.zeros_like(value)
        _update(digest, name, value)
    return digest.hexdigest()


def _update(digest: hashlib._Hash, name: str, value: Any) -> None:
    """Feed one entry of a state dict to ``digest``: tensors by their values, containers item by item."""
    if isinstance(value, Tensor) and value.is_quantized:
        value = (value.int_repr(), value.dequantize())
    if isinstance(value, Tensor):
        array = value.detach().to("cpu", torch.float32 if value.is_floating_point() else value.dtype).contiguous()
        digest.update(f"{name}{tuple(array.shape)}".encode())
        digest.update(array.numpy().tobytes())
    elif isinstance(value, Mapping):
        for key in sorted(value, key=str):
            _update(digest, f"{name}.{key}", value[key])
    elif isinstance(value, tuple | list):
        for index, item in enumerate(value):
            _update(digest, f"{name}.{index}", item)
    elif isinstance(value, str | bytes | int | float | complex | torch.dtype | type(None)):
        digest.update(f"{name}={value!r}".encode())
    else:  # an object of another type, whose text may hold a memory address
        digest.update(f"{name}:{type(value).__qualname__}".encode())


def check_target(path: Path) -> None:
    """Check that a checkpoint can be written to ``path``, as a new file or in place of a checkpoint.

    Raises:
        InputError: another suffix, a folder, a device or anything else that is not a plain file, an overlong name, or a
            folder that cannot be written.
    """
    try:
        is_free = path.suffix == SUFFIX and (path.is_file() or not (path.exists() or path.is_symlink()))
    except OSError as error:
        raise InputError(
            f"expected a file that can be written, got {str(path)[:100]}… ({error.strerror}); choose another --out"
        ) from error
    if not is_free:
        raise InputError(f"expected a new or existing {SUFFIX} file, got {path}; choose another --out")
    check_folder(path.parent)


def save_model(model: Network, path: Path, card: ModelCard, *, half: bool = False) -> None:
    """Write the weights and the card to ``path`` (safetensors), atomically; ``half`` stores float16.

    Raises:
        InputError: ``path`` cannot be written (:func:`check_target`).
    """
    check_target(path)
    state = {
        name: value.detach()
        .to("cpu", torch.float16 if half and value.is_floating_point() else value.dtype)
        .contiguous()
        for name, value in model.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    with replacing(path) as temporary:
        save_file(state, temporary, metadata={"card": card.to_json()})


def read_card(name_or_path: str | Path) -> ModelCard:
    """Read the model card of a checkpoint without loading its weights."""
    path = find_checkpoint(name_or_path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(
            f"expected a whole safetensors file in {path}, got a truncated or damaged one ({error}); download or train "
            "it again"
        ) from error
    if "card" not in metadata:
        raise InputError(
            f"expected a {SUFFIX} file with a model card, as training and convert of this project write it, got {path} "
            f"without one; give weights of another network as torchvision:NAME@{path}, timm:NAME@{path} or "
            f"file.py:function@{path}"
        )
    with place_named(path):
        return ModelCard.from_json(metadata["card"])


def load_model(name_or_path: str | Path) -> Network:
    """Load a shipped model by name (``"sdnet18-cifar10"``) or a checkpoint by path, in eval mode on the CPU.

    Atoms are normalised and step sizes are converged, so that the step always fits the dictionary.

    Raises:
        PrerequisiteError: no such model.
        InputError: a damaged or foreign file, or weights that do not fit their own card.
    """
    card = read_card(name_or_path)
    path = find_checkpoint(name_or_path)
    try:
        with safe_open(path, framework="pt") as file:
            state = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError, RuntimeError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise InputError(
            f"expected a whole safetensors file in {path}, got a truncated or damaged one ({error}); download or train "
            "it again"
        ) from error
    _check_size(card.config, state, source=str(path))
    model = Network(card.config, converge=False)
    assign_weights(model, state, source=str(path))
    return model.eval()


def _check_size(config: NetworkConfig, state: Mapping[str, Tensor], *, source: str) -> None:
    """Compare the largest weights with the card before a network of the card's size takes memory."""
    last = 8 * config.width
    for name, shape in (("linear.weight", (config.num_classes, last)), ("layer4.1.conv2.weight", (last, last, 3, 3))):
        if name not in state or state[name].shape != shape:
            got = tuple(state[name].shape) if name in state else "nothing"
            raise InputError(
                f"expected {name} of shape {shape} for {config.arch} (width {config.width}) in {source}, got {got}; "
                "give the architecture and width that it was trained with"
            )


def assign_weights(model: Network, state: Mapping[str, Tensor], *, source: str) -> None:
    """Copy ``state`` into ``model`` and refresh it; raise InputError unless every name and shape fits."""
    expected = {k: v for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")}
    problems = [f"missing {name}" for name in expected.keys() - state.keys()]
    problems += [f"unexpected {name}" for name in state.keys() - expected.keys()]
    problems += [
        f"{name} has shape {tuple(state[name].shape)} instead of {tuple(value.shape)}"
        for name, value in expected.items()
        if name in state and state[name].shape != value.shape
    ]
    if problems:
        listed = "; ".join(sorted(problems)[:4]) + (f"; and {len(problems) - 4} more" if len(problems) > 4 else "")
        raise InputError(
            f"expected weights of {model.config.arch} (width {model.config.width}) in {source}, got: {listed}; give "
            "the architecture that it was trained with"
        )
    if not all(value.layout == torch.strided and value.is_floating_point() for value in state.values()):
        raise InputError(f"expected dense real numbers in {source}, got others; save the weights as plain tensors")
    if not all(bool(torch.isfinite(value).all()) for value in state.values()):
        raise InputError(
            f"expected finite weights in {source}, got NaN or infinity, as in a damaged file or after a diverged "
            "training; take others"
        )
    model.load_state_dict(dict(state), strict=False)
    with place_named(source):
        model.refresh()
