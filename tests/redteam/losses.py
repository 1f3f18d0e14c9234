"""Outputs on which cross-entropy, or one attack's loss, goes astray; gradients are true unless said otherwise."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from .base import Defence, member

CODE_BITS = 24


def pattern(seed: int, shape: tuple[int, ...] = (3, 32, 32)) -> Tensor:
    """A fixed pattern of ±1."""
    return torch.randint(2, shape, generator=torch.Generator().manual_seed(seed)) * 2.0 - 1


def fine_energy(images: Tensor) -> Tensor:
    """Mean square of what a 2 × 2 mean takes away, (N,)."""
    coarse = functional.interpolate(functional.avg_pool2d(images, 2), scale_factor=2.0)
    return (images - coarse).square().mean((1, 2, 3))


@member("shattered by a fast oscillation: Athalye et al. 2018; Pintor et al. 2022")
class Sine(Defence):
    """A sine of high frequency on the logits."""

    def forward(self, images: Tensor) -> Tensor:
        patterns = torch.stack([pattern(10 + k) for k in range(10)])
        return self.network(images) + torch.sin(300 * (images[:, None] * patterns).sum((2, 3, 4)))


@member("loss that falls without changing the class: Carlini et al. 2019; Croce & Hein 2020")
class Temperature(Defence):
    """The logits shrink as fine detail grows: cross-entropy goes after the detail and leaves the class."""

    def forward(self, images: Tensor) -> Tensor:
        return 3 * self.network(images) / (0.05 + 3e4 * fine_energy(images))[:, None]


@member("flat cross-entropy: Carlini & Wagner 2017; Croce & Hein 2020, gradient masking by large margins")
class Plateau(Defence):
    """The largest logit is raised by 150: softmax says exactly one."""

    def forward(self, images: Tensor) -> Tensor:
        logits = self.network(images)
        return logits + 150 * functional.one_hot(logits.argmax(1), logits.shape[1])


@member("misdirected loss: Tramèr et al. 2020, section 5; Shan et al. 2020, trapdoors")
class Decoy(Defence):
    """The least likely class is always a close second, and runs after a pattern; it never wins."""

    def forward(self, images: Tensor) -> Tensor:
        logits = self.network(images)
        top = logits.max(1)[0]
        lure = torch.sin(100 * (images * pattern(3)).sum((1, 2, 3)))
        second = top - 0.3 + 0.2 * lure
        return logits.scatter(1, logits.argmin(1, keepdim=True), second[:, None])


@member("Verma & Swami 2019, error-correcting codes; broken by Tramèr et al. 2020")
class Codes(Defence):
    """Saturated bits, compared with the code of every class."""

    def forward(self, images: Tensor) -> Tensor:
        logits = self.network(images)
        codes = pattern(4, (logits.shape[1], CODE_BITS))
        bits = torch.tanh(40 * functional.softmax(2 * logits, 1) @ codes)
        return 5 * bits @ codes.T


@member("probabilities where logits are expected: Carlini et al. 2019")
class Probabilities(Defence):
    """Softmax outputs of sharp logits."""

    def forward(self, images: Tensor) -> Tensor:
        return functional.softmax(8 * self.network(images), 1)


@member("Pang et al. 2019/2020, outputs of bounded size; Tramèr et al. 2020")
class Crowded(Defence):
    """All logits within a hair of each other, with a noise floor of rounding: gradients drown."""

    def forward(self, images: Tensor) -> Tensor:
        logits = functional.normalize(self.network(images), dim=1)
        return 1000 + (logits * 512).round() / 512 + 1e-4 * logits
