"""The image is cleaned before it is answered, out of the gradient's sight."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from data_prep.shapes import make_shapes
from sdnet_core.augment import to_images

from .base import Defence, member, with_gradient_of


def median_filter(images: Tensor) -> Tensor:
    """The median of each 3 × 3 window; its gradient is the gradient of the value in the middle."""
    padded = functional.pad(images, (1, 1, 1, 1), mode="reflect")
    return padded.unfold(2, 3, 1).unfold(3, 3, 1).flatten(4).median(4)[0]


@member("median smoothing: Xu et al. 2018; broken by He et al. 2017; Athalye et al. 2018, BPDA")
class HiddenMedian(Defence):
    """A median filter whose gradient is cut off, beside one of the mean that is nearly nothing."""

    def forward(self, images: Tensor) -> Tensor:
        hidden = median_filter(images.detach())
        return self.network(with_gradient_of(hidden, 1e-3 * images.mean((2, 3), keepdim=True).expand_as(images)))


@member("Guo et al. 2018, total variation; broken by Athalye et al. 2018")
class Smoothed(Defence):
    """A few steps down the total variation, without a gradient."""

    @torch.no_grad()
    def _smooth(self, images: Tensor) -> Tensor:
        x = images.clone()
        for _ in range(4):
            right, below = x.roll(-1, 3) - x, x.roll(-1, 2) - x
            slope = torch.tanh(40 * right) + torch.tanh(40 * below)
            x = x + 0.002 * (slope - torch.tanh(40 * right).roll(1, 3) - torch.tanh(40 * below).roll(1, 2))
        return x

    def forward(self, images: Tensor) -> Tensor:
        return self.network(self._smooth(images.detach()) + 0 * images)


@cache
def _components(count: int = 200) -> tuple[Tensor, Tensor]:
    with torch.inference_mode(False):
        images = to_images(torch.from_numpy(make_shapes("train", n=300).pixels)).flatten(1)
        mean = images.mean(0)
        return mean, torch.linalg.svd(images - mean, full_matrices=False)[2][:count]


@member("Hendrycks & Gimpel 2017, Bhagoji et al. 2018, principal components; broken by Carlini & Wagner 2017")
class Projected(Defence):
    """Most of what principal components leave out is removed; the gradient sees that part alone."""

    def forward(self, images: Tensor) -> Tensor:
        mean, basis = _components()
        flat = images.flatten(1) - mean
        rest = (flat - (flat @ basis.T) @ basis).view_as(images)
        return self.network(images.detach() - 0.8 * rest.detach() + 0.2 * (rest - rest.detach()))


@member("Alfarra et al. 2022, anti-adversary; broken by Croce et al. 2022")
class AntiAdversary(Defence):
    """Moves the image towards what the network says of it, then answers; the move has no gradient."""

    def forward(self, images: Tensor) -> Tensor:
        return self.network(self._move(images))

    def _move(self, images: Tensor) -> Tensor:
        with torch.enable_grad():
            x = images.detach()
            label = self.network(x).argmax(1)
            for _ in range(2):
                x.requires_grad_(True)
                (gradient,) = torch.autograd.grad(functional.cross_entropy(self.network(x), label, reduction="sum"), x)
                x = (x - 6 / 255 * gradient.sign()).detach()
        return with_gradient_of(x, images)


@member("Mao et al. 2021, Yoon et al. 2021, purification by an own loss; broken by Croce et al. 2022")
class Reversing(Defence):
    """Steps that make the answers to the image and to its mirror image alike, without a gradient."""

    def forward(self, images: Tensor) -> Tensor:
        with torch.enable_grad():
            x = images.detach()
            for _ in range(3):
                x.requires_grad_(True)
                difference = self.network(x) - self.network(x.flip(3))
                (gradient,) = torch.autograd.grad(difference.square().sum(), x)
                x = (x - 3 / 255 * gradient.sign()).detach()
        return self.network(with_gradient_of(x, images.flip(2)))


@member("Samangouei et al. 2018, Defense-GAN; broken by Athalye et al. 2018")
class Dithered(Defence):
    """Error diffusion to few levels along the rows: what comes out hardly depends on one value."""

    @torch.no_grad()
    def _dither(self, images: Tensor) -> Tensor:
        carry, columns = torch.zeros_like(images[..., 0]), []
        for column in (images * 12).unbind(3):
            wanted = column + carry
            columns.append(wanted.round())
            carry = wanted - columns[-1]
        return torch.stack(columns, 3) / 12

    def forward(self, images: Tensor) -> Tensor:
        dithered = functional.avg_pool2d(self._dither(images.detach()), 3, 1, 1)
        return self.network(0.5 * dithered + 0.5 * images.detach() + 1e-6 * images)
