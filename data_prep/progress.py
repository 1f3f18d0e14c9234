"""One progress bar for all commands: a bar on a terminal, occasional lines anywhere else."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from typing import Any, TextIO

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 30.0
_LINE = "{desc}{percentage:3.0f}% {n_fmt}/{total_fmt}{unit} [{elapsed}<{remaining}, {rate_fmt}{postfix}]"


class _Lines:
    """A stream that turns the updates of a bar into one line per half minute, so that log files stay readable."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._last = stream, time.monotonic()

    def write(self, text: str) -> None:
        line, now = text.strip("\r\n "), time.monotonic()
        if line and now - self._last >= SECONDS_BETWEEN_LINES:
            self._stream.write(f"{line}\n")
            self._last = now

    def flush(self) -> None:
        self._stream.flush()


def make_bar(iterable: Iterable[Any] | None = None, *, quiet: bool = False, **options: Any) -> tqdm[Any]:
    """Make a progress bar on standard error, with the remaining time.

    Args:
        iterable: the items to count; None if :meth:`tqdm.update` counts them.
        quiet: show nothing.
        options: options of ``tqdm``: ``total``, ``desc``, ``unit`` and so on.
    """
    if quiet or sys.stderr is None:
        return tqdm(iterable, disable=True, **options)
    if not sys.stderr.isatty():
        options |= {"file": _Lines(sys.stderr), "mininterval": SECONDS_BETWEEN_LINES, "maxinterval": float("inf")}
        options |= {"bar_format": _LINE, "miniters": 1}
        options.setdefault("desc", "progress")
    return tqdm(iterable, **options)
