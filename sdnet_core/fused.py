"""FISTA as one autograd node: the element-wise work of a step in one pass, and a custom backward pass."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from sdnet_core.fista import Scalar
from sdnet_core.shrinkage import Shrinkage, differentiate_shrinkage

STORED_STEPS = 2
"""Largest K for which codes and misfits are stored for the backward pass; beyond it they are computed again from the
input, so that the memory of a layer does not grow with K."""


@runtime_checkable
class Dictionary(Protocol):
    """A dictionary A whose atoms are an argument of each call, so that they can have gradients."""

    @property
    def weight(self) -> Tensor:
        """W, atoms first."""

    def correlate(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """Compute Aᵀx, plus one bias for each atom."""

    def synthesise(self, code: Tensor, weight: Tensor, like: Tensor) -> Tensor:
        """Compute A z in the shape of ``like``."""

    def weight_gradient(self, x: Tensor, code: Tensor) -> Tensor:
        """Compute ∂⟨Aᵀx, z⟩/∂W in the shape of the weight."""


def fused_fista(
    x: Tensor,
    dictionary: Dictionary,
    *,
    step: Tensor,
    lam: Scalar,
    mu: float = 0.0,
    n_steps: int = 2,
    non_negative: bool = True,
    robust: bool = False,
    correlation: Tensor | None = None,
) -> Tensor:
    """Compute :func:`sdnet_core.fista.fista` up to rounding, with first-order gradients for x, W and λ.

    The step size is multiplied into the dictionary once, so that each step of FISTA is a synthesis, a correlation and
    one pass over the code. Under autocast, synthesis, misfit and correlation have its type.

    Args:
        x: signals (N, ...).
        dictionary: A; its ``weight`` gets a gradient.
        step: s, a scalar tensor without gradient.
        lam: λ ≥ 0, a number or one value per image, shape (N, 1, ...).
        mu: μ ≥ 0.
        n_steps: number K ≥ 1 of steps.
        non_negative: restrict codes to z ≥ 0.
        robust: use the data term ½‖x − Az‖₂.
        correlation: Aᵀx if it is already known; only for calls without gradients.

    Returns:
        Codes z_K, in the shape of Aᵀx.
    """
    solver = _Solver(dictionary, step, mu, n_steps, non_negative, robust, correlation)
    code: Tensor = _Fista.apply(x, dictionary.weight, lam, solver)
    return code


class _Step(NamedTuple):
    """One step zₖ = P(yₖ₋₁ + s Aᵀd): the code, its direction d (x, or the misfit), and the norm that divided d."""

    code: Tensor
    direction: Tensor
    norm: Tensor | None


@dataclass(frozen=True)
class _Solver:
    """The arguments of one call of :func:`fused_fista`, except for the tensors that get gradients."""

    dictionary: Dictionary
    step: Tensor
    mu: float
    n_steps: int
    non_negative: bool
    robust: bool
    correlation: Tensor | None

    def momenta(self) -> list[float]:
        """List βₖ of the gradient points yₖ = zₖ + βₖ (zₖ − zₖ₋₁), k = 1 … K − 1; β₁ = 0."""
        momenta, t = [0.0], 1.0
        while len(momenta) < self.n_steps - 1:
            following = (1.0 + math.sqrt(1.0 + 4.0 * t * t)) / 2.0
            momenta.append((t - 1.0) / following)
            t = following
        return momenta[: self.n_steps - 1]

    def iterate(self, x: Tensor, weight: Tensor, lam: Scalar) -> Iterator[_Step]:
        """Yield steps 1 … K in the type of ``x``."""
        scaled, weight = (self.step * weight).to(x.dtype), weight.to(x.dtype)
        shrinkage = Shrinkage(lam, self.step, self.mu, self.non_negative)
        bias = shrinkage.bias(x, len(weight))
        if self.correlation is None:
            code, _ = shrinkage(self.dictionary.correlate(x, scaled, bias), folded=bias is not None)
        else:
            code, _ = shrinkage((self.step * self.correlation).to(x.dtype))
        yield _Step(code, x, None)
        point = code
        for momentum in [*self.momenta()[1:], 0.0][: self.n_steps - 1]:
            direction, norm = self.misfit(x, point, weight)
            correlation = self.dictionary.correlate(direction, scaled, bias)
            code, point = shrinkage(correlation, point, previous=code, momentum=momentum, folded=bias is not None)
            yield _Step(code, direction, norm)

    def misfit(self, x: Tensor, point: Tensor, weight: Tensor) -> tuple[Tensor, Tensor | None]:
        """Compute x − A y; with the robust data term it is divided by 2‖x − A y‖₂, which is returned second."""
        synthesis = self.dictionary.synthesise(point, weight, x)
        misfit = torch.sub(x, synthesis, out=synthesis)
        if not self.robust:
            return misfit, None
        axes = tuple(range(1, misfit.ndim))
        norm = 2.0 * torch.linalg.vector_norm(misfit, dim=axes, keepdim=True).clamp_min(torch.finfo(misfit.dtype).tiny)
        return misfit.div_(norm), norm


class _Fista(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, lam: Scalar, solver: _Solver) -> Tensor:
        device = x.device.type
        computed = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
        stores = any(ctx.needs_input_grad) and solver.n_steps <= STORED_STEPS
        steps: list[_Step] = []
        with torch.autocast(device, enabled=False):
            for step in solver.iterate(x.to(computed), weight, lam):
                steps = [*steps, step] if stores else [step]
        saved = [tensor for step in steps for tensor in step] if stores else [x]
        ctx.solver, ctx.stores, ctx.computed = solver, stores, computed
        ctx.lam = None if isinstance(lam, Tensor) else lam
        ctx.save_for_backward(weight, lam if isinstance(lam, Tensor) else None, *saved)
        return steps[-1].code

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        weight, lam, *saved = ctx.saved_tensors
        lam = ctx.lam if lam is None else lam
        with torch.autocast(gradient.device.type, enabled=False):
            if ctx.stores:
                steps = [_Step(*saved[i : i + 3]) for i in range(0, len(saved), 3)]
            else:
                steps = list(ctx.solver.iterate(saved[0].to(ctx.computed), weight, lam))
            return *_differentiate(ctx.solver, steps, weight, lam, gradient, ctx.needs_input_grad), None


def _differentiate(
    solver: _Solver, steps: list[_Step], weight: Tensor, lam: Scalar, gradient: Tensor, needed: tuple[bool, ...]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Compute the gradients for x, W and λ from the gradient for z_K, step by step backwards.

    Step k is z = P(u), u = y + s Aᵀd, with d = x − A y (in the first step d = x and y = 0). With g the gradient for z:
    g_u = P′(u) g; g_λ −= s Σ g_u sign z; g_W += s ∂⟨Aᵀd, g_u⟩/∂W; g_d = s A g_u; g_x += g_d; g_W −= ∂⟨Aᵀg_d, y⟩/∂W;
    g_y = g_u − Aᵀg_d, which reaches zₖ₋₁ with the factor 1 + β and zₖ₋₂ with the factor −β.
    """
    needs_x, needs_weight, needs_lam, _ = needed
    dictionary, dtype, like = solver.dictionary, steps[0].direction.dtype, steps[0].direction
    scaled, plain = (solver.step * weight).to(dtype), weight.to(dtype)
    momenta = solver.momenta()
    of_x = of_scaled = of_plain = of_lam = carried = None
    for k in reversed(range(len(steps))):
        code, direction, norm = steps[k]
        gradient = differentiate_shrinkage(
            gradient, code, step=solver.step, mu=solver.mu, non_negative=solver.non_negative
        )
        if needs_lam:
            assert isinstance(lam, Tensor)
            signed = gradient if solver.non_negative else gradient * code.sign()
            of_lam = _add(of_lam, signed.sum_to_size(lam.shape) if lam.ndim else signed.sum())
        if needs_weight:
            of_scaled = _add(of_scaled, dictionary.weight_gradient(direction, gradient))
        if k == 0 and not needs_x:
            break
        of_direction = dictionary.synthesise(gradient, scaled, like)
        if norm is not None:
            of_direction = of_direction.div_(norm)
        of_x = _add(of_x, of_direction)
        if k == 0:
            break
        momentum = momenta[k - 1]
        previous = steps[k - 1].code
        point = torch.lerp(steps[k - 2].code, previous, 1.0 + momentum) if momentum else previous
        if needs_weight:
            of_plain = _add(of_plain, dictionary.weight_gradient(of_direction, point))
        correlation = dictionary.correlate(of_direction, plain)
        of_point = torch.sub(gradient, correlation, out=correlation)
        gradient = of_point * (1.0 + momentum) if momentum else of_point
        gradient = gradient if carried is None else gradient.add_(carried)
        carried = of_point.mul_(-momentum) if momentum else None
    of_weight = None
    if needs_weight:
        assert of_scaled is not None
        of_weight = solver.step * of_scaled.to(weight.dtype)
        of_weight = of_weight if of_plain is None else of_weight - of_plain.to(weight.dtype)
    return of_x, of_weight, None if of_lam is None else -solver.step * of_lam


def _add(total: Tensor | None, term: Tensor) -> Tensor:
    return term if total is None else total + term
