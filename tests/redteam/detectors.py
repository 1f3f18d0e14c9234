"""Detectors and switches: an image that looks wrong is answered by somebody else."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from .base import Defence, both_networks, member
from .losses import fine_energy
from .networks import load_network
from .purification import median_filter


def switch(suspicious: Tensor, logits: Tensor, otherwise: Tensor) -> Tensor:
    """The logits of each image, or others where it is suspicious (N,)."""
    return torch.where(suspicious[:, None], otherwise, logits)


@member("off the grid of 8 bits: Pintor et al. 2022; Carlini et al. 2019", both_networks)
class OffGrid(Defence):
    """Images that are not of whole grey levels go to another network."""

    def forward(self, images: Tensor) -> Tensor:
        levels = 255 * images.detach()
        is_off = (levels - levels.round()).abs().flatten(1).mean(1) > 0.01
        return switch(is_off, self.network(images), load_network("other")(images))


@member("switch by confidence: Carlini & Wagner 2017, detectors; Tramèr 2022", both_networks)
class Unsure(Defence):
    """Another network answers where the first is unsure; all gradients are true."""

    def forward(self, images: Tensor) -> Tensor:
        logits = self.network(images)
        unsure = functional.softmax(logits.detach(), 1).max(1)[0] < 0.9
        return switch(unsure, logits, load_network("other")(images))


@member("median of shifted images where it is unsure: Xu et al. 2018; Tramèr et al. 2020", both_networks)
class UnsureMedian(Defence):
    """The median over filtered and shifted images counts where the network is unsure."""

    def forward(self, images: Tensor) -> Tensor:
        logits = self.network(images)
        unsure = functional.softmax(logits.detach(), 1).max(1)[0] < 0.9
        filtered = median_filter(images)
        votes = torch.stack([self.network(filtered.roll((a, b), (2, 3))) for a, b in ((0, 0), (0, 2), (2, 0))])
        return switch(unsure, logits, votes.median(0)[0])


@member("Xu et al. 2018, feature squeezing; broken by He et al. 2017", both_networks)
class Squeezed(Defence):
    """An image that is answered otherwise at four bits is answered by another network."""

    def forward(self, images: Tensor) -> Tensor:
        logits = self.network(images)
        with torch.no_grad():
            squeezed = self.network((images * 15).round() / 15)
            distance = (functional.softmax(logits, 1) - functional.softmax(squeezed, 1)).abs().sum(1)
        return switch(distance > 0.3, logits, load_network("other")(images.detach()))


@member("detection by fine noise: Metzen et al. 2017; broken by Carlini & Wagner 2017", both_networks)
class Energetic(Defence):
    """More fine detail than clean images have: a blurred image is shown to another network, without a gradient."""

    def forward(self, images: Tensor) -> Tensor:
        suspicious = fine_energy(images.detach()) > 1.5e-3
        blurred = functional.avg_pool2d(images.detach(), 3, 1, 1)
        return switch(suspicious, self.network(images), load_network("other")(blurred))


@member("agreement of two networks: Tramèr et al. 2020; Croce & Hein 2020", both_networks)
class Disputed(Defence):
    """A third network answers where two disagree; its gradient is hidden by large logits."""

    def forward(self, images: Tensor) -> Tensor:
        logits, others = self.network(images), load_network("other")(images)
        disputed = logits.argmax(1) != others.argmax(1)
        return switch(disputed, logits, 300 * load_network("small")(images))
