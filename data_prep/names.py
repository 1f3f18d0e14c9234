"""Names as they are written on the command line, and as they lie on a disk."""

from __future__ import annotations

import os
import re
from collections.abc import Collection

_LEFT_BY_SYSTEMS = frozenset({"__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"})
_COMMA = re.compile(r"(?<!\\),")


def parse_names(text: str, known: Collection[str] = ()) -> tuple[str, ...]:
    r"""``"a, b"`` to ``("a", "b")``, without blanks and repetitions and in the order given.

    A comma belongs to a name where the name with it is one of ``known`` or a path that is there
    (``runs/lr=0.1,wd=5e-4``, also in front of ``:function`` and behind ``@``), and where a backslash stands before it
    (``lr=0.1\\,wd=5e-4``).
    """
    parts = [part.strip() for part in _COMMA.split(text)]
    names: list[str] = []
    start = 0
    while start < len(parts):
        joined = ((stop, ",".join(parts[start:stop])) for stop in range(len(parts), start + 1, -1))
        stop, name = next(
            (found for found in joined if found[1] in known or _is_there(found[1])), (start + 1, parts[start])
        )
        names.append(name.replace("\\,", ","))
        start = stop
    return tuple(dict.fromkeys(filter(None, names)))


def _is_there(name: str) -> bool:
    """Whether a name is a path, or one before a function or behind an architecture, which has all of the commas."""
    before, _, function = name.rpartition(":")
    architecture, _, behind = name.rpartition("@")
    paths = [name, before * ("," not in function), behind * ("," not in architecture)]
    return any(path and os.path.exists(path) for path in paths)  # noqa: PTH110  Path.exists raises for long names


def is_hidden(name: str) -> bool:
    """Tell whether a file or folder is one that nobody put there: ``.DS_Store``, ``._x``, ``Thumbs.db``."""
    return name.startswith(".") or name.lower() in _LEFT_BY_SYSTEMS
