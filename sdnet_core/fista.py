"""Sparse coding by unrolled FISTA: the plain reference that every faster form is compared with."""

from __future__ import annotations

import math
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

Scalar = float | Tensor
"""A number, or a tensor that broadcasts against the codes (one value per image)."""


@runtime_checkable
class LinearOperator(Protocol):
    """A dictionary A with its adjoint; sizes follow from the given tensors."""

    def analysis(self, x: Tensor) -> Tensor:
        """Compute Aᵀx."""

    def synthesis(self, code: Tensor, like: Tensor) -> Tensor:
        """Compute A z in the shape of ``like``."""


def prox(u: Tensor, *, step: Scalar, lam: Scalar, mu: float = 0.0, non_negative: bool = True) -> Tensor:
    """Apply the proximal operator of step · (λ‖z‖₁ + μ/2‖z‖² [+ indicator of z ≥ 0]).

    P(u) = relu(σu − σλs) with σ = 1/(1 + μs) when ``non_negative``, otherwise the soft threshold
    ``sign(σu) · max(|σu| − σλs, 0)``.

    Args:
        u: any shape.
        step: s > 0.
        lam: λ ≥ 0, broadcastable against ``u``.
        mu: μ ≥ 0, weight of the squared ℓ2 term.
        non_negative: restrict codes to z ≥ 0.

    Source: Beck & Teboulle, SIAM J. Imaging Sciences 2(1), 2009, section 1; with μ > 0 by completing the square.
    """
    threshold = torch.as_tensor(lam * step, dtype=u.dtype, device=u.device)
    shrunk = (u - threshold).clamp_min(0.0) if non_negative else u - torch.clamp(u, -threshold, threshold)
    return shrunk / (1.0 + mu * step) if mu else shrunk


def fista(
    x: Tensor,
    dictionary: LinearOperator,
    *,
    step: Scalar,
    lam: Scalar,
    mu: float = 0.0,
    n_steps: int = 2,
    non_negative: bool = True,
    robust: bool = False,
    correlation: Tensor | None = None,
) -> Tensor:
    """Approximate argmin_z ½‖x − Az‖² + λ‖z‖₁ + μ/2‖z‖² by ``n_steps`` steps of FISTA from z = 0.

    z₁ = P(s Aᵀx); then, with t₁ = 1 and t₍ₖ₊₁₎ = (1 + √(1 + 4tₖ²))/2,
    yₖ = zₖ + (t₍ₖ₋₁₎ − 1)/tₖ · (zₖ − z₍ₖ₋₁₎) and z₍ₖ₊₁₎ = P(yₖ + s Aᵀ(x − A yₖ)).

    Args:
        x: signals (N, ...).
        dictionary: A and its adjoint.
        step: s ≤ 1/‖A‖²; the objective then never rises in the first two steps.
        lam: λ ≥ 0, a number or broadcastable against the codes.
        mu: μ ≥ 0.
        n_steps: number K ≥ 1 of steps.
        non_negative: restrict codes to z ≥ 0.
        robust: use the data term ½‖x − Az‖₂ instead of ½‖x − Az‖²: from the second step on the gradient is
            ½ Aᵀ(r/‖r‖₂), with the norm per image and detached from autograd.
        correlation: Aᵀx if it is already known; it does not depend on λ.

    Returns:
        Codes z_K, in the shape of Aᵀx.

    Source: Beck & Teboulle 2009, eq. 4.1–4.3; Dai et al., NeurIPS 2022, section 3.
    Deviation: Beck & Teboulle count z₀ = 0 as the start, and their momentum is (tₖ − 1)/t₍ₖ₊₁₎. Here z₁ is the start,
        so each momentum comes one step later: for K = 4 it is 0 and 0.28 instead of 0.28 and 0.43. The reference
        implementation of SDNet takes the gradient at zₖ instead of yₖ. All three agree for K ≤ 2; the paper uses K = 2.
    """
    correlation = dictionary.analysis(x) if correlation is None else correlation
    code = prox(step * correlation, step=step, lam=lam, mu=mu, non_negative=non_negative)
    extrapolated, momentum = code, 1.0
    for _ in range(n_steps - 1):
        misfit = x - dictionary.synthesis(extrapolated, x)
        if robust:
            norm = torch.linalg.vector_norm(misfit.detach(), dim=tuple(range(1, misfit.ndim)), keepdim=True)
            misfit = 0.5 * misfit / norm.clamp_min(torch.finfo(misfit.dtype).tiny)
        descent = extrapolated + step * dictionary.analysis(misfit)
        following = prox(descent, step=step, lam=lam, mu=mu, non_negative=non_negative)
        next_momentum = (1.0 + math.sqrt(1.0 + 4.0 * momentum * momentum)) / 2.0
        extrapolated = following + ((momentum - 1.0) / next_momentum) * (following - code)
        code, momentum = following, next_momentum
    return code


def objective(x: Tensor, code: Tensor, dictionary: LinearOperator, *, lam: Scalar, mu: float = 0.0) -> Tensor:
    """Compute ½‖x − Az‖² + λ‖z‖₁ + μ/2‖z‖² per image, shape (N,)."""
    misfit = (x - dictionary.synthesis(code, x)).flatten(1)
    penalty = (lam * code.abs()).flatten(1).sum(1) + 0.5 * mu * code.flatten(1).square().sum(1)
    return 0.5 * misfit.square().sum(1) + penalty
