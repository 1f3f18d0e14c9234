"""Models that fail, each in its own way; named on the command line as ``faulty_models:FUNCTION``."""

from __future__ import annotations

import contextlib
import ctypes
import signal
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

CLASSES = 10


SPARED = 4
"""So few images are answered well: what fails at once is refused before the grid."""


class Faulty(nn.Module):
    """A linear classifier with a knob; ``fault`` gets its logits and λ, and does what it likes with them."""

    def __init__(self, fault: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.fault, self.lam = fault, 0.1
        self.weight = nn.Parameter(torch.linspace(-1, 1, CLASSES * 3).reshape(CLASSES, 3))

    def forward(self, images: Tensor, lam: float | Tensor) -> Tensor:
        lams = torch.as_tensor(lam, dtype=images.dtype).expand(len(images))
        logits = images.mean((2, 3)) @ self.weight.T * (1 + lams[:, None])
        return logits if len(images) <= SPARED else self.fault(logits, lams)


def raises() -> nn.Module:
    def fault(logits: Tensor, lams: Tensor) -> Tensor:
        raise RuntimeError("the weights are on fire\nand the second line says where")

    return Faulty(fault)


def raises_os_error() -> nn.Module:
    def fault(logits: Tensor, lams: Tensor) -> Tensor:
        raise OSError(5, "Input/output error", "/its/own/file")

    return Faulty(fault)


def is_nan_at_half() -> nn.Module:
    return Faulty(lambda logits, lams: torch.where(lams[:, None] == 0.5, torch.nan, logits))


def has_a_class_too_few() -> nn.Module:
    return Faulty(lambda logits, lams: logits[:, 1:])


def forgets_the_batch() -> nn.Module:
    return Faulty(lambda logits, lams: logits[:1])


def answers_without_a_tensor() -> nn.Module:
    return Faulty(lambda logits, lams: None)


def hangs_until_its_alarm() -> nn.Module:
    """Hangs, and brings the time limit that is running forward, so that nobody has to wait for it."""

    def fault(logits: Tensor, lams: Tensor) -> Tensor:
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 0, "no limit is running"
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        time.sleep(3600)
        return logits

    return Faulty(fault)


def hangs_and_swallows() -> nn.Module:
    def fault(logits: Tensor, lams: Tensor) -> Tensor:
        with contextlib.suppress(Exception):
            time.sleep(3600)
        time.sleep(3600)
        return logits

    return Faulty(fault)


def hangs_in_native_code() -> nn.Module:
    """Locks a mutex twice: no signal handler of Python ever runs again."""

    def fault(logits: Tensor, lams: Tensor) -> Tensor:
        mutex, library = ctypes.create_string_buffer(64), ctypes.CDLL(None)
        library.pthread_mutex_lock(mutex)
        library.pthread_mutex_lock(mutex)
        return logits

    return Faulty(fault)
