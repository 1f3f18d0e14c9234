"""The element-wise work of a FISTA step: one Triton kernel on a GPU, in-place operations elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sdnet_core.fista import Scalar

try:
    from sdnet_core import triton_kernels
except ImportError:  # Triton comes with PyTorch's CUDA builds only
    triton_kernels = None  # type: ignore[assignment]

_KERNEL_TYPES = (torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Shrinkage:
    """The proximal operator of s · (λ‖z‖₁ + μ/2‖z‖²), then the momentum: see :func:`sdnet_core.fista.prox`.

    Args:
        lam: λ ≥ 0, a number or a tensor that broadcasts against the codes.
        step: s, the step size.
        mu: μ ≥ 0, weight of the squared ℓ2 term.
        non_negative: restrict codes to z ≥ 0.
    """

    lam: Scalar
    step: Tensor
    mu: float
    non_negative: bool

    def bias(self, x: Tensor, n_atoms: int) -> Tensor | None:
        """Return −λs for every atom if adding it in the convolution saves a pass: off the GPU, with one λ for all."""
        if runs_kernels(x) or not self.non_negative or isinstance(self.lam, Tensor):
            return None
        return (-self.lam * self.step).to(x.dtype).expand(n_atoms)

    def __call__(
        self,
        correlation: Tensor,
        base: Tensor | None = None,
        *,
        previous: Tensor | None = None,
        momentum: float = 0.0,
        folded: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Compute z = P(base + correlation) and z + momentum · (z − previous).

        Args:
            correlation: s Aᵀd, overwritten.
            base: the point yₖ₋₁; None is 0.
            previous: zₖ₋₁; required with a momentum.
            momentum: β.
            folded: ``correlation`` already contains the bias −λs.
        """
        if runs_kernels(correlation):
            return triton_kernels.shrink(
                correlation,
                base,
                previous,
                lam=self.lam,
                step=self.step,
                mu=self.mu,
                momentum=momentum,
                non_negative=self.non_negative,
            )
        u = correlation if base is None else correlation.add_(base)
        if not folded:
            threshold = torch.as_tensor(self.lam * self.step).to(u.dtype)
            u.sub_(threshold if self.non_negative else u.clamp(-threshold, threshold))
        code = u.relu_() if self.non_negative else u
        if self.mu:
            code.mul_(1.0 / (1.0 + self.mu * self.step))
        if not momentum:
            return code, code
        assert previous is not None
        return code, torch.lerp(previous, code, 1.0 + momentum)


def differentiate_shrinkage(gradient: Tensor, code: Tensor, *, step: Tensor, mu: float, non_negative: bool) -> Tensor:
    """Compute P′(u) · gradient; P′(u) is 1/(1 + μs) where the code z = P(u) is nonzero, and 0 elsewhere."""
    if runs_kernels(code):
        return triton_kernels.differentiate(gradient, code, step, mu)
    if non_negative:
        passed: Tensor = torch.ops.aten.threshold_backward(gradient, code, 0)
    else:
        passed = torch.where(code != 0, gradient, 0)
    return passed.div_(1.0 + mu * step) if mu else passed


def runs_kernels(tensor: Tensor) -> bool:
    """Tell whether the Triton kernels support this tensor."""
    return triton_kernels is not None and tensor.is_cuda and tensor.dtype in _KERNEL_TYPES
