"""Values from files against the types that they are declared to have."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Iterator
from functools import cache
from typing import Any

from data_prep.errors import InputError

_LARGEST = 2**63
"""Whole numbers from here on fit into no array or library."""


def fits(value: Any, hint: Any) -> bool:
    """Whether ``value`` has the type ``hint``; see :func:`find_misfits`."""
    return next(find_misfits(value, hint, ""), None) is None


def find_misfits(value: Any, hint: Any, name: str) -> Iterator[str]:
    """Say of every part of ``value``, which is called ``name``, that does not have its type, what is wrong.

    Types may be unions, tuples, lists, dictionaries and typed dictionaries, of which required keys must be there and
    others may be. A float may be written as a whole number and must be finite; truth values are no numbers.
    """
    if typing.is_typeddict(hint):
        yield from _find_misfits_in_table(value, hint, name)
    elif not _is_outwardly(value, hint):
        yield f"{name} must be {_describe(hint)}; got {_show(value)}"
    elif (origin := typing.get_origin(hint)) is dict:
        for key, item in value.items():
            yield from find_misfits(item, typing.get_args(hint)[1], f"{name}[{key!r}]")
    elif origin in (tuple, list) and not _has_length(hint):
        for index, item in enumerate(value):
            yield from find_misfits(item, typing.get_args(hint)[0], f"{name}[{index}]")


def _has_length(hint: Any) -> bool:
    return typing.get_origin(hint) is tuple and typing.get_args(hint)[-1] is not Ellipsis


def _is_outwardly(value: Any, hint: Any) -> bool:
    """Whether ``value`` has the type ``hint``, but for the items of a list and the values of a dictionary."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is None:
        return hint is Any or _is_plain(value, hint)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, option) for option in arguments)
    if origin is dict:
        return isinstance(value, dict) and all(fits(key, arguments[0]) for key in value)
    if _has_length(hint):
        return isinstance(value, tuple) and len(value) == len(arguments) and all(map(fits, value, arguments))
    return isinstance(value, origin)


def _find_misfits_in_table(value: Any, hint: Any, name: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{name} must be a table; got {_show(value)}"
        return
    yield from (f"{name}.{key} is missing" for key in sorted(hint.__required_keys__ - value.keys()))
    for key, item_hint in _hints_of(hint).items():
        if key in value:
            yield from find_misfits(value[key], item_hint, f"{name}.{key}")


def _is_plain(value: Any, hint: Any) -> bool:
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) < _LARGEST
    if hint is float:
        return _is_plain(value, int) or (isinstance(value, float) and math.isfinite(value))
    return isinstance(value, types.NoneType if hint is None else hint)


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
