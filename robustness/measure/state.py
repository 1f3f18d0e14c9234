"""The state of a model: kept before it is measured, restored before the next set of images.

A model may change itself when it is called: a buffer, a counter, a cache. Changes under one corruption must not affect
the next. Objects keep their identity, so that references to them stay valid: only their contents are restored.
"""

from __future__ import annotations

import functools
import random
import sys
import types
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

_ATOMS = (int, float, complex, str, bytes, bool, type(None), type, types.ModuleType, torch.dtype, torch.device)
_FOREIGN_ROOTS = {*sys.stdlib_module_names, "torch", "numpy"} - {"__main__"}
"""Packages whose objects are left alone, except known types: they lead everywhere."""


class State:
    """The contents of a module, its submodules, and everything that it refers to: tensors, arrays, containers,
    attributes.

    Closures and random generators are included. Variables of the module's source file and memory of native code, which
    Python cannot reach from it, are not.

    Args:
        root: the module.
    """

    def __init__(self, root: nn.Module) -> None:
        self._puts: list[Callable[[], object]] = []
        self.tensors: list[Tensor] = []
        seen: set[int] = set()
        self._alive: list[Any] = []  # an id is unique while its object lives
        left: list[Any] = [root]
        while left:
            thing = left.pop()
            if isinstance(thing, _ATOMS) or id(thing) in seen:
                continue
            seen.add(id(thing))
            self._alive.append(thing)
            left += self._keep(thing)

    def restore(self) -> None:
        """Restore all contents."""
        for put in self._puts:
            put()

    def _keep(self, thing: Any) -> Iterable[Any]:
        """Keep the contents of one object; return the objects that it refers to."""
        if isinstance(thing, Tensor):
            self._keep_tensor(thing)
            return ()
        if isinstance(thing, np.ndarray):
            self._keep_array(thing)
            return thing.ravel().tolist() if thing.dtype == object else ()
        if isinstance(thing, torch.jit.ScriptModule):
            return [*thing.parameters(), *thing.buffers()]
        if type(thing) in (dict, OrderedDict, defaultdict):
            self._puts.append(functools.partial(_put_items, thing, dict(thing)))
            return list(thing.values())
        if type(thing) in (list, set, deque):
            self._puts.append(functools.partial(_put_members, thing, list(thing)))
            return list(thing)
        if isinstance(thing, tuple | frozenset):
            return thing
        if isinstance(thing, torch.Generator | np.random.Generator | np.random.RandomState | random.Random):
            self._keep_generator(thing)
            return ()
        return self._keep_object(thing)

    def _keep_tensor(self, tensor: Tensor) -> None:
        self.tensors.append(tensor)
        if not is_lazy(tensor) and tensor.layout == torch.strided and not tensor.is_quantized:
            self._puts.append(functools.partial(_put_values, tensor, tensor.detach().clone()))

    def _keep_array(self, array: np.ndarray) -> None:
        if array.flags.writeable:
            self._puts.append(functools.partial(np.copyto, array, array.copy()))

    def _keep_generator(self, generator: Any) -> None:
        if isinstance(generator, torch.Generator):
            self._puts.append(functools.partial(generator.set_state, generator.get_state()))
        elif isinstance(generator, np.random.Generator):
            bits = generator.bit_generator
            self._puts.append(functools.partial(setattr, bits, "state", bits.state))
        elif isinstance(generator, np.random.RandomState):
            self._puts.append(functools.partial(generator.set_state, generator.get_state(legacy=False)))
        else:
            self._puts.append(functools.partial(generator.setstate, generator.getstate()))

    def _keep_object(self, thing: Any) -> Iterable[Any]:
        if isinstance(thing, types.MethodType):
            return thing.__self__, thing.__func__
        if isinstance(thing, functools.partial):
            return thing.func, *thing.args, *thing.keywords.values()
        if isinstance(thing, types.FunctionType):
            return () if _is_foreign(thing.__module__) else (thing.__closure__ or ())
        if isinstance(thing, types.CellType):
            return self._keep_cell(thing)
        is_known = isinstance(thing, nn.Module | torch.optim.Optimizer)
        if not hasattr(thing, "__dict__") or (_is_foreign(type(thing).__module__) and not is_known):
            return ()
        attributes = vars(thing)
        self._puts.append(functools.partial(_put_items, attributes, dict(attributes)))
        return list(attributes.values())

    def _keep_cell(self, cell: types.CellType) -> Iterable[Any]:
        try:
            content = cell.cell_contents
        except ValueError:  # an empty one
            return ()
        self._puts.append(functools.partial(setattr, cell, "cell_contents", content))
        return (content,)


def _is_foreign(module: str | None) -> bool:
    return (module or "").partition(".")[0] in _FOREIGN_ROOTS


def _put_items(target: dict[Any, Any], items: dict[Any, Any]) -> None:
    if len(target) != len(items) or any(target.get(key, target) is not value for key, value in items.items()):
        target.clear()
        target.update(items)


def _put_members(target: Any, members: list[Any]) -> None:
    if len(target) != len(members) or any(a is not b for a, b in zip(target, members)):
        target.clear()
        target.extend(members) if isinstance(target, list | deque) else target.update(members)


@torch.no_grad()
def _put_values(tensor: Tensor, values: Tensor) -> None:
    """Write values only where they differ: read-only memory has no differences."""
    if tensor.shape != values.shape:
        tensor.data = values.clone()
    elif not torch.equal(tensor, values):
        tensor.copy_(values)
