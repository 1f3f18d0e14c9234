"""Columns of the tables: a number with the ends of its interval, and the rows of a model at one λ."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

ENDS = ("", "_low", "_high")
"""Ends of the names of a number and its 95 % interval."""
DIFFERENCE = (*ENDS, "_p")
"""Ends of the names of a paired difference, its interval and p."""
ACCURACY = ("accuracy", "ci_low", "ci_high")
"""Columns of an accuracy and its interval."""


def with_ends(*names: str, ends: Sequence[str] = ENDS) -> list[str]:
    """List the columns of some numbers and their intervals."""
    return [f"{name}{end}" for name in names for end in ends]


def name_values(name: str, values: Iterable[Any], ends: Sequence[str] = ENDS) -> dict[str, Any]:
    """Name a number and the ends of its interval by their columns."""
    return dict(zip(with_ends(name, ends=ends), values, strict=True))


def to_records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a frame as dictionaries."""
    names = list(map(str, frame.columns))
    return [dict(zip(names, map(_to_native, row))) for row in frame.to_numpy(dtype=object).tolist()]


def _to_native(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def to_key(lam: float) -> float | None:
    """Return the λ of a row as a key: None for NaN, which does not equal itself."""
    return None if math.isnan(lam) else float(lam)


def read_stages(outcome: pd.DataFrame) -> list[str]:
    """Return the stages of the attack behind an outcome, which stores them joined by commas."""
    return str(outcome["stages"].iloc[0]).split(",")


def select_lam(rows: pd.DataFrame, model: str, lam: float) -> pd.DataFrame:
    """Select the rows of a model at one λ; NaN selects all rows, as of a model without λ."""
    return rows[(rows["model"] == model) & ((rows["lam"] == lam) | math.isnan(lam))]
