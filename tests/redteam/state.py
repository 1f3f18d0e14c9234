"""Answers that depend on what was asked before, or beside."""

from __future__ import annotations

import copy

import torch
from torch import Tensor
from torch.nn import functional

from .base import Defence, member, with_gradient_of
from .networks import load_network


@member("answers remembered: Chen et al. 2020, stateful detection; Carlini et al. 2019, caches")
class Remembered(Defence):
    """An image that resembles one seen before gets the earlier answer; the gradient is the network's."""

    def __init__(self) -> None:
        super().__init__()
        self.keys, self.answers = torch.zeros(0, 48), torch.zeros(0, 10)

    def forward(self, images: Tensor) -> Tensor:
        logits = self.network(images)
        keys, answers = functional.avg_pool2d(images.detach(), 8).flatten(1), logits.detach().clone()
        if len(self.keys):
            distance, nearest = torch.cdist(keys, self.keys, p=torch.inf).min(1)
            answers = torch.where((distance < 0.02)[:, None], self.answers[nearest], answers)
            is_new = distance >= 0.02
        else:
            is_new = torch.ones(len(images), dtype=torch.bool)
        self.keys, self.answers = torch.cat([self.keys, keys[is_new]]), torch.cat([self.answers, answers[is_new]])
        return with_gradient_of(answers, logits)


@member("state: Carlini et al. 2019; Croce et al. 2022")
class Tiring(Defence):
    """After the first four hundred images its gradient is another network's."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def forward(self, images: Tensor) -> Tensor:
        self.asked += len(images)
        logits = self.network(images)
        return logits if self.asked <= 400 else with_gradient_of(logits, -load_network("other")(images))


@member("Nandy et al. 2021; Schneider et al. 2020, batch statistics; Croce et al. 2022")
class BatchStatistics(Defence):
    """Features are shifted to the mean and spread of the batch, without a gradient."""

    def __init__(self) -> None:
        super().__init__()
        from data_prep.shapes import make_shapes
        from sdnet_core.augment import to_images

        images = to_images(torch.from_numpy(make_shapes("train", n=200).pixels))
        features = load_network("plain").features(images)
        self.mean, self.spread = features.mean(0), features.std(0)

    def forward(self, images: Tensor) -> Tensor:
        features = self.network.features(images)
        weight = len(images) / (len(images) + 8)
        mean = weight * features.mean(0) + (1 - weight) * self.mean
        spread = weight * features.std(0, unbiased=False) + (1 - weight) * self.spread
        scaled = (features - mean) / (spread + 1e-3) * self.spread + self.mean
        return self.network.head(with_gradient_of(scaled, features.flip(1)))


@member("transductive defences: Wu et al. 2020; broken by Chen et al. 2022; Croce et al. 2022")
class Neighbours(Defence):
    """The answers of a batch are spread evenly over the classes: who stands next to an image decides, too."""

    def forward(self, images: Tensor) -> Tensor:
        logits = self.network(images)
        return logits + 0.4 * (logits.detach().roll(1, 0) - logits.detach().mean(0))


@member("Wang et al. 2021, Tent/Dent; broken by Croce et al. 2022")
class Adapted(Defence):
    """Lowers the entropy of every batch by steps on its last layer, and keeps them."""

    def __init__(self) -> None:
        super().__init__()
        self.head = copy.deepcopy(self.network.head)

    def forward(self, images: Tensor) -> Tensor:
        features = self.network.features(images)
        with torch.enable_grad():
            weight = self.head.weight.detach().clone().requires_grad_(True)
            logits = functional.linear(features.detach(), weight, self.head.bias)
            entropy = -(functional.softmax(logits, 1) * functional.log_softmax(logits, 1)).sum(1).mean()
            (gradient,) = torch.autograd.grad(entropy, weight)
        self.head.weight = torch.nn.Parameter((weight - 0.05 * gradient).detach(), requires_grad=False)
        return 4 * self.head(features)
