"""An isolated world for foreign code: changes that a model makes to global state stay with that model.

Random generators, default types, the working directory and the like belong to the whole process. A model that seeds a
generator in ``forward`` would make an attack draw the same numbers again and again; one that changes the default type
would change models loaded after it. So a model is loaded and called within its own :class:`World`.
"""

from __future__ import annotations

import copy
import dataclasses
import os
import random
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

_SEED = 0
"""Seed of the generators of every model before it is loaded: a builder that seeds nothing always makes the same model.
"""


class ModelExitError(RuntimeError):
    """The model tried to end the process."""


@dataclass(frozen=True)
class _Setting:
    """A global setting. get: returns its value. set: sets its value. travels: true if other machines also get it."""

    get: Callable[[], Any]
    set: Callable[[Any], object]
    travels: bool = False


def _attribute(owner: object, name: str, *, travels: bool = False) -> _Setting:
    return _Setting(lambda: getattr(owner, name), lambda value: setattr(owner, name, value), travels)


def _change_folder(path: str | None) -> None:
    if path is not None:
        os.chdir(path)


def _find_folder() -> str | None:
    try:
        return os.getcwd()  # noqa: PTH109  a text compares faster
    except OSError:
        return None


def _set_filters(filters: list[Any]) -> None:
    warnings.filters[:] = filters  # type: ignore[index]
    warnings._filters_mutated() if hasattr(warnings, "_filters_mutated") else warnings._filters_mutated_lock_held()  # type: ignore[attr-defined]


def _set_environment(values: dict[str, str]) -> None:
    for name in os.environ.keys() - values.keys():
        del os.environ[name]
    os.environ.update({name: value for name, value in values.items() if os.environ.get(name) != value})


def _set_device(device: torch.device) -> None:
    torch.set_default_device(None if device.type == "cpu" else device)


def _get_handlers() -> dict[int, Any]:
    return {number: signal.getsignal(number) for number in _SIGNALS}


def _set_handlers(handlers: dict[int, Any]) -> None:
    if threading.current_thread() is threading.main_thread():
        for number, handler in handlers.items():
            if handler is not None and signal.getsignal(number) is not handler:
                signal.signal(number, handler)


_SIGNALS = [signal.SIGINT, signal.SIGTERM, *([signal.SIGALRM] if hasattr(signal, "SIGALRM") else [])]
_SETTINGS = {
    "default type": _Setting(torch.get_default_dtype, torch.set_default_dtype, travels=True),
    "default device": _Setting(torch.get_default_device, _set_device),
    "gradients": _Setting(torch.is_grad_enabled, torch.set_grad_enabled),
    "deterministic algorithms": _Setting(
        lambda: (torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()),
        lambda value: torch.use_deterministic_algorithms(value[0], warn_only=value[1]),
        travels=True,
    ),
    "matmul precision": _Setting(torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, travels=True),
    "threads": _Setting(torch.get_num_threads, torch.set_num_threads),
    "autocast on the CPU": _Setting(
        lambda: torch.is_autocast_enabled("cpu"), lambda value: torch.set_autocast_enabled("cpu", value)
    ),
    "autocast on GPUs": _Setting(
        lambda: torch.is_autocast_enabled("cuda"), lambda value: torch.set_autocast_enabled("cuda", value)
    ),
    "deterministic cuDNN": _attribute(torch.backends.cudnn, "deterministic", travels=True),
    "cuDNN's choice by time": _attribute(torch.backends.cudnn, "benchmark", travels=True),
    "cuDNN": _attribute(torch.backends.cudnn, "enabled", travels=True),
    "NumPy's errors": _Setting(np.geterr, lambda value: np.seterr(**value), travels=True),
    "working directory": _Setting(_find_folder, _change_folder),
    "import path": _Setting(lambda: list(sys.path), lambda value: sys.path.__setitem__(slice(None), value)),
    "environment": _Setting(lambda: dict(os.environ), _set_environment),
    "filters of warnings": _Setting(lambda: list(warnings.filters), _set_filters),
    "signal handlers": _Setting(_get_handlers, _set_handlers),
    "recursion limit": _Setting(sys.getrecursionlimit, sys.setrecursionlimit),
    "standard output": _attribute(sys, "stdout"),
    "standard error": _attribute(sys, "stderr"),
}
"""The isolated settings, by name."""
_ONLY_LOADING = ("environment",)
_NEVER_OWN = ("gradients", "signal handlers", "standard output", "standard error")
"""Settings that are restored after the model but that the model never gets back: the harness alone decides on them."""


