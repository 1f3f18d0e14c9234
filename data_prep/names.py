"""Names on the command line and names of files."""

from __future__ import annotations

import os
import re
from collections.abc import Collection

_LEFT_BY_SYSTEMS = frozenset({"__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"})
_COMMA = re.compile(r"(?<!\\),")


def parse_names(text: str, known: Collection[str] = ()) -> tuple[str, ...]:
    r"""Split ``"a, b"`` into ``("a", "b")``, without blanks and repetitions, in the given order.

    A comma belongs to a name if the name with the comma is one of ``known`` or an existing path
    (``runs/lr=0.1,wd=5e-4``, also before ``:function`` and after ``@``), or if a backslash precedes the comma
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
    """Tell whether a name, or its part before ``:function`` or after ``@``, is an existing path with its commas."""
    before, _, function = name.rpartition(":")
    architecture, _, behind = name.rpartition("@")
    paths = [name, before * ("," not in function), behind * ("," not in architecture)]
    return any(path and os.path.exists(path) for path in paths)  # noqa: PTH110  Path.exists raises for long names


def is_hidden(name: str) -> bool:
    """Tell whether the operating system left a file or folder behind: ``.DS_Store``, ``._x``, ``Thumbs.db``."""
    return name.startswith(".") or name.lower() in _LEFT_BY_SYSTEMS
