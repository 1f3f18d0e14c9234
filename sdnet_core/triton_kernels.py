"""Triton kernels of the element-wise work: every value is read once and written once; PyTorch computes the sums."""

# mypy: disable-error-code="untyped-decorator, no-untyped-def, no-untyped-call"

from __future__ import annotations

from typing import no_type_check

import torch
import triton
from torch import Tensor
from triton import language as tl

from sdnet_core.fista import Scalar

_BLOCK = 1024


@triton.jit
@no_type_check  # a type-checked function is a wrapper in another module, where Triton cannot find our names
def shrink_kernel(
    correlation,
    base,
    previous,
    lam,
    step,
    code,
    point,
    mu,
    momentum,
    n_values,
    n_per_lam,
    has_base: tl.constexpr,
    has_momentum: tl.constexpr,
    lam_is_tensor: tl.constexpr,
    non_negative: tl.constexpr,
    block: tl.constexpr,
):
    """Compute z = P(base + correlation) and z + momentum · (z − previous), reading and writing every value once."""
    at = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    inside = at < n_values
    s = tl.load(step).to(tl.float32)
    u = tl.load(correlation + at, mask=inside).to(tl.float32)
    if has_base:
        u += tl.load(base + at, mask=inside).to(tl.float32)
    threshold = lam * s if not lam_is_tensor else tl.load(lam + at // n_per_lam, mask=inside).to(tl.float32) * s
    # Comparisons written so that NaN stays NaN.
    if non_negative:
        z = tl.where(u <= threshold, 0.0, u - threshold)
    else:
        z = u - tl.where(u > threshold, threshold, tl.where(u < -threshold, -threshold, u))
    z = z / (1.0 + mu * s)
    tl.store(code + at, z.to(code.dtype.element_ty), mask=inside)
    if has_momentum:
        last = tl.load(previous + at, mask=inside).to(tl.float32)
        tl.store(point + at, (z + momentum * (z - last)).to(point.dtype.element_ty), mask=inside)


@triton.jit
@no_type_check  # a type-checked function is a wrapper in another module, where Triton cannot find our names
def differentiate_kernel(gradient, code, step, out, mu, n_values, block: tl.constexpr):
    """Compute P′(u) · gradient from the code z = P(u)."""
    at = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    inside = at < n_values
    s = tl.load(step).to(tl.float32)
    g = tl.load(gradient + at, mask=inside).to(tl.float32)
    z = tl.load(code + at, mask=inside)
    g = tl.where(z != 0, g / (1.0 + mu * s), 0.0)
    tl.store(out + at, g.to(out.dtype.element_ty), mask=inside)


def shrink(
    correlation: Tensor,
    base: Tensor | None,
    previous: Tensor | None,
    *,
    lam: Scalar,
    step: Tensor,
    mu: float,
    momentum: float,
    non_negative: bool,
) -> tuple[Tensor, Tensor]:
    """Compute z = P(base + correlation), written over ``correlation``, and z + momentum · (z − previous)."""
    code = _dense(correlation)
    point = torch.empty_like(code) if momentum else code
    n_values = code.numel()
    if not n_values:
        return code, point
    if isinstance(lam, Tensor):
        lam = lam.to(code).expand(len(code), *[1] * (code.ndim - 1)).contiguous()
    with torch.cuda.device_of(code):
        shrink_kernel[(triton.cdiv(n_values, _BLOCK),)](
            code,
            code if base is None else _like(base, code),
            code if previous is None else _like(previous, code),
            lam,
            step,
            code,
            point,
            mu,
            momentum,
            n_values,
            n_values // len(code),
            has_base=base is not None,
            has_momentum=momentum != 0,
            lam_is_tensor=isinstance(lam, Tensor),
            non_negative=non_negative,
            block=_BLOCK,
        )
    return code, point


def differentiate(gradient: Tensor, code: Tensor, step: Tensor, mu: float) -> Tensor:
    """Compute P′(u) · gradient from the code z = P(u)."""
    out = torch.empty_like(code)
    n_values = code.numel()
    if not n_values:
        return out
    with torch.cuda.device_of(code):
        grid = (triton.cdiv(n_values, _BLOCK),)
        differentiate_kernel[grid](_like(gradient, code), code, step, out, mu, n_values, block=_BLOCK)
    return out


def _dense(tensor: Tensor) -> Tensor:
    """Return the tensor without gaps in memory, images outermost."""
    dense = tensor.is_contiguous() or (tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last))
    return tensor if dense else tensor.contiguous()


def _like(tensor: Tensor, other: Tensor) -> Tensor:
    """Return the tensor in the memory layout of ``other``."""
    return tensor if tensor.stride() == other.stride() else torch.empty_like(other).copy_(tensor)
