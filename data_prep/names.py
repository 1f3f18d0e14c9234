"""Lists of names as they are written on the command line."""

from __future__ import annotations


def parse_names(text: str) -> tuple[str, ...]:
    """``"a, b"`` to ``("a", "b")``, without blanks and repetitions and in the order given."""
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
