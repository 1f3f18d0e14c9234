"""A ResNet-18 with three knobs that take noise off, to ask whether SDNet's λ is better than any knob.

python -m robustness.run --suite cifar10c --corruptions gaussian_noise,shot_noise,impulse_noise --n 1000 \
    --lambdas 0,0.1,0.2,0.3,0.4,0.5,0.6,0.8 \
    --models sdnet18-cifar10,resnet18-cifar10,examples/knobs.py:blurred,examples/knobs.py:thresholded

Each knob is 0 for the ResNet as it was trained, and the policies choose it as they choose λ. A third one, ``adapted``,
predicts an image with the help of the other images of its batch: its rows are marked INVALID, since the numbers hold
for batches of one corruption only. ``denoised`` has no knob: it thresholds each image at its own noise level, as the
policy ``matched`` does with λ.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from sdnet_core import load_model
from sdnet_core.noise_level import estimate_noise_level

CLASSIFIER = "resnet18-cifar10"
RADIUS = 4
"""Radius of the blur, in pixels: three standard deviations at λ = 1.3."""
THRESHOLD = 0.2
"""Threshold of the wavelet coefficients of images in [0, 1], for each unit of λ."""
FLOOR = 0.02
"""Noise level below which ``denoised`` changes nothing: SDNet's training λ of 0.1, in units of [0, 1]."""


class Knob(nn.Module):
    """A classifier f with a knob λ ≥ 0, which is 0 for f itself."""

    def __init__(self) -> None:
        super().__init__()
        self.classifier = load_model(CLASSIFIER)
        self.lam = 0.0

    def forward(self, images: Tensor, lam: float | Tensor) -> Tensor:
        """Compute the logits of images (N, 3, H, W) in [0, 1]; ``lam`` is a number, or one value per image, (N,)."""
        knob = torch.as_tensor(lam, dtype=images.dtype, device=images.device).expand(len(images)).view(-1, 1, 1, 1)
        return self.predict(images, knob)

    def predict(self, images: Tensor, knob: Tensor) -> Tensor:
        """Compute the logits at the knob (N, 1, 1, 1)."""
        raise NotImplementedError


class Blurred(Knob):
    """f(G_λ ∗ x), with a Gaussian of standard deviation λ pixels."""

    def predict(self, images: Tensor, knob: Tensor) -> Tensor:
        """Blur, and classify."""
        distances = torch.arange(-RADIUS, RADIUS + 1, device=images.device, dtype=images.dtype)
        weights = torch.exp(-((distances / knob.flatten()[:, None].clamp(min=1e-3)) ** 2) / 2)
        weights = (weights / weights.sum(1, keepdim=True)).repeat_interleave(3, 0)  # (3N, 2 RADIUS + 1)
        planes = functional.pad(images, (RADIUS,) * 4, mode="reflect").flatten(0, 1)[None]
        across = functional.conv2d(planes, weights[:, None, None, :], groups=len(weights))
        down = functional.conv2d(across, weights[:, None, :, None], groups=len(weights))
        return self.classifier(down.view_as(images))  # type: ignore[no-any-return]


class Thresholded(Knob):
    """f(W⁻¹ soft(W x, λ/5)): soft-thresholded details of two levels of Haar wavelets, averaged over shifts.

    Source: Coifman & Donoho, *Translation-Invariant De-Noising*, 1995.
    """

    def predict(self, images: Tensor, knob: Tensor) -> Tensor:
        """Threshold, and classify."""
        return self.classifier(_threshold(images, THRESHOLD * knob, step=1))  # type: ignore[no-any-return]


def _threshold(images: Tensor, threshold: Tensor, *, step: int) -> Tensor:
    """Soft-threshold the undecimated Haar details along rows and columns at distance ``step``, and at twice it."""
    right, below = images.roll(-step, 3), images.roll(-step, 2)
    both = below.roll(-step, 3)
    mean = (images + right + below + both) / 4
    across, down, diagonal = images - right + below - both, images + right - below - both, images - right - below + both
    details = [difference / 4 for difference in (across, down, diagonal)]
    kept = [detail.sign() * functional.relu(detail.abs() - threshold / 2) for detail in details]
    smooth = _threshold(mean, threshold / 2, step=2 * step) if step < 2 else mean
    total = torch.zeros_like(images)
    for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
        signs = ((-1) ** column, (-1) ** row, (-1) ** (row + column))
        part = smooth + sum(sign * detail for sign, detail in zip(signs, kept, strict=True))
        total = total + part.roll((row * step, column * step), (2, 3))
    return total / 4


class Denoised(nn.Module):
    """f(W⁻¹ soft(W x, σ̂)) where the noise level σ̂ of the image is above ``FLOOR``, and f(x) elsewhere."""

    def __init__(self, classifier: str) -> None:
        super().__init__()
        self.classifier = load_model(classifier)

    def forward(self, images: Tensor) -> Tensor:
        """Compute the logits of images (N, 3, H, W) in [0, 1]."""
        level = estimate_noise_level(images).view(-1, 1, 1, 1)
        clean = _threshold(images, level, step=1)
        return self.classifier(torch.where(level > FLOOR, clean, images))  # type: ignore[no-any-return]


class Adapted(Knob):
    """f with BatchNorm statistics (1 − α) trained + α batch, α = min(λ, 1).

    Source: Schneider et al., *Improving Robustness Against Common Corruptions by Covariate Shift Adaptation*, NeurIPS
    2020.
    """

    def predict(self, images: Tensor, knob: Tensor) -> Tensor:
        """Classify with mixed statistics."""
        share = knob.clamp(max=1)
        norms = [module for module in self.classifier.modules() if isinstance(module, nn.BatchNorm2d)]
        hooks = [norm.register_forward_hook(adapt(share)) for norm in norms]
        try:
            return self.classifier(images)  # type: ignore[no-any-return]
        finally:
            for hook in hooks:
                hook.remove()


def adapt(share: Tensor) -> Callable[[nn.Module, tuple[Tensor], Tensor | None], Tensor]:
    """Make a forward hook that replaces the output of a BatchNorm by one with mixed statistics.

    Args:
        share: share of the batch's statistics, (N, 1, 1, 1).
    """

    def normalise(norm: nn.Module, given: tuple[Tensor], _: Tensor | None) -> Tensor:
        assert isinstance(norm, nn.BatchNorm2d)
        (x,) = given
        mean, variance = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), keepdim=True)
        mean = torch.lerp(norm.running_mean.view_as(mean), mean, share)
        variance = torch.lerp(norm.running_var.view_as(variance), variance, share)
        scale, shift = norm.weight.view(1, -1, 1, 1), norm.bias.view(1, -1, 1, 1)
        return (x - mean) / torch.sqrt(variance + norm.eps) * scale + shift

    return normalise


def blurred() -> nn.Module:
    """Build ``examples/knobs.py:blurred``."""
    return Blurred()


def thresholded() -> nn.Module:
    """Build ``examples/knobs.py:thresholded``."""
    return Thresholded()


def adapted() -> nn.Module:
    """Build ``examples/knobs.py:adapted``."""
    return Adapted()


def denoised() -> nn.Module:
    """Build ``examples/knobs.py:denoised``."""
    return Denoised(CLASSIFIER)


def denoised_seed1() -> nn.Module:
    """Build ``examples/knobs.py:denoised_seed1``, on the ResNet-18 of the second seed."""
    return Denoised(f"{CLASSIFIER}-seed1")