def _get_settings(*, loading: bool) -> dict[str, Any]:
    return {name: setting.get() for name, setting in _SETTINGS.items() if loading or name not in _ONLY_LOADING}


def _set_settings(values: dict[str, Any]) -> None:
    """Set every setting in ``values`` that has another value."""
    for name, value in values.items():
        if _SETTINGS[name].get() != value:
            with suppress(OSError):  # a deleted folder
                _SETTINGS[name].set(value)


@dataclass(frozen=True)
class _Generators:
    """The global generators of random numbers: the states of three, and NumPy's itself, whose state takes longer."""

    cpu: Tensor
    cuda: tuple[Tensor, ...]
    python: Any
    numpy: Any

    @classmethod
    def now(cls) -> _Generators:
        is_used = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        cuda = tuple(torch.cuda.get_rng_state_all()) if is_used else ()
        numpy = np.random.get_bit_generator()  # type: ignore[attr-defined]
        return cls(torch.get_rng_state(), cuda, random.getstate(), numpy)

    @classmethod
    def seeded(cls) -> _Generators:
        """Return all generators at the seed of every model; the current ones are left alone."""
        now = cls.now()
        try:
            torch.manual_seed(_SEED)
            random.seed(_SEED)
            return dataclasses.replace(cls.now(), numpy=np.random.MT19937(_SEED))
        finally:
            now.install()

    def install(self) -> None:
        """Make them the global generators. NumPy forgets the second number of a pair of normals already drawn."""
        torch.set_rng_state(self.cpu)
        if self.cuda and len(self.cuda) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(list(self.cuda))
        random.setstate(self.python)
        np.random.set_bit_generator(self.numpy)  # type: ignore[attr-defined]

    def copy(self) -> _Generators:
        """Return an independent copy."""
        return dataclasses.replace(self, numpy=copy.deepcopy(self.numpy))


class World:
    """Global state as one model knows it: its changes are there when it is called again, and nowhere else.

    Generators of random numbers begin at a fixed seed. Grad mode, signal handlers and the standard streams are the
    harness's whenever the model is called.
    """

    def __init__(self) -> None:
        self._own: dict[str, Any] = {}
        self._generators = _Generators.seeded()

    @contextmanager
    def entered(self, *, loading: bool = False) -> Iterator[None]:
        """Run the block in this world; all global state is restored afterwards, even after an error.

        ``loading``: also restore the environment variables, which would take too long in every call.

        Raises:
            ModelExitError: the block tried to end the process.
        """
        settings, generators, timer = _get_settings(loading=loading), _Generators.now(), _get_timer()
        _set_settings(self._own)
        self._generators.install()
        sys.stdout = sys.stderr  # the model prints here: its output is not mixed with the harness's
        try:
            yield
        except SystemExit as error:
            raise ModelExitError(f"the model calls sys.exit({error.code!r})") from error
        finally:
            self._generators = _Generators.now()
            self._own = {n: value for n, value in _get_settings(loading=False).items() if n not in _NEVER_OWN}
            _set_settings(settings)
            generators.install()
            _set_timer(timer)

    def copy(self) -> World:
        """Return a copy of the world; changes in one do not affect the other."""
        other = World.__new__(World)
        other._own, other._generators = dict(self._own), self._generators.copy()
        return other

    def restore(self, kept: World, *, chance: bool = True) -> None:
        """Restore the world to ``kept``; ``chance``: its random numbers as well."""
        self._own = dict(kept._own)
        if chance:
            self._generators = kept._generators.copy()

    def __getstate__(self) -> dict[str, Any]:
        """Return the part of the world that another machine can also have."""
        own = {name: value for name, value in self._own.items() if _SETTINGS[name].travels}
        return {"_own": own, "_generators": dataclasses.replace(self._generators, cuda=())}


def _get_timer() -> tuple[float, float]:
    """Return the seconds until the alarm of a time limit (0 for never) and between its repetitions."""
    if not hasattr(signal, "setitimer"):
        return 0.0, 0.0
    left, interval = signal.getitimer(signal.ITIMER_REAL)
    return (time.monotonic() + left if left else 0.0), interval


def _set_timer(timer: tuple[float, float]) -> None:
    """Set the alarm again if the model set, stopped or moved it by more than a second."""
    due, interval = timer
    now_due = _get_timer()[0]
    if due and abs(now_due - due) > 1:
        signal.setitimer(signal.ITIMER_REAL, max(due - time.monotonic(), 0.01), interval)
    elif now_due and not due:
        signal.setitimer(signal.ITIMER_REAL, 0)
