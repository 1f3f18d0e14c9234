"""Wrappers around a classifier: torch's wrappers are removed, and functions are put into a module."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeGuard

import numpy as np
import torch
from torch import Tensor, nn

from data_prep.errors import InputError


class FunctionModule(nn.Module):
    """A function images → logits behind the interface of a module."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function
        if hasattr(function, "lam"):
            self.lam = function.lam

    def forward(self, images: Tensor, **options: Any) -> Any:
        """Return the output of the function."""
        return self.function(images, **options)


class FixedBatch(nn.Module):
    """A program recorded for one number of images: called in pieces of that number, the last one padded."""

    def __init__(self, model: nn.Module, batch: int) -> None:
        super().__init__()
        self.model, self.batch = model, batch

    def forward(self, images: Tensor) -> Tensor:
        """Compute the outputs (N, …) for any number N of images."""
        n, answers = len(images), []
        for start in range(0, n, self.batch):
            piece = images[start : start + self.batch]
            missing = self.batch - len(piece)
            if missing:
                piece = torch.cat([piece, piece[-1:].expand(missing, *piece.shape[1:])])
            answers.append(_only_tensor(self.model(piece)))
        return torch.cat(answers)[:n]


def as_module(model: Any) -> nn.Module:
    """Return the module without wrappers that do not change its outputs; a function becomes a module.

    ``torch.compile``, ``DataParallel``, ``DistributedDataParallel`` and the averages of ``torch.optim.swa_utils`` are
    removed: they hide a knob of the model and rename its weights.
    """
    if not isinstance(model, nn.Module):
        return FunctionModule(model)
    module: nn.Module = model
    wrappers = (nn.DataParallel, nn.parallel.DistributedDataParallel, torch.optim.swa_utils.AveragedModel)
    while True:
        if isinstance(inner := getattr(module, "_orig_mod", None), nn.Module):
            module = inner
        elif isinstance(module, wrappers):
            module = module.module
        else:
            return module


def list_arguments(model: nn.Module) -> set[str]:
    """List the names of the arguments of ``forward``; for a TorchScript program, from its schema."""
    if isinstance(model, FunctionModule):
        target: Any = model.function
    elif isinstance(model, torch.jit.ScriptModule):
        return {argument.name for argument in model._c._get_method("forward").schema.arguments}
    else:
        target = model.forward
    try:
        return set(inspect.signature(target).parameters)
    except (TypeError, ValueError):  # functions of an extension have no signature
        return set()


def find_knob(model: nn.Module, origin: str) -> float | None:
    """Return the number ``model.lam`` if ``model.forward`` takes ``lam``; None if it does not, or if ``lam`` is None.

    Raises:
        InputError: the training λ is missing, or is not a finite number ≥ 0.
    """
    if "lam" not in list_arguments(model):
        return None
    lam = getattr(model, "lam", "nothing")
    if isinstance(lam, Tensor) and lam.numel() == 1:
        lam = _read_number(lam)
    if lam is None:
        return None
    if not _is_number(lam) or not math.isfinite(lam) or lam < 0:
        raise InputError(
            f"{origin}: expected model.lam, as its forward takes lam, to be the λ it was trained with, a finite number "
            f"≥ 0, or None for a model without λ, got {lam!r}; set it so"
        )
    return float(lam)


def _read_number(value: Tensor) -> float:
    """The shortest decimal number that a tensor of one value stands for: 0.1 in float32 is the 0.1 of a grid."""
    single = value.detach().cpu().reshape(())
    return float(str((single if single.dtype == torch.float64 else single.float()).numpy()))


def find_hidden_knob(model: nn.Module) -> str:
    """Return the name of a part of ``model`` that has a knob, if the model itself takes no ``lam``; empty for none."""
    if isinstance(model, torch.jit.ScriptModule) or "lam" in list_arguments(model):
        return ""
    function = model.function if isinstance(model, FunctionModule) else None
    inner = function.func if isinstance(function, functools.partial) else getattr(function, "__self__", None)
    parts = list(model.named_modules())[1:]
    parts += [(type(inner).__name__, inner)] if isinstance(inner, nn.Module) else []
    has_knob = (
        name for name, part in parts if "lam" in list_arguments(part) and _is_number(getattr(part, "lam", None))
    )
    return next(has_knob, "")


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def find_dtype(model: nn.Module) -> torch.dtype:
    """Return the floating type of the model's first weights; float32 if it has none.

    The weights of a frozen TorchScript program are constants of its graph.
    """
    weights: Iterable[Tensor] = model.parameters()
    if isinstance(model, torch.jit.ScriptModule):
        graph: Any = model.graph
        constants = (node for node in graph.findAllNodes("prim::Constant") if node.hasAttribute("value"))
        weights = [*weights, *(node.t("value") for node in constants if node.kindOf("value") == "t")]
    return next((it.dtype for it in weights if it.is_floating_point()), torch.float32)


def take_logits(output: Any, num_classes: int) -> Tensor:
    """Find the logits (N, K) in a model's output of any kind.

    A tensor or an array is taken as it is, without trailing dimensions of size 1. From an object, ``.logits`` is taken;
    from a dict, ``logits``; otherwise from a dict, a tuple or a list its only tensor (N, ``num_classes``).

    Raises:
        InputError: there are no logits, several candidates, or complex numbers.
    """
    if isinstance(output, np.ndarray):
        output = torch.from_numpy(output)
    if isinstance(output, Tensor):
        if output.is_complex():
            raise InputError("expected real logits, got complex numbers from the model; return those that are meant")
        dense: Tensor = output if output.layout == torch.strided else output.to_dense()
        return dense.flatten(1) if dense.ndim > 2 and dense.shape[2:].numel() == 1 else dense
    if isinstance(logits := getattr(output, "logits", None), Tensor):
        return take_logits(logits, num_classes)
    parts = dict(output) if isinstance(output, Mapping) else {}
    if isinstance(parts.get("logits"), Tensor):
        return take_logits(parts["logits"], num_classes)
    values = list(parts.values()) or (list(output) if isinstance(output, tuple | list) else [])
    fitting = [it for it in values if isinstance(it, Tensor) and it.ndim == 2 and it.shape[1] == num_classes]
    if not fitting:
        held = f" with {', '.join(map(str, parts)) or _describe(values)}" if values else ""
        raise InputError(
            f"expected logits (N, {num_classes}), got {type(output).__name__}{held} from the model; return them as a "
            "tensor, as .logits or under the key logits"
        )
    if len(fitting) > 1:
        raise InputError(
            f"expected logits alone, got {len(fitting)} tensors (N, {num_classes}) from the model, of which any may be "
            "the logits; return them alone, as .logits or under the key logits"
        )
    return take_logits(fitting[0], num_classes)


def _describe(values: list[Any]) -> str:
    return ", ".join(str(tuple(it.shape)) if isinstance(it, Tensor) else type(it).__name__ for it in values)


def _only_tensor(output: Any) -> Tensor:
    """Return the tensor that a recorded program returns."""
    if isinstance(output, tuple | list) and len(output) == 1:
        output = output[0]
    if not isinstance(output, Tensor):
        raise InputError(
            "expected one tensor from a program that was recorded for a fixed number of images, got "
            f"{type(output).__name__}; record it again with a free number of images"
        )
    return output
