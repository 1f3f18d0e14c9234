"""Sparse-coding layers: the code of the input under a learnt dictionary replaces a convolution or a linear map."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.grad import conv2d_weight

from data_prep.errors import InputError
from sdnet_core import few_channels
from sdnet_core.config import check_options
from sdnet_core.fista import fista
from sdnet_core.fused import fused_fista
from sdnet_core.lanczos import find_largest_eigenvalue

STEP_SAFETY = 0.9
"""s = 0.9/L: the margin of the paper's implementation, which also covers L lagging behind during training."""
_TINY = torch.finfo(torch.float32).tiny

Lambda = float | Float[Tensor, ""] | Float[Tensor, " n"]
"""λ of one call: a number for all images, possibly as a tensor with a gradient, or one value per image."""


def check_lam(lam: Lambda, n_images: int) -> Lambda:
    """Return ``lam`` if it is a finite number ≥ 0 or a tensor (N,) of such numbers; otherwise raise InputError.

    A scalar tensor is expanded to (N,), so that it gets its gradient. Values on a GPU are not checked, because the host
    would wait for them in every forward pass.
    """
    if isinstance(lam, Tensor):
        lam = lam.expand(n_images) if lam.ndim == 0 else lam
        if lam.shape != (n_images,):
            raise InputError(
                f"expected λ per image of shape ({n_images},), one value for each image, got {tuple(lam.shape)}; "
                "reshape it"
            )
        valid = lam.device.type != "cpu" or bool((torch.isfinite(lam) & (lam >= 0)).all())
    else:
        lam = float(lam)
        valid = math.isfinite(lam) and lam >= 0
    if not valid:
        raise InputError(f"expected a finite λ ≥ 0, got {lam}; give such a number")
    return lam


