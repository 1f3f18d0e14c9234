"""Time several forms of one job side by side: in every round each form once, ratios within the round."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from data_prep.command_line import CommandParser
from sdnet_core.environment import describe_environment, select_device
from sdnet_core.fista import fista


def make_parser(description: str | None, *, rounds: int) -> CommandParser:
    """Make the options of the benchmarks of networks."""
    parser = CommandParser(description=description)
    parser.add_argument("--batch-sizes", type=lambda text: [int(part) for part in text.split(",")], default=[32, 128])
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--device")
    return parser


def prepare(options: argparse.Namespace) -> torch.device:
    """Take the number of threads, print the machine, seed; returns the device."""
    if options.threads:
        torch.set_num_threads(options.threads)
    device = select_device(options.device)
    print_machine(device)
    torch.manual_seed(0)
    return device


def alternate(jobs: Mapping[str, Callable[[], object]], *, rounds: int, device: torch.device) -> dict[str, list[float]]:
    """Seconds of every job in every round; one round before the first is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for number in range(rounds + 1):
        for name, job in jobs.items():
            wait(device)
            started = time.perf_counter()
            job()
            wait(device)
            if number:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def clock_of(device: torch.device) -> Callable[[], float]:
    """Take processor time, which other programs leave alone, or wall time for the work of a GPU."""
    return time.process_time if device.type == "cpu" else time.perf_counter


def wait(device: torch.device) -> None:
    """Wait for the work of a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def print_ratios(
    seconds: Mapping[str, list[float]], *, per_call: int, baseline: str, also: Mapping[str, str] | None = None
) -> None:
    """A table: images per second, and how many times as fast as the baseline (and as another form) within the round."""
    width = max(map(len, seconds))
    for name, values in seconds.items():
        line = (
            f"  {name:{width}}  {per_call / statistics.median(values):8.1f} images/s  {_ratio(seconds, baseline, name)}"
        )
        if also and name in also:
            line += f"  against {also[name]}: {_ratio(seconds, also[name], name)}"
        print(line)


def _ratio(seconds: Mapping[str, list[float]], baseline: str, name: str) -> str:
    ratios = sorted(base / value for base, value in zip(seconds[baseline], seconds[name], strict=True))
    return f"{statistics.median(ratios):.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f})"


@contextmanager
def plain_solver() -> Iterator[None]:
    """The plain FISTA of ``sdnet_core/fista.py`` in every layer, instead of the fused one."""
    with mock.patch("sdnet_core.sparse_coding.fused_fista", fista):
        yield


def run_plain(job: Callable[..., object], *arguments: object) -> object:
    """Call ``job`` with the plain solver."""
    with plain_solver():
        return job(*arguments)


class _ByteCounter(TorchDispatchMode):
    """Bytes that all operations read and write if nothing stays in a cache; views move nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        if not function.is_view:
            tensors = [leaf for leaf in tree_leaves((args, kwargs, out)) if isinstance(leaf, Tensor)]
            self.total += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        return out


def count_work(job: Callable[[], object]) -> tuple[float, float]:
    """FLOPs of the products and bytes of all operations of one call."""
    with FlopCounterMode(display=False) as flops:
        job()
    with _ByteCounter() as bytes_moved:
        job()
    return float(flops.get_total_flops()), float(bytes_moved.total)


def measure_limits(device: torch.device) -> tuple[float, float]:
    """FLOP/s of a large matrix product in float32 and bytes/s of a large copy: the roof of the roofline."""
    a, b = (torch.rand(2048, 2048, device=device) for _ in range(2))
    source = torch.rand(1 << 25, device=device)
    target = torch.empty_like(source)
    seconds = alternate({"product": lambda: a @ b, "copy": lambda: target.copy_(source)}, rounds=5, device=device)
    product, copied = (min(seconds[name]) for name in ("product", "copy"))
    return 2 * 2048**3 / product, 2 * source.numel() * 4 / copied


def print_roofline(
    jobs: Mapping[str, Callable[[], object]], seconds: Mapping[str, list[float]], device: torch.device, per_call: int
) -> None:
    """FLOPs and bytes per image next to the time that each would take alone at the limits measured here."""
    flop_rate, byte_rate = measure_limits(device)
    print(f"  limits measured here: {flop_rate / 1e9:.0f} GFLOP/s (matrix product), {byte_rate / 1e9:.1f} GB/s (copy)")
    for name, job in jobs.items():
        flops, moved = count_work(job)
        arithmetic, memory = flops / flop_rate, moved / byte_rate
        print(
            f"  {name}: {flops / per_call / 1e9:.2f} GFLOP and {moved / per_call / 1e6:.1f} MB per image: "
            f"{1e3 * arithmetic / per_call:.2f} ms and {1e3 * memory / per_call:.2f} ms at the limits, "
            f"{1e3 * statistics.median(seconds[name]) / per_call:.2f} ms measured"
        )


def print_machine(device: torch.device) -> None:
    """Hardware and versions."""
    hardware = describe_environment(device)["hardware"]
    print(f"{', '.join(f'{name} {value}' for name, value in hardware.items())}; torch {torch.__version__}")
