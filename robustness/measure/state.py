"""The state of a model: kept before it is measured, restored before the next set of images.

A model may change itself when it is called: a buffer, a counter, a cache. Changes under one corruption must not affect
the next. Objects keep their identity, so that references to them stay valid: only their contents are restored.
Variables of its source files that its code names also belong to the state.
"""

from __future__ import annotations

import dis
import functools
import random
import sys
import types
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

_ATOMS = (int, float, complex, str, bytes, bool, type(None), types.ModuleType, torch.dtype, torch.device)
_FOREIGN_ROOTS = {*sys.stdlib_module_names, "torch", "numpy"} - {"__main__"}
"""Packages whose objects are not followed, except for known types, because they refer to everything else."""
_OWN_ROOTS = ("robustness", "sdnet_core", "data_prep")
_PACKAGES = {"site-packages", "dist-packages"}
_ABSENT = object()


class State:
    """The contents of a module and everything that it refers to: tensors, arrays, containers, attributes.

    Closures, random generators, and variables of classes and source files are included. Variables of installed
    packages, files and memory of native code are not.

    Args:
        root: the module.
    """

    def __init__(self, root: nn.Module) -> None:
        self._puts: list[Callable[[], object]] = []
        self._named: set[tuple[int, str]] = set()
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
            return self._keep_function(thing)
        if isinstance(thing, types.CellType):
            return self._keep_cell(thing)
        if isinstance(thing, type):
            return self._keep_class(thing)
        is_known = isinstance(thing, nn.Module | torch.optim.Optimizer)
        if not hasattr(thing, "__dict__") or (_is_foreign(type(thing).__module__) and not is_known):
            return ()
        attributes = vars(thing)
        self._puts.append(functools.partial(_put_items, attributes, dict(attributes)))
        return [*attributes.values(), *type(thing).__mro__]

    def _keep_function(self, function: types.FunctionType) -> Iterable[Any]:
        """Keep a function's closure, defaults and attributes, and the variables of its source file that it names."""
        if _is_foreign(function.__module__):
            return ()
        attributes, defaults = vars(function), function.__kwdefaults__ or {}
        self._puts.append(functools.partial(_put_items, attributes, dict(attributes)))
        closed = [
            *(function.__closure__ or ()),
            *(function.__defaults__ or ()),
            *defaults.values(),
            *attributes.values(),
        ]
        if _is_installed(function.__globals__.get("__name__")):
            return closed
        code = list(_find_code(function.__code__))
        words = {name for part in code for name in part.co_names}
        named = {it.argval for part in code for it in dis.get_instructions(part) if it.opname.endswith("_GLOBAL")}
        return [*closed, *self._keep_variables(function.__globals__, named, words)]

    def _keep_variables(self, variables: dict[str, Any], names: set[str], attributes: set[str]) -> Iterator[Any]:
        """Keep the variables of these names; for modules among them, the variables named as ``attributes``."""
        for name in names:
            if (id(variables), name) in self._named:
                continue
            self._named.add((id(variables), name))
            value = variables.get(name, _ABSENT)
            self._puts.append(functools.partial(_put_variable, variables, name, value))
            if isinstance(value, types.ModuleType) and not _is_installed(value.__name__):
                yield from self._keep_variables(vars(value), attributes, attributes)
            elif value is not _ABSENT:
                yield value

    def _keep_class(self, cls: type) -> Iterable[Any]:
        """Keep a class's methods and variables."""
        if _is_installed(cls.__module__):
            return ()
        members = {name: value for name, value in vars(cls).items() if not name.startswith("__")}
        self._puts.append(functools.partial(_put_members_of_class, cls, members))
        methods = {name: value for name, value in vars(cls).items() if isinstance(value, types.FunctionType)}
        return [_unwrap(value) for value in {**methods, **members}.values()]

    def _keep_cell(self, cell: types.CellType) -> Iterable[Any]:
        try:
            content = cell.cell_contents
        except ValueError:  # an empty one
            return ()
        self._puts.append(functools.partial(setattr, cell, "cell_contents", content))
        return (content,)


def _is_foreign(module: str | None) -> bool:
    return (module or "").partition(".")[0] in _FOREIGN_ROOTS


@functools.cache
def _is_installed(module: str | None) -> bool:
    """Check for modules of Python, this project or installed packages, whose variables are left alone."""
    file = getattr(sys.modules.get(module or ""), "__file__", None) or ""
    root = (module or "").partition(".")[0]
    return _is_foreign(module) or root in _OWN_ROOTS or not _PACKAGES.isdisjoint(Path(file).parts)


def _find_code(code: types.CodeType) -> Iterator[types.CodeType]:
    """Return the code of a function and of the functions that it defines."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _find_code(constant)


def _unwrap(member: Any) -> Any:
    """Return the function behind a static or class method, or a property."""
    if isinstance(member, staticmethod | classmethod):
        return member.__func__
    return member.fget if isinstance(member, property) else member


def _put_variable(variables: dict[str, Any], name: str, value: Any) -> None:
    if value is _ABSENT:
        variables.pop(name, None)
    elif variables.get(name, _ABSENT) is not value:
        variables[name] = value


def _put_members_of_class(cls: type, members: dict[str, Any]) -> None:
    for name in [name for name in vars(cls) if not name.startswith("__") and name not in members]:
        delattr(cls, name)
    for name, value in members.items():
        if vars(cls).get(name, _ABSENT) is not value:
            setattr(cls, name, value)


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
