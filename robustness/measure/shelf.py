"""A shelf of objects that several suites of one command share."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

T = TypeVar("T")


class Shelf:
    """Objects by key: each is loaded once and kept."""

    def __init__(self) -> None:
        self._held: dict[Hashable, Any] = {}

    def get(self, key: Hashable, load: Callable[[], T]) -> T:
        """Return the object under ``key``; load it first if necessary."""
        if key not in self._held:
            self._held[key] = load()
        held: T = self._held[key]
        return held
