"""The parts that every command line has: its parser, the option ``--version``, and lists of names."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from importlib import metadata
from typing import Any

PACKAGE = "sdnet-robustness"
_COMMA = re.compile(r"(?<!\\),")


class CommandParser(argparse.ArgumentParser):
    """A parser that keeps the line breaks of its help and accepts only complete option names.

    An abbreviation would change its meaning with the next new option: ``--data`` once stood for ``--data-dir``.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        defaults: dict[str, Any] = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}
        super().__init__(*arguments, **(defaults | options))


def find_version() -> str:
    """Return the version of the installed package; ``unknown`` for a copy that was never installed."""
    try:
        return metadata.version(PACKAGE)
    except metadata.PackageNotFoundError:
        return "unknown"


def add_version(parser: argparse.ArgumentParser) -> None:
    """Add the option ``--version``."""
    parser.add_argument("--version", action="version", version=f"{PACKAGE} {find_version()}")


@contextmanager
def output_to_stderr() -> Iterator[None]:
    """Send what the block prints to standard error: also what native code and programs started by it print."""
    sys.stdout.flush()
    with ExitStack() as undo, redirect_stdout(sys.stderr):
        if sys.__stdout__ is not None and sys.__stderr__ is not None:
            with suppress(OSError, ValueError):  # a stream that is closed, or is no file
                number, kept = sys.__stdout__.fileno(), os.dup(sys.__stdout__.fileno())
                undo.callback(os.close, kept)
                os.dup2(sys.__stderr__.fileno(), number)
                undo.callback(os.dup2, kept, number)
                undo.callback(sys.__stdout__.flush)
        yield


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
