"""Values from files against the types that they are declared to have."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any

from data_prep.errors import InputError

_LARGEST = 2**63
"""Whole numbers from here on fit into no array or library."""


def fits(value: Any, hint: Any) -> bool:
    """Whether ``value`` has the type ``hint``.

    Types may be unions, tuples, lists, dictionaries and typed dictionaries, of which required keys must be there and
    others may be. A float may be written as a whole number and must be finite; truth values are no numbers.
    """
    return _test_for(hint)(value)


def find_misfits(value: Any, hint: Any, name: str) -> Iterator[str]:
    """Say of every part of ``value``, which is called ``name``, that does not have its type, what is wrong."""
    if fits(value, hint):
        return
    arguments = typing.get_args(hint)
    parts: Iterable[tuple[Any, Any, str]] = ()
    if typing.is_typeddict(hint):
        if not isinstance(value, dict):
            yield f"{name} must be a table; got {_show(value)}"
            return
        yield from (f"{name}.{key} is missing" for key in sorted(hint.__required_keys__ - value.keys()))
        parts = ((value[key], of_key, f"{name}.{key}") for key, of_key in _hints_of(hint).items() if key in value)
    elif _has_items(value, hint, dict) and all(fits(key, arguments[0]) for key in value):
        parts = ((item, arguments[1], f"{name}[{key!r}]") for key, item in value.items())
    elif _has_items(value, hint, list) or (_has_items(value, hint, tuple) and not _has_length(hint)):
        parts = ((item, arguments[0], f"{name}[{index}]") for index, item in enumerate(value))
    else:
        yield f"{name} must be {_describe(hint)}; got {_show(value)}"
    for part in parts:
        yield from find_misfits(*part)


def _has_items(value: Any, hint: Any, kind: type) -> bool:
    return typing.get_origin(hint) is kind and isinstance(value, kind)


def _has_length(hint: Any) -> bool:
    return typing.get_origin(hint) is tuple and typing.get_args(hint)[-1] is not Ellipsis


@cache
def _test_for(hint: Any) -> Callable[[Any], bool]:
    """Whether a value has the type ``hint``, as a function: a record of 100,000 cells asks it a million times."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if typing.is_typeddict(hint):
        required, by_key = hint.__required_keys__, {key: _test_for(of_key) for key, of_key in _hints_of(hint).items()}
        return lambda value: (
            isinstance(value, dict)
            and required <= value.keys()
            and all(test(value[key]) for key, test in by_key.items() if key in value)
        )
    if origin is None:
        return _PLAIN.get(hint) or (lambda value: isinstance(value, types.NoneType if hint is None else hint))
    tests = [_test_for(argument) for argument in arguments if argument is not Ellipsis]
    if origin in (typing.Union, types.UnionType):
        return lambda value: any(test(value) for test in tests)
    if origin is dict:
        return lambda value: isinstance(value, dict) and all(tests[0](k) and tests[1](v) for k, v in value.items())
    if _has_length(hint):
        return lambda value: (
            isinstance(value, tuple) and len(value) == len(tests) and all(t(v) for t, v in zip(tests, value))
        )
    return lambda value: isinstance(value, origin) and all(map(tests[0], value))


def _is_whole_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < _LARGEST


def _is_finite_number(value: Any) -> bool:
    return _is_whole_number(value) or (isinstance(value, float) and math.isfinite(value))


_PLAIN = {Any: lambda _: True, int: _is_whole_number, float: _is_finite_number}


def check_fields(values: Any, kind: type, where: str) -> None:
    """Make sure that ``kind(**values)`` gets the fields that the dataclass ``kind`` has, with their types.

    Raises: InputError, with ``where`` and the field, for anything else.
    """
    if not isinstance(values, dict):
        raise InputError(f"{where}: expected a table of values, got {_show(values)}")
    fields = {field.name: field for field in dataclasses.fields(kind)}
    if unknown := values.keys() - fields.keys():
        listed = ", ".join(sorted(map(str, unknown)))
        raise InputError(f"{where}: unknown key {_shorten(listed)}: choose from {', '.join(fields)}")
    absent = dataclasses.MISSING
    required = {name for name, f in fields.items() if f.default is absent and f.default_factory is absent}
    if missing := sorted(required - values.keys()):
        raise InputError(f"{where}: missing {', '.join(missing)}")
    for name, value in values.items():
        for misfit in find_misfits(value, _hints_of(kind)[name], name):
            raise InputError(f"{where}: {misfit}")


@cache
def _hints_of(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _describe(hint: Any) -> str:
    if hint is float:
        return "a finite number"
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint).replace("typing.", "")


def _show(value: Any) -> str:
    try:
        return _shorten(repr(value))
    except ValueError:  # a number of thousands of digits
        return "a huge number"


def _shorten(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."