class SparseCoding(nn.Module, ABC):
    """A layer whose output is the sparse code of its input: z = argmin ½‖x − Az‖² + λ‖z‖₁ + μ/2‖z‖².

    ``lam`` is an argument of the call and never hidden state; calling a layer changes nothing in it. The step
    s = 0.9/‖A‖² is a buffer that only :meth:`CSCConv2d.refresh` and :meth:`project` write.

    Args:
        weight_shape: shape of the dictionary, atoms first.
        lam: default λ ≥ 0 of a call.
        mu: μ ≥ 0, weight of the squared ℓ2 term.
        n_steps: number K ≥ 1 of unrolled FISTA steps.
        non_negative: restrict the code to z ≥ 0.
        robust: use the data term ½‖x − Az‖₂ (see :func:`sdnet_core.fista.fista`).

    Raises:
        InputError: λ or μ negative or not finite, K < 1.

    Source: Dai et al., NeurIPS 2022, sections 3.1–3.2.
    """

    step: Tensor
    _direction: Tensor

    def __init__(
        self, weight_shape: tuple[int, ...], *, lam: float, mu: float, n_steps: int, non_negative: bool, robust: bool
    ) -> None:
        super().__init__()
        check_options(lam=lam, mu=mu, n_steps=n_steps)
        self.lam = float(lam)
        self.mu, self.n_steps, self.non_negative, self.robust = mu, n_steps, non_negative, robust
        self.weight = nn.Parameter(torch.randn(weight_shape))
        self.register_buffer("step", torch.tensor(math.nan), persistent=False)
        self.register_buffer("_direction", torch.zeros(0), persistent=False)

    @abstractmethod
    def correlate(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """Compute Aᵀx for the atoms ``weight``, plus one bias for each atom."""

    @abstractmethod
    def synthesise(self, code: Tensor, weight: Tensor, like: Tensor) -> Tensor:
        """Compute A z for the atoms ``weight``, in the shape of ``like``."""

    @abstractmethod
    def weight_gradient(self, x: Tensor, code: Tensor) -> Tensor:
        """Compute ∂⟨Aᵀx, z⟩/∂W in the shape of the weight."""

    @property
    def geometry(self) -> tuple[int, ...]:
        """Parameters of the products besides the shapes of weight and input."""
        return ()

    def analysis(self, x: Tensor) -> Tensor:
        """Compute Aᵀx, the correlation of the input with every atom."""
        return self.correlate(x, self.weight)

    def synthesis(self, code: Tensor, like: Tensor) -> Tensor:
        """Compute A z, the sum of the atoms weighted by the code, in the shape of ``like``."""
        return self.synthesise(code, self.weight, like)

    def forward(self, x: Tensor, lam: Lambda | None = None, correlation: Tensor | None = None) -> Tensor:
        """Compute the code z of ``x`` (N, ...) at λ = ``lam``: a number, a tensor (N,), or None for the layer's own λ.

        ``correlation`` is Aᵀx if it is already known; it is the same for every λ.
        """
        lam = check_lam(self.lam if lam is None else lam, x.shape[0])
        if isinstance(lam, Tensor):
            lam = lam.to(x).view(-1, *[1] * (x.ndim - 1))
        needs_graph = torch.compiler.is_compiling() or (correlation is not None and torch.is_grad_enabled())
        solve = fista if needs_graph else fused_fista
        return solve(
            x,
            self,
            step=self.step,
            lam=lam,
            mu=self.mu,
            n_steps=self.n_steps,
            non_negative=self.non_negative,
            robust=self.robust,
            correlation=correlation,
        )

    def gram(self, weight: Tensor, x: Tensor) -> Tensor:
        """Compute A Aᵀx for the atoms ``weight``, in the shape of ``x``."""
        return self.synthesise(self.correlate(x, weight), weight, x)

    def residual(self, x: Tensor, code: Tensor) -> Float[Tensor, " n"]:
        """Compute ‖x − Az‖² per image, shape (N,), summed over all other axes, in the squared units of ``x``."""
        return (x - self.synthesis(code, x)).flatten(1).square().sum(1)

    @torch.no_grad()
    def normalise_atoms(self) -> None:
        """Scale every atom to unit ℓ2 norm, in place; atoms with unit norm up to rounding are not changed.

        A stored dictionary is therefore loaded exactly, whatever the order of summation in a version of PyTorch.

        Raises:
            InputError: the norms of all atoms are 0, or a norm is not finite.
        """
        norms = torch.linalg.vector_norm(self.weight, dim=tuple(range(1, self.weight.ndim)), keepdim=True)
        if not (norms.isfinite().all() and norms.any()):
            least, most = float(norms.min()), float(norms.max())
            raise InputError(
                f"expected atoms of finite norms, not all of them 0, got norms from {least:g} to {most:g}; "
                "take other weights"
            )
        rounding = 4 * torch.finfo(norms.dtype).eps
        self.weight.div_(torch.where((norms - 1).abs() <= rounding, 1.0, norms.clamp_min(_TINY)))

    def project(self, power_iterations: int = 1) -> None:
        """Scale atoms to unit norm and update L by warm power iterations, after an optimiser step; no host sync."""
        project([self], power_iterations)

    @torch.no_grad()
    def _refresh(self, signal_shape: tuple[int, ...]) -> None:
        """Scale atoms to unit norm and set s = 0.9/L, with L converged from a seeded start on ``signal_shape``.

        L is the largest eigenvalue of A Aᵀ, which acts on signals, and of AᵀA, which acts on codes; the smaller of the
        two is taken. Lanczos' method needs some hundred products. Power iteration needs many more, because the largest
        eigenvalues of a convolution lie close together.
        """
        self.normalise_atoms()
        signal = self.weight.new_zeros(1, *signal_shape)
        code = self.analysis(signal)
        on_codes = code.numel() < signal.numel()
        start = torch.randn(min(code.numel(), signal.numel()), generator=torch.Generator().manual_seed(0))
        lipschitz, vector = find_largest_eigenvalue(
            (lambda z: self.analysis(self.synthesis(z, signal))) if on_codes else partial(self.gram, self.weight),
            start.to(self.weight).view_as(code if on_codes else signal),
        )
        self._direction = self.synthesis(vector, signal) / lipschitz**0.5 if on_codes else vector
        self.step = torch.tensor(STEP_SAFETY / lipschitz).to(self.weight)

    @property
    def lipschitz(self) -> float:
        """L = ‖A‖², the largest eigenvalue of AᵀA, as last converged or updated."""
        return STEP_SAFETY / float(self.step)


@torch.no_grad()
def project(layers: Iterable[SparseCoding], power_iterations: int = 1) -> None:
    """Apply :meth:`SparseCoding.project` to many layers; layers of equal shape share their products. No host sync.

    One power iteration on A Aᵀ from the last direction v: v ← A Aᵀv/‖A Aᵀv‖, L = ‖A Aᵀv‖.
    """
    alike: dict[tuple[object, ...], list[SparseCoding]] = {}
    for layer in layers:
        alike.setdefault((type(layer), layer.weight.shape, layer._direction.shape, *layer.geometry), []).append(layer)
    for group in alike.values():
        weights = torch.stack([layer.weight for layer in group])
        directions = torch.stack([layer._direction for layer in group])
        weights /= torch.linalg.vector_norm(weights, dim=tuple(range(2, weights.ndim)), keepdim=True).clamp_min(_TINY)
        for _ in range(power_iterations):
            images = torch.vmap(group[0].gram)(weights, directions)
            lipschitz = torch.linalg.vector_norm(images, dim=tuple(range(1, images.ndim)), keepdim=True)
            directions = images / lipschitz
        for layer, weight, direction, step in zip(group, weights, directions, STEP_SAFETY / lipschitz.flatten()):
            layer.weight.copy_(weight)
            layer._direction, layer.step = direction, step


class CSCConv2d(SparseCoding):
    """Convolutional sparse coding: images (N, C, H, W) to codes (N, D, H', W'), H' and W' as for a convolution.

    Aᵀ is the cross-correlation with the D atoms, A its exact adjoint (the transposed convolution) for every input
    size, odd ones with stride 2 included.

    The other arguments are as in :class:`SparseCoding`.

    Args:
        in_channels: C.
        out_channels: D, the number of atoms.
        kernel_size: k, side of the square atoms (C, k, k).
        stride: step of the correlation.
        padding: zero padding on each side.
        image_size: H = W of the input for which L = ‖A‖² is converged. Other sizes work with the same step.
        converge: converge L now; otherwise call :meth:`refresh` before the first call.

    Raises:
        InputError: see :class:`SparseCoding`.

    Source: Dai et al., NeurIPS 2022, eq. 1–4.
    Deviation: L is converged once from a seeded start and then fixed; the reference runs a fresh power iteration in
        every forward pass, so that its results depend on the batches seen before.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: int = 3,
        stride: int = 1,
        padding: int = 1,
        lam: float = 0.1,
        mu: float = 0.0,
        n_steps: int = 2,
        non_negative: bool = True,
        robust: bool = False,
        image_size: int = 32,
        converge: bool = True,
    ) -> None:
        super().__init__(
            (out_channels, in_channels, kernel_size, kernel_size),
            lam=lam,
            mu=mu,
            n_steps=n_steps,
            non_negative=non_negative,
            robust=robust,
        )
        self.stride, self.padding, self.image_size = stride, padding, image_size
        if converge:
            self.refresh()

    @property
    def geometry(self) -> tuple[int, ...]:
        """Stride and padding, in pixels."""
        return self.stride, self.padding

    def correlate(
        self, x: Float[Tensor, "n c h w"], weight: Float[Tensor, "d c k k"], bias: Float[Tensor, " d"] | None = None
    ) -> Float[Tensor, "n d oh ow"]:
        """Compute Aᵀx = conv2d(x, W)."""
        return functional.conv2d(x, weight, bias, stride=self.stride, padding=self.padding)

    def synthesise(
        self, code: Float[Tensor, "n d oh ow"], weight: Float[Tensor, "d c k k"], like: Float[Tensor, "n c h w"]
    ) -> Float[Tensor, "n c h w"]:
        """Compute A z = conv_transpose2d(z, W), padded on the far side to the height and width of ``like``."""
        if few_channels.suits(code, weight.shape[1]):
            return few_channels.synthesise_by_planes(code, weight, like, stride=self.stride, padding=self.padding)
        kernel = weight.shape[-1]
        height, width = (
            size - ((steps - 1) * self.stride - 2 * self.padding + kernel)
            for size, steps in zip(like.shape[-2:], code.shape[-2:], strict=True)
        )
        return functional.conv_transpose2d(
            code, weight, stride=self.stride, padding=self.padding, output_padding=(height, width)
        )

    def weight_gradient(
        self, x: Float[Tensor, "n c h w"], code: Float[Tensor, "n d oh ow"]
    ) -> Float[Tensor, "d c k k"]:
        """Correlate the input with the code, which gives the gradient of a convolution for its weight."""
        gradient: Tensor = conv2d_weight(x, self.weight.shape, code, stride=self.stride, padding=self.padding)  # type: ignore[no-untyped-call]
        return gradient

    def refresh(self, image_size: int | None = None) -> None:
        """Scale atoms to unit norm, converge L for ``image_size`` and set s = 0.9/L, after a change of dictionary."""
        self.image_size = image_size or self.image_size
        self._refresh((self.weight.shape[1], self.image_size, self.image_size))

    def extra_repr(self) -> str:
        """Show the hyper-parameters."""
        atoms, channels, kernel, _ = self.weight.shape
        return (
            f"{channels}, {atoms}, kernel_size={kernel}, stride={self.stride}, padding={self.padding}, "
            f"lam={self.lam}, mu={self.mu}, n_steps={self.n_steps}, non_negative={self.non_negative}"
        )


class CSCLinear(SparseCoding):
    """Sparse coding of vectors or tokens: (N, d) or (N, T, d) to codes (N, D) or (N, T, D).

    The other arguments are as in :class:`SparseCoding`.

    Args:
        in_features: d.
        out_features: D, the number of atoms.

    Raises:
        InputError: see :class:`SparseCoding`.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        lam: float = 0.1,
        mu: float = 0.0,
        n_steps: int = 2,
        non_negative: bool = True,
        robust: bool = False,
    ) -> None:
        super().__init__(
            (out_features, in_features), lam=lam, mu=mu, n_steps=n_steps, non_negative=non_negative, robust=robust
        )
        self.refresh()

    def correlate(
        self, x: Float[Tensor, "n *t d"], weight: Float[Tensor, "atoms d"], bias: Float[Tensor, " atoms"] | None = None
    ) -> Float[Tensor, "n *t atoms"]:
        """Compute Aᵀx = x Wᵀ."""
        return functional.linear(x, weight, bias)

    def synthesise(
        self,
        code: Float[Tensor, "n *t atoms"],
        weight: Float[Tensor, "atoms d"],
        like: Float[Tensor, "n *t d"],  # noqa: ARG002
    ) -> Float[Tensor, "n *t d"]:
        """Compute A z = z W."""
        return code @ weight

    def weight_gradient(
        self, x: Float[Tensor, "n *t d"], code: Float[Tensor, "n *t atoms"]
    ) -> Float[Tensor, "atoms d"]:
        """Compute zᵀx, summed over images and tokens."""
        return code.flatten(0, -2).T @ x.flatten(0, -2)

    def refresh(self) -> None:
        """Scale atoms to unit norm, converge L and set s = 0.9/L, after the dictionary was changed."""
        self._refresh((self.weight.shape[1],))
