"""Names as they are written on the command line, and as they lie on a disk."""

from __future__ import annotations

_LEFT_BY_SYSTEMS = frozenset({"__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"})


def parse_names(text: str) -> tuple[str, ...]:
    """``"a, b"`` to ``("a", "b")``, without blanks and repetitions and in the order given."""
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def is_hidden(name: str) -> bool:
    """Tell whether a file or folder is one that nobody put there: ``.DS_Store``, ``._x``, ``Thumbs.db``."""
    return name.startswith(".") or name.lower() in _LEFT_BY_SYSTEMS
