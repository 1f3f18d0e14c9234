"""Lists and grids as written on the command line and in suite files, and the selection of a few λs from many."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

import numpy as np

from data_prep.command_line import parse_names
from data_prep.errors import InputError
from data_prep.schema import fits

LARGEST_EPS = {"linf": 1.0, "l2": 32.0, "l1": 1000.0}
"""Largest accepted budget by norm. In L∞, 1 is the whole range of a pixel; in L2, budgets of the literature end far
below 32 (ImageNet: 3), and a larger number refers to pixels from 0 to 255."""
_LARGEST_GRID = 10_000
_DECIMALS = 10
"""Decimals to which λs are rounded, so that 0.1:1.4:14 and 0.1,0.2,... name the same cells."""


def parse_lambdas(text: str) -> tuple[float, ...]:
    """Parse ``"0.1,0.2,0.5"``, or ``"0.1:1.4:14"`` for 14 evenly spaced values from 0.1 to 1.4, both included.

    Raises:
        InputError: text that is not a number, a λ that is negative or not finite, or a range of fewer than 2 points.
    """
    parts = text.split(":")
    if len(parts) == 1:
        return check_lambdas(_number(part, "λ") for part in parse_names(text))
    count = _read_whole(parts[2]) if len(parts) == 3 else None
    if count is None or not 2 <= count <= _LARGEST_GRID:
        wanted = f"first:last:count with a count from 2 to {_LARGEST_GRID}, as in 0.1:1.4:14"
        raise InputError(f"expected a λ range as {wanted}, got {text!r}; give such a range")
    first, last = _number(parts[0], "λ"), _number(parts[1], "λ")
    return check_lambdas(first + (last - first) * index / (count - 1) for index in range(count))


def check_lambdas(values: Iterable[float]) -> tuple[float, ...]:
    """Return the distinct λs in increasing order; raise InputError unless each is finite and ≥ 0."""
    lambdas = tuple(values)
    if not lambdas:
        raise InputError("expected at least one λ, got none; give some, as in --lambdas 0.1,0.2,0.5")
    for value in lambdas:
        if not fits(value, float) or value < 0:
            raise InputError(f"expected a finite λ ≥ 0, got {value}; give such a number")
        if value and not round(value, _DECIMALS):
            raise InputError(f"expected a λ that {_DECIMALS} decimals tell from 0, got {value}; write 0")
    return tuple(sorted({round_lam(value) for value in lambdas}))


def round_lam(lam: float) -> float:
    """Round λ as grids and keys do: a model with λ = 1/3 then matches 0.3333333333 of the grid."""
    return round(float(lam), _DECIMALS) + 0.0  # −0 becomes 0


def format_lam(lam: float) -> str:
    """Format λ for people with all its digits, so that no two λs of a grid look alike."""
    return repr(float(lam)).removesuffix(".0")


def thin_out(lambdas: list[float], most: int | None, keep: set[float]) -> list[float]:
    """Return about ``most`` of the λs, evenly spread over the grid, including ``keep``; None returns all."""
    if most is None or len(lambdas) <= most:
        return lambdas
    spread = np.linspace(0, len(lambdas) - 1, most).round().astype(int)
    return sorted({lambdas[i] for i in spread} | keep)


def parse_severities(text: str) -> tuple[int, ...]:
    """Parse ``"1,3,5"`` into integers ≥ 1; raise InputError for anything else."""
    names = parse_names(text)
    levels = [_read_whole(name) for name in names]
    if not levels or not all(levels):
        raise InputError(f"expected severities as whole numbers from 1, as in 1,3,5, got {text!r}; give such numbers")
    return tuple(sorted({level for level in levels if level}))


def parse_eps(text: str) -> tuple[tuple[str, float], ...]:
    """Parse ``"2/255,8/255"`` or ``"8/255,l2:0.5"`` into pairs of norm and budget; the norm is empty if none is named.

    Raises:
        InputError: text that is not a number or fraction, or a budget that is not positive or exceeds
            :data:`LARGEST_EPS`.
    """
    budgets = []
    for part in parse_names(text):
        norm, colon, number = part.rpartition(":")
        value = read_eps(number)
        if not (value > 0 and math.isfinite(value)):
            raise InputError(f"expected ε in (0, 1], such as 8/255, got {part}; give such a number")
        if colon and norm not in LARGEST_EPS:
            raise InputError(f"expected the norm of ε as linf, l2 or l1, as in l2:0.5, got {part}; choose one of them")
        if value > LARGEST_EPS[norm or "linf"]:
            hint = "" if norm in ("l2", "l1") else f" (An L2 budget is written l2:{number})"
            raise InputError(f"expected ε in [0, 1] pixel units, got {part}; did you mean {part}/255?{hint}")
        budgets.append((norm, value))
    if not budgets:
        raise InputError("expected at least one ε, got none; give some, as in --eps 8/255")
    return tuple(sorted(set(budgets)))


def read_eps(value: object) -> float:
    """Read ``0.03``, ``"0.03"`` or ``"8/255"`` as a number, NaN for division by 0; raise InputError otherwise."""
    if fits(value, float):
        return float(value)  # type: ignore[arg-type]
    numerator, _, denominator = str(value).partition("/")
    divisor = _number(denominator, "ε") if denominator else 1.0
    return _number(numerator, "ε") / divisor if divisor else math.nan


def attach_negatives(arguments: Sequence[str]) -> list[str]:
    """Turn ``["--eps", "-1/255"]`` into ``["--eps=-1/255"]``: argparse takes words with a leading minus for options."""
    attached: list[str] = []
    for argument in arguments:
        if attached and re.fullmatch(r"--[\w-]+", attached[-1]) and re.match(r"-[\d.]", argument):
            attached[-1] += f"={argument}"
        else:
            attached.append(argument)
    return attached


def _read_whole(text: str) -> int | None:
    """Read a whole number ≥ 0 of a few digits; return None for any other text."""
    return int(text) if re.fullmatch(r"\s*[0-9]{1,9}\s*", text) else None


def _number(text: str, what: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise InputError(f"expected {what} as a number, got {text.strip()!r}; give one") from error
