"""Values from files as typed objects: one reader for all of them, whose messages name the key."""

from __future__ import annotations

import dataclasses
import math
import re
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from data_prep.errors import InputError

T = TypeVar("T")
_LARGEST = 2**63
"""Smallest positive whole number that is too large for arrays and libraries."""
_TITLES = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "null": "empty",
    "array": "a list",
    "object": "a table",
}
_EXPECTED = re.compile(r"Expected `(?P<kinds>[^`]+)`.*?(?: - at `\$\.?(?P<place>.*)`)?")
_MISSING = re.compile(r"Object missing required field `(?P<name>.*?)`(?: - at `\$\.?(?P<place>.*)`)?")
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<name>.*?)`(?: - at `\$\.?(?P<place>.*)`)?")


def read(values: Any, kind: type[T], where: str) -> T:
    """Convert ``values`` from JSON or TOML to a ``kind``.

    Args:
        values: plain values; the numbers in fields of ``kind`` must be finite and below 2^63.
        kind: a ``msgspec.Struct``, a dataclass, a ``TypedDict``, or the type of a field.
        where: the name of the values in messages.

    Raises:
        InputError: a key is missing or unknown, or a value has the wrong type or cannot be used; the message gives
            ``where`` and the key.
    """
    if dataclasses.is_dataclass(kind) and isinstance(values, dict):
        known = [field.name for field in dataclasses.fields(kind)]
        if unknown := sorted(str(name) for name in values if name not in known):
            raise InputError(f"{where}: {_expect_keys(known, _shorten(', '.join(unknown)))}")
    try:
        typed = msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        if isinstance(error.__cause__, InputError):
            raise error.__cause__ from None
        raise InputError(f"{where}: {_explain(str(error), values, kind)}") from error
    except RecursionError as error:
        raise InputError(f"{where}: expected a few levels of tables, got tables within tables without end") from error
    for place, number in _find_odd(typed if isinstance(typed, dict) else values, ""):
        raise InputError(f"{where}: expected {place or 'a value'} finite and below 2^63, got {_show(number)}")
    return typed


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file; raise InputError with its path if it is not TOML, or cannot be read."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:  # not TOML, not UTF-8, or a number of thousands of digits
        raise InputError(f"expected valid TOML in {path}, got: {error}; correct it") from error
    except OSError as error:
        raise InputError(
            f"expected a file that can be read, got {path} ({error.strerror}); check its path and permissions"
        ) from error


def fits(value: Any, kind: Any) -> bool:
    """Check that :func:`read` accepts ``value`` as a ``kind``."""
    try:
        read(value, kind, "the value")
    except InputError:
        return False
    return True


def _explain(said: str, values: Any, kind: Any) -> str:
    """Translate a message of msgspec into the words of this project."""
    if found := _MISSING.fullmatch(said):
        return f"expected the key `{_join(found['place'], found['name'])}`, got none"
    if found := _UNKNOWN.fullmatch(said):
        is_own = not found["place"] and isinstance(kind, type) and issubclass(kind, msgspec.Struct)
        known = kind.__struct_fields__ if is_own else ()
        return _expect_keys(known, _join(found["place"], found["name"]))
    if found := _EXPECTED.fullmatch(said):
        kinds = " or ".join(_TITLES.get(name.strip(), name.strip()) for name in found["kinds"].split("|"))
        place = found["place"] or ""
        return f"expected {f'{place} as ' if place else ''}{kinds}, got {_show(_look_up(values, place))}"
    return said


def _expect_keys(known: Sequence[str], unknown: str) -> str:
    return f"expected {'keys among ' + ', '.join(known) if known else 'known keys'}, got {unknown}"


def _join(place: str | None, name: str) -> str:
    return f"{place}.{name}" if place else name


def _look_up(values: Any, place: str) -> Any:
    """Look up the value at ``cells[3].n``; for ``[...]``, msgspec's notation for the values of a table, the table."""
    for name, index in re.findall(r"([^.\[\]]+)|\[([^\]]*)\]", place):
        if index == "...":
            break
        values = values[int(index)] if index else values[name]
    return values


def _find_odd(value: Any, place: str) -> Iterator[tuple[str, Any]]:
    """Yield the numbers that are not finite or too large for arrays, with their places."""
    if isinstance(value, float):
        if not math.isfinite(value):
            yield place, value
    elif isinstance(value, int):
        if abs(value) >= _LARGEST:
            yield place, value
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _find_odd(item, _join(place, str(name)))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _find_odd(item, f"{place}[{index}]")


def _show(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # a number of thousands of digits
        return "a huge number"
    return _shorten(text)


def _shorten(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."
