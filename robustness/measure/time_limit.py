"""A limit on the time that a model may take, for models that hang."""

from __future__ import annotations

import faulthandler
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TextIO

_GRACE = 30.0
"""Seconds that Python code has to end after the limit before the process is ended."""
_AGAIN = 5.0
"""Seconds after which the limit is raised once more, for code that swallows exceptions."""


class TimeLimitError(RuntimeError):
    """The work exceeded its time limit."""


@contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """Raise TimeLimitError in the block once it has taken longer than ``seconds``; None sets no limit.

    An alarm signal interrupts whatever Python code the main thread runs, sleeps and system calls included. A native
    call that never returns cannot be interrupted: the process then ends half a minute later with exit code 1 and its
    stack on standard error. Everything finished is on disk by then.
    """
    if seconds is None:
        yield
        return

    def expire(_number: int, _frame: FrameType | None) -> None:
        raise TimeLimitError(f"took longer than --timeout {seconds:g} s")

    handler = signal.signal(signal.SIGALRM, expire)
    outer = signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN)
    if (stream := _find_stream()) is not None:
        faulthandler.dump_traceback_later(seconds + _GRACE, exit=True, file=stream)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_REAL, *outer)
        signal.signal(signal.SIGALRM, handler)


def _find_stream() -> TextIO | None:
    """Return standard error, or the process's own if that is not a file, as in a notebook; None without either."""
    for stream in (sys.stderr, sys.__stderr__):
        with suppress(OSError, ValueError, AttributeError):
            stream.fileno()  # type: ignore[union-attr]
            return stream
    return None
