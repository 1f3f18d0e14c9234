"""Errors that a user can fix, and their report on every command line.

One sentence says what was expected, what was found and what to do; the exit code is 2 and there is no traceback.
Every other exception is a defect of this project and keeps its traceback.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

EXIT_DONE, EXIT_SOME_FAILED, EXIT_BAD_INPUT, EXIT_INTERRUPTED, EXIT_UNREAD = 0, 1, 2, 130, 141


class UsageError(Exception):
    """Base of the errors that a user can fix. The message is one sentence, which also says how to fix it."""


class InputError(UsageError, ValueError):
    """An input that cannot be used: an unknown name, a value out of range, a damaged file."""


class PrerequisiteError(UsageError, RuntimeError):
    """A missing prerequisite: data, weights, a GPU, a package, disk space."""


def describe_error(error: BaseException) -> str:
    """Return the type of an error and the first line of its message."""
    return f"{type(error).__name__}: {error}".splitlines()[0]


@contextmanager
def damage_named(expected: str, advice: str, kinds: tuple[type[Exception], ...] = (Exception,)) -> Iterator[None]:
    """Turn the errors of reading a damaged file, which are of many types, into an InputError.

    Errors that name their fault already, errors of the disk, and a lack of memory pass.

    Args:
        expected: what the file should be.
        advice: what to do.
        kinds: the types of errors that damage raises.
    """
    try:
        yield
    except (UsageError, MemoryError):
        raise
    except kinds as error:
        if isinstance(error, OSError) and error.errno is not None:  # gzip, bzip2 and zipfile set no errno for damage
            raise
        raise InputError(f"expected {expected}, got: {describe_error(error)}; {advice}") from error


@contextmanager
def place_named(place: object) -> Iterator[None]:
    """Begin the message of an InputError of the block with ``place``, such as a path."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{place}: {error}") from error


def check_words(words: Sequence[str]) -> None:
    """Check that a command line, or other text for a record, can be written as UTF-8.

    Raises:
        InputError: one of ``words`` holds bytes that are not UTF-8.
    """
    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError:
            shown = word.encode(errors="backslashreplace").decode()
            raise InputError(f"expected UTF-8 text, got {shown}; give it another name") from None


def check_seed(seed: int) -> None:
    """Check that both NumPy and PyTorch accept ``seed``.

    Raises:
        InputError: ``seed`` is below 0, or 2^63 or above.
    """
    if not 0 <= seed < 2**63:
        raise InputError(f"expected --seed as a whole number from 0 to 2^63 − 1, got {seed}; give another seed")


def check_choice(value: object, choices: Collection[str], what: str, *, where: str = "") -> None:
    """Check that ``value`` is one of ``choices``; the message begins with ``where`` and says ``what`` was expected.

    Raises:
        InputError: it is none of them.
    """
    if value not in choices:
        raise InputError(f"{where}expected {what} ({', '.join(choices)}), got {value!r}; choose one of them")


def check_known(
    given: Iterable[str], known: Iterable[str], what: str, *, where: str = "", advice: str = "rename or remove it"
) -> None:
    """Check that all of ``given`` are ``known``; ``where`` and ``what`` are as in :func:`check_choice`.

    Raises:
        InputError: some are unknown; the message lists them and ends with ``advice``.
    """
    if unknown := sorted(set(given).difference(known)):
        raise InputError(f"{where}expected {what} among {', '.join(known)}, got {', '.join(unknown)}; {advice}")


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NOT_WRITABLE = (errno.EACCES, errno.EROFS, errno.EPERM)
_RESUMES = "finished work is kept, and the same command resumes it"


def is_disk_error(error: BaseException) -> bool:
    """Tell whether the disk is full or not writable, which is not the fault of the model that was running."""
    return isinstance(error, OSError) and error.errno in (*_FULL, *_NOT_WRITABLE)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether memory ran out: in Python, on the GPU, or in PyTorch's CPU allocator (a plain RuntimeError)."""
    is_torch = type(error).__name__ == "OutOfMemoryError"  # by name: not every command needs PyTorch
    return isinstance(error, MemoryError) or is_torch or "can't allocate memory" in str(error)


def _shorten(path: str) -> str:
    return path if len(path) <= 200 else f"{path[:100]}…{path[-100:]}"


def _is_unread() -> bool:
    """Tell whether the reader of the output has closed it, as in ``… | head``; if so, discard all further output."""
    try:
        print(flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False


def _prepare_output() -> None:
    """Make standard output and standard error accept every character, whatever they are connected to."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by the caller, as in ``>&-``
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


class _EndedError(KeyboardInterrupt):
    """A signal asked the process to end."""


_ENDING = [signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
"""Signals of schedulers and closed terminals, which would end the process before it can put anything in order."""


@contextmanager
def _ending_in_order() -> Iterator[None]:
    """Let signals that end the process interrupt the block as Ctrl-C does, unless the caller has them ignored."""

    def end(number: int, _frame: FrameType | None) -> None:
        raise _EndedError(number)

    is_main = threading.current_thread() is threading.main_thread()
    numbers = [number for number in _ENDING if is_main and signal.getsignal(number) is signal.SIG_DFL]
    for number in numbers:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


def run_command(command: Callable[[], int]) -> int:
    """Run ``command`` and turn an error that the user can fix into one line on standard error and exit code 2.

    Characters missing from the console's encoding are written as ``?``; output to a closed stream is discarded.

    If the reader of the output has gone, the command stops silently with the exit code of a broken pipe and leaves the
    rest of its work undone.
    """
    _prepare_output()
    try:
        with _ending_in_order():
            code = command()
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        if not _is_unread():
            raise
        return EXIT_UNREAD
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt as error:
        print("interrupted: finished work is kept; the same command resumes it", file=sys.stderr)
        return 128 + error.args[0] if isinstance(error, _EndedError) else EXIT_INTERRUPTED
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        first = (str(error).splitlines() or ["no more of it"])[0]
        print(
            f"error: out of memory ({first}); free some, or choose smaller models, another --device or a smaller "
            f"--batch-size ({_RESUMES})",
            file=sys.stderr,
        )
        return EXIT_BAD_INPUT
    except OSError as error:
        if error.filename is None and not is_disk_error(error):
            raise
        if error.errno in _FULL:
            reason = "the disk is full; free some space or choose another folder"
        elif error.errno in _NOT_WRITABLE:
            place = error.filename or "the output folder"
            reason = f"{place} cannot be written; choose another folder or change its permissions"
        else:
            reason = f"{_shorten(str(error.filename))} cannot be used ({error.strerror}); choose another"
        print(f"error: {reason} ({_RESUMES})", file=sys.stderr)
        return EXIT_BAD_INPUT
