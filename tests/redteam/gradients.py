"""Gradients that are shattered, vanish, or belong to something else."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from .base import Defence, both_networks, member, with_gradient_of
from .networks import load_network


@member("Buckman et al. 2018; broken by Athalye et al. 2018, BPDA")
class Rounded(Defence):
    """Sixteen grey levels."""

    def forward(self, images: Tensor) -> Tensor:
        return self.network((images * 15).round() / 15)


def _cosines() -> Tensor:
    """The 8 × 8 discrete cosine transform."""
    k, n = torch.arange(8.0)[:, None], torch.arange(8.0)[None]
    basis = torch.cos(math.pi * (2 * n + 1) * k / 16) / 2
    return torch.cat([basis[:1] / math.sqrt(2), basis[1:]])


@member("Guo et al. 2018, JPEG; broken by Athalye et al. 2018")
class Jpeg(Defence):
    """Rounds the cosine coefficients of blocks of 8 × 8."""

    def forward(self, images: Tensor) -> Tensor:
        basis = _cosines()
        blocks = images.unflatten(2, (-1, 8)).unflatten(4, (-1, 8)).transpose(3, 4)
        step = (4 + 3 * (torch.arange(8.0)[:, None] + torch.arange(8.0))) / 255
        codes = (basis @ blocks @ basis.T / step).round() * step
        blocks = (basis.T @ codes @ basis).transpose(3, 4)
        return self.network(blocks.flatten(4, 5).flatten(2, 3).clamp(0, 1))


@member("Papernot et al. 2016, distillation; broken by Carlini & Wagner 2017")
class Sharpened(Defence):
    """Logits a hundred times too large: cross-entropy is flat."""

    def forward(self, images: Tensor) -> Tensor:
        return 100 * self.network(images)


@member("saturating outputs: Athalye et al. 2018, vanishing gradients")
class Saturated(Defence):
    """Logits through a function that is flat almost everywhere."""

    def forward(self, images: Tensor) -> Tensor:
        logits = self.network(images)
        return torch.tanh(30 * (logits - logits.topk(2)[0].mean(1, keepdim=True)))


@member("wrong gradients: Tramèr et al. 2020; Pintor et al. 2022", both_networks)
class Misled(Defence):
    """Answers of one network, gradients of another."""

    def forward(self, images: Tensor) -> Tensor:
        return with_gradient_of(self.network(images), load_network("other")(images))


def _change_gradient(images: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """The images; what reaches them on the way back is ``change`` of the gradient."""
    seen = images.view_as(images)
    if seen.requires_grad:
        seen.register_hook(change)
    return seen


@member("wrong gradients: Pintor et al. 2022")
class Reversed(Defence):
    """The gradient points the other way."""

    def forward(self, images: Tensor) -> Tensor:
        return self.network(_change_gradient(images, torch.neg))


def _drown(gradient: Tensor) -> Tensor:
    noise = torch.randn(gradient.shape[1:], generator=torch.Generator().manual_seed(1))
    size = gradient.flatten(1).norm(dim=1)[:, None, None, None] / noise.norm()
    return gradient + 20 * size * noise


@member("gradient noise: Athalye et al. 2018, shattered gradients")
class Noisy(Defence):
    """The gradient drowns in a fixed pattern."""

    def forward(self, images: Tensor) -> Tensor:
        return self.network(_change_gradient(images, _drown))


@member("Athalye et al. 2018: a gradient that does not exist")
class Detached(Defence):
    """No gradient reaches the image."""

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images.detach())


@member("numerical instability: Carlini et al. 2019")
class Undefined(Defence):
    """The gradient is not a number."""

    def forward(self, images: Tensor) -> Tensor:
        return self.network(_change_gradient(images, lambda gradient: gradient * torch.nan))


@member("Athalye et al. 2018, gradients cut off in a part of the input")
class Masked(Defence):
    """One value in thirty has a gradient."""

    def forward(self, images: Tensor) -> Tensor:
        mask = torch.rand(images.shape[1:], generator=torch.Generator().manual_seed(2)) < 1 / 30
        return self.network(torch.where(mask, images, images.detach()))


@member("shattered gradients: Athalye et al. 2018, 5.2")
class Rippled(Defence):
    """A ripple of one and a half grey levels on every value: the gradient is true and says nothing."""

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images + 1.5 / 255 * torch.sin(2 * math.pi * 255 / 1.7 * images))


@member("Xiao et al. 2020, k-winners-take-all; broken by Tramèr et al. 2020")
class Winners(Defence):
    """Between the layers only the largest third of the values, stepwise quantised, gets through."""

    def forward(self, images: Tensor) -> Tensor:
        x = 4 * (images - 0.5)
        for layer in self.network.body:
            x = layer(x)
            if not isinstance(layer, torch.nn.Conv2d):
                flat = x.flatten(1)
                least = flat.kthvalue(int(0.6 * flat.shape[1]), dim=1)[0][:, None, None, None]
                x = torch.where(x > least, x.detach() + 0.02 * (x - x.detach()), 0 * x)
        return self.network.head(x.mean((2, 3)))


@member("straight-through blur in the backward pass: Athalye et al. 2018, 5.1")
class Smeared(Defence):
    """Answers as ever; the gradient belongs to a coarse version of the image."""

    def forward(self, images: Tensor) -> Tensor:
        coarse = functional.interpolate(functional.avg_pool2d(images, 8), scale_factor=8.0)
        return self.network(with_gradient_of(images, coarse))
