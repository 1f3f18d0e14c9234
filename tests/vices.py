"""Things that a model may do besides answering, to be combined at random: see ``test_seam.py``."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

CLASSES = 10
HARMLESS, CHANGING, FAILING = "harmless", "changing", "failing"


@dataclass(frozen=True)
class Vice:
    """Something that a model does: to its images before it answers, to its logits, or to what it returns.

    kind: harmless: the number is right all the same; changing: it may be another one, and is marked; failing: the cells
    fail with a reason.
    """

    name: str
    kind: str
    images: Callable[[Vicious, Tensor], Tensor] = lambda _, images: images
    logits: Callable[[Vicious, Tensor], Tensor] = lambda _, logits: logits
    output: Callable[[Vicious, Any], Any] = lambda _, output: output


class Vicious(nn.Module):
    """A random projection with vices, one after the other."""

    def __init__(self, vices: Sequence[Vice], seed: int = 0) -> None:
        super().__init__()
        self.vices = vices
        generator = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(torch.randn(CLASSES, 3072, generator=generator))
        self.register_buffer("buffer", torch.zeros(()))
        self.counts, self.calls, self.reused = [0], 0, torch.empty(0)

    def forward(self, images: Tensor) -> Any:
        for vice in self.vices:
            images = vice.images(self, images)
        logits: Any = (images - 0.5).flatten(1) @ self.weight.T.to(images.dtype)
        for vice in self.vices:
            logits = vice.logits(self, logits)
        for vice in self.vices:
            logits = vice.output(self, logits)
        return logits


def do(*actions: Callable[[], object]) -> Callable[[Vicious, Any], Any]:
    """Something that has nothing to do with what is passed on."""

    def act(_: Vicious, value: Any) -> Any:
        for action in actions:
            with contextlib.suppress(OSError):
                action()
        return value

    return act


def count(model: Vicious, images: Tensor) -> Tensor:
    model.calls += 1
    model.counts[0] += 1
    model.buffer += 1
    model.training = not model.training
    return images


def drift(model: Vicious, logits: Tensor) -> Tensor:
    """The more often it was called, the more it prefers the classes in the middle."""
    model.buffer += 1
    return logits + 30 * model.buffer * torch.linspace(0, 3, CLASSES).sin().to(logits)


def hoard(model: Vicious, logits: Tensor) -> Tensor:
    model.counts.append(len(model.counts))
    return logits.roll(len(model.counts), 1)


TALLY: list[int] = []


def tally(_: Vicious, logits: Tensor) -> Tensor:
    """The same in a variable of this file."""
    TALLY.append(1)
    return logits.roll(len(TALLY), 1)


def reuse(model: Vicious, logits: Tensor) -> Tensor:
    """The same memory for every answer."""
    if model.reused.shape != logits.shape:
        model.reused = torch.empty_like(logits, requires_grad=False)
    with torch.no_grad():
        return model.reused.copy_(logits)


def purify(_: Vicious, images: Tensor) -> Tensor:
    """A step of length zero down a gradient."""
    moved = images.detach().requires_grad_()
    (gradient,) = torch.autograd.grad((moved**2).sum(), moved)
    return images - 0 * gradient


def adapt(model: Vicious, images: Tensor) -> Tensor:
    """A step of length zero for the weights."""
    (model.weight * images.mean()).sum().backward()
    with torch.no_grad():
        model.weight -= 0 * model.weight.grad
    model.weight.grad = None
    return images


def fail(error: BaseException) -> Callable[[Vicious, Any], Any]:
    def act(_: Vicious, __: Any) -> Any:
        raise error

    return act


def fail_later(model: Vicious, images: Tensor) -> Tensor:
    model.calls += 1
    if model.calls > 3:
        raise ValueError("tired")
    return images


def hang(_: Vicious, images: Tensor) -> Tensor:
    """Brings the time limit forward, so that nobody has to wait for it."""
    if signal.getitimer(signal.ITIMER_REAL)[0] > 0:
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        time.sleep(60)
    return images


def noise_of(draw: Callable[[tuple[int, ...]], Any]) -> Callable[[Vicious, Tensor], Tensor]:
    return lambda _, logits: logits + 60 * torch.as_tensor(draw(tuple(logits.shape))).to(logits)


def describe_globals() -> list[object]:
    return [
        torch.get_rng_state().tolist(),
        np.random.get_state()[1].tolist(),  # noqa: NPY002
        random.getstate() == random.Random(0).getstate(),  # beartype draws from it, too
        torch.is_grad_enabled(),
        torch.get_default_dtype(),
        torch.get_default_device(),
        torch.are_deterministic_algorithms_enabled(),
        torch.get_float32_matmul_precision(),
        torch.backends.cudnn.benchmark,
        torch.is_autocast_enabled("cpu"),
        torch.get_num_threads(),
        np.geterr(),
        Path.cwd(),
        list(sys.path),
        sys.stdout,
        list(warnings.filters),
        signal.getsignal(signal.SIGTERM),
    ]


VICES = [
    Vice("in place", HARMLESS, images=lambda _, images: images.mul_(2).div_(2)),
    Vice("counts", HARMLESS, images=count),
    Vice("reuses its output", HARMLESS, logits=reuse),
    Vice("float64", HARMLESS, images=lambda _, images: images.double()),
    Vice("float16 out", HARMLESS, logits=lambda _, logits: logits.half()),
    Vice("bfloat16 out", HARMLESS, logits=lambda _, logits: logits.bfloat16()),
    Vice("tuple", HARMLESS, output=lambda _, logits: (logits, "features")),
    Vice("dict", HARMLESS, output=lambda _, logits: {"logits": logits}),
    Vice("object", HARMLESS, output=lambda _, logits: SimpleNamespace(logits=logits)),
    Vice("array", HARMLESS, logits=lambda _, logits: torch.from_numpy(logits.detach().float().numpy())),
    Vice("prints", HARMLESS, images=do(lambda: print("λ " * 99), lambda: print("!", file=sys.stderr))),
    Vice("takes stdout away", HARMLESS, images=do(lambda: setattr(sys, "stdout", None))),
    Vice("seeds torch", HARMLESS, images=do(lambda: torch.manual_seed(0), lambda: torch.rand(3))),
    Vice("seeds NumPy", HARMLESS, images=do(lambda: np.random.seed(0), lambda: np.random.rand(3))),  # noqa: NPY002
    Vice("seeds Python", HARMLESS, images=do(lambda: random.seed(0), random.random)),
    Vice("no gradients", HARMLESS, images=do(lambda: torch.set_grad_enabled(False))),
    Vice("detaches", HARMLESS, logits=lambda _, logits: logits.detach()),
    Vice("purifies", HARMLESS, images=purify),
    Vice("adapts", HARMLESS, images=adapt),
    Vice("default type", HARMLESS, images=do(lambda: torch.set_default_dtype(torch.float64))),
    Vice("default device", HARMLESS, output=do(lambda: torch.set_default_device("meta"))),
    Vice("deterministic", HARMLESS, images=do(lambda: torch.use_deterministic_algorithms(True))),
    Vice("changes folder", HARMLESS, images=do(lambda: os.chdir("/"))),
    Vice("import path", HARMLESS, images=do(lambda: sys.path.insert(0, "/nowhere"), sys.path.reverse)),
    Vice("silences warnings", HARMLESS, images=do(lambda: warnings.simplefilter("ignore"))),
    Vice("ignores signals", HARMLESS, images=do(lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN))),
    Vice("NumPy raises", HARMLESS, images=do(lambda: np.seterr(all="raise"))),
    Vice("drifts", CHANGING, logits=drift),
    Vice("hoards", CHANGING, logits=hoard),
    Vice("tallies", CHANGING, logits=tally),
    Vice("noise of torch", CHANGING, logits=noise_of(torch.rand)),
    Vice("noise of NumPy", CHANGING, logits=noise_of(lambda shape: np.random.rand(*shape))),  # noqa: NPY002
    Vice("noise of the system", CHANGING, logits=noise_of(lambda _: float.fromhex(os.urandom(4).hex()) / 2**26)),
    Vice("normalises by the batch", CHANGING, images=lambda _, images: images - images.mean((0, 2, 3), keepdim=True)),
    Vice("sorts the batch", CHANGING, logits=lambda _, logits: logits.sort(0).values),
    Vice("tires", CHANGING, images=fail_later),
    Vice("raises", FAILING, images=fail(ValueError("no\nanswer"))),
    Vice("disk error", FAILING, images=fail(OSError(5, "Input/output error"))),
    Vice("exits", FAILING, images=fail(SystemExit(0))),
    Vice("stops", FAILING, images=fail(StopIteration())),
    Vice("recurses", FAILING, images=fail(RecursionError("too deep"))),
    Vice("memory", FAILING, images=fail(MemoryError())),
    Vice("hangs", FAILING, images=hang),
    Vice("not a number", FAILING, logits=lambda _, logits: logits * float("nan")),
    Vice("a class too few", FAILING, logits=lambda _, logits: logits[:, 1:]),
    Vice("an answer too few", FAILING, logits=lambda _, logits: logits[1:]),
    Vice("nothing", FAILING, output=lambda *_: None),
    Vice("a text", FAILING, output=lambda *_: "cat"),
    Vice("a list", FAILING, output=lambda *_: [1, 2]),
]
"""The catalogue. Of the noise of the system all logits of a call get the same, which changes no class."""
WRAPPERS: dict[str, Callable[[nn.Module], Any]] = {
    "none": lambda model: model,
    "Sequential": lambda model: nn.Sequential(model),
    "DataParallel": lambda model: nn.DataParallel(model),
    "function": lambda model: lambda images: model(images),
}
