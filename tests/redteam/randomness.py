"""Randomness at test time: of the input, the weights, what is dropped, who answers."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional

from .base import Defence, both_networks, member
from .networks import load_network


@member("Xie et al. 2018, random resizing and padding; broken by Athalye et al. 2018, EOT")
class Resized(Defence):
    def forward(self, images: Tensor) -> Tensor:
        size = int(torch.randint(26, 33, ()))
        left, top = (int(torch.randint(0, 33 - size, ())) for _ in range(2))
        small = functional.interpolate(images, size=(size, size), mode="bilinear", align_corners=False)
        return self.network(functional.pad(small, (left, 32 - size - left, top, 32 - size - top), value=0.5))


@member("noise on the input: Athalye et al. 2018; Carlini et al. 2019")
class InputNoise(Defence):
    def forward(self, images: Tensor) -> Tensor:
        return self.network(images + 0.03 * torch.randn_like(images))


@member("noise on the weights: He et al. 2019, PNI; Carlini et al. 2019")
class WeightNoise(Defence):
    def forward(self, images: Tensor) -> Tensor:
        network = copy.deepcopy(self.network)
        for weight in network.parameters():
            weight.add_(0.12 * weight.std(unbiased=False) * torch.randn_like(weight))
        return network(images)


@member("Dhillon et al. 2018, stochastic activation pruning; broken by Athalye et al. 2018")
class Dropped(Defence):
    def forward(self, images: Tensor) -> Tensor:
        x = 4 * (images - 0.5)
        for layer in self.network.body:
            x = layer(x)
            if not isinstance(layer, nn.Conv2d):
                x = functional.dropout(x, 0.15, training=True)
        return self.network.head(x.mean((2, 3)))


@member("random member of an ensemble: Carlini et al. 2019; Tramèr et al. 2020", both_networks)
class RandomMember(Defence):
    def forward(self, images: Tensor) -> Tensor:
        others = (self.network(images), load_network("other")(images), load_network("small")(images))
        logits = torch.stack(others)
        return logits[torch.randint(3, (len(images),)), torch.arange(len(images))]


@member("Pang et al. 2020, mixup inference; broken by Tramèr et al. 2020")
class Mixed(Defence):
    """Mixed with noise images and averaged over four of them."""

    def forward(self, images: Tensor) -> Tensor:
        mixed = [self.network(0.75 * images + 0.25 * torch.rand_like(images[:1])) for _ in range(4)]
        return torch.stack(mixed).mean(0)
