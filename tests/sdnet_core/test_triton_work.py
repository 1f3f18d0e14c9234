"""The work of the Triton kernels, counted in what they compile to without a GPU: bytes, FLOPs, launches."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from typing import Any

import pytest
import torch

from sdnet_core import CSCConv2d, shrinkage
from sdnet_core.fused import fused_fista

triton = pytest.importorskip(
    "triton", "3.3", reason="Triton comes with PyTorch's CUDA builds only, and older ones are asked otherwise"
)

from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402
from triton.runtime.interpreter import InterpretedFunction  # noqa: E402

from sdnet_core import triton_kernels  # noqa: E402

KERNELS = {name: getattr(triton_kernels, name) for name in ("shrink_kernel", "differentiate_kernel")}
BLOCK = 1024
SIZES = {"fp32": 4, "bf16": 2}
NUMBERS = {"step": "*fp32", "mu": "fp32", "momentum": "fp32", "n_values": "i32", "n_per_lam": "i32"}
FLOATING = re.compile(r"arith\.(addf|subf|mulf|divf|cmpf|select|negf|maximumf|minimumf|maxnumf|minnumf) .*tensor<1024x")


@pytest.fixture(autouse=True)
def _compiled_anew(monkeypatch):
    """Triton's cache may come from a process without type checks."""
    monkeypatch.setenv("TRITON_ALWAYS_COMPILE", "1")


@cache
def compile_kernel(name: str, value: str, capability: int = 90, **flags: bool) -> dict[str, Any]:
    """The stages of a kernel compiled for an H100 or another GPU, as it is launched on whole blocks of aligned memory.

    Triton brings the assembler along, so that it needs no GPU.
    """
    kernel = KERNELS[name]
    constants = {"block": BLOCK, **flags}
    types = {name: NUMBERS.get(name, f"*{value}") for name in kernel.arg_names}
    if not flags.get("lam_is_tensor"):
        types["lam"] = "fp32"
    types = {name: "constexpr" if name in constants else types[name] for name in kernel.arg_names}
    aligned = {
        (at,): [["tt.divisibility", 16]]
        for at, (name, kind) in enumerate(types.items())
        if kind.startswith("*") or name == "n_values"
    }
    return triton.compile(ASTSource(kernel, types, constants, aligned), target=GPUTarget("cuda", capability, 32)).asm


def count_bytes(ttir: str, value: str) -> tuple[int, int]:
    """Bytes that one program reads and writes, of values; all programs of a launch do the same."""
    loads, stores = (len(re.findall(rf"tt\.{verb} .*tensor<{BLOCK}x!tt\.ptr", ttir)) for verb in ("load", "store"))
    return loads * BLOCK * SIZES[value], stores * BLOCK * SIZES[value]


def count_flops(ttir: str) -> int:
    """Floating-point operations of one program, comparisons and selections included."""
    return BLOCK * sum(1 for line in ttir.splitlines() if FLOATING.search(line))


LAUNCHES = [  # base, momentum, λ per image, z ≥ 0: tensors read, tensors written, FLOPs per value
    ("shrink_kernel", (False, False, False, True), (1, 1, 4)),
    ("shrink_kernel", (True, False, False, True), (2, 1, 5)),
    ("shrink_kernel", (True, True, False, True), (3, 2, 8)),
    ("shrink_kernel", (True, True, True, True), (4, 2, 9)),
    ("shrink_kernel", (True, False, False, False), (2, 1, 7)),
    ("differentiate_kernel", (), (2, 1, 3)),
]
NAMES = ("has_base", "has_momentum", "lam_is_tensor", "non_negative")


@pytest.mark.parametrize("value", SIZES)
@pytest.mark.parametrize(("kernel", "flags", "work"), LAUNCHES)
def test_a_launch_reads_and_writes_every_value_once(kernel, flags, work, value):
    asm = compile_kernel(kernel, value, **dict(zip(NAMES, flags)))
    reads, writes, flops = work
    assert count_bytes(asm["ttir"], value) == (reads * BLOCK * SIZES[value], writes * BLOCK * SIZES[value])
    assert count_flops(asm["ttir"]) == flops * BLOCK


@pytest.mark.parametrize("value", SIZES)
@pytest.mark.parametrize("kernel", ["shrink_kernel", "differentiate_kernel"])
def test_memory_is_moved_in_words_of_16_bytes_and_registers_suffice(kernel, value):
    """A thread moves 16 bytes at once, which four warps make whole lines of; a spill would go to local memory."""
    flags = dict(zip(NAMES, (True, True, False, True))) if kernel == "shrink_kernel" else {}
    ptx = compile_kernel(kernel, value, **flags)["ptx"]
    moved = Counter(re.findall(r"(?:ld|st)\.global(\.v4\.b32|\S*)", ptx))
    tensors = 5 if flags else 3
    assert moved.pop(".b32") == 1  # the step size
    assert moved == {".v4.b32": tensors * BLOCK * SIZES[value] // (16 * 128)}
    assert not re.search(r"\.(local|shared)\b", ptx)


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("value", SIZES)
@pytest.mark.parametrize("kernel", KERNELS)
def test_kernels_become_machine_code_of_gpus_that_are_not_here(kernel, value, capability):
    flags = dict.fromkeys(NAMES, True) if kernel == "shrink_kernel" else {}
    assert compile_kernel(kernel, value, capability, **flags)["cubin"]


@pytest.fixture
def launches(monkeypatch) -> list[tuple[str, int]]:
    """Every launch, as kernel and bytes of values moved, while the kernels run in Triton's interpreter."""
    seen: list[tuple[str, int]] = []

    class Recorder:
        def __init__(self, name: str) -> None:
            self.name, self.kernel = name, InterpretedFunction(KERNELS[name].fn)

        def __getitem__(self, grid: tuple[int]):
            def launch(*arguments, block: int, **flags: bool) -> None:
                program = sum(count_bytes(compile_kernel(self.name, "fp32", **flags)["ttir"], "fp32"))
                seen.append((self.name, grid[0] * program))
                self.kernel[grid](*arguments, block=block, **flags)

            return launch

    for name in KERNELS:
        monkeypatch.setattr(triton_kernels, name, Recorder(name))
    monkeypatch.setattr(shrinkage, "runs_kernels", lambda tensor: True)
    return seen


@pytest.mark.parametrize(
    ("n_steps", "forward", "backward"),
    [(1, [2], [3]), (2, [2, 3], [3, 3]), (4, [2, 3, 5, 3], [2, 3, 5, 3, 3, 3, 3, 3])],
)
def test_a_call_of_the_solver_launches_a_kernel_for_each_step_and_no_more(launches, n_steps, forward, backward):
    """In tensors moved. From K = 3 the backward pass computes the steps again, as many launches as before."""
    layer = CSCConv2d(3, 16, kernel_size=3, padding=1, image_size=8)
    x = torch.randn(2, 3, 8, 8, requires_grad=True)
    tensor = 4 * 2 * 16 * 8 * 8
    assert tensor % (4 * BLOCK) == 0
    code = fused_fista(x, layer, step=layer.step, lam=0.1, n_steps=n_steps)
    assert launches == [("shrink_kernel", count * tensor) for count in forward]
    launches.clear()
    code.sum().backward()
    again = len(backward) - n_steps
    names = ["shrink_kernel"] * again + ["differentiate_kernel"] * n_steps
    assert launches == [(name, count * tensor) for name, count in zip(names, backward, strict=True)]
