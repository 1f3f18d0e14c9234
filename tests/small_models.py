"""Small models of torch, and the source of one in a file: for the tests of models from elsewhere."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from robustness.measure.loaders.loaded import Wanted

CPU = torch.device("cpu")
IMAGES = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
WANTED = Wanted(num_classes=10, image_size=(8, 8))
OPTIONS = {"wanted": WANTED, "device": CPU}

BUILDER = """
from torch import nn

class Wrapped(nn.Module):
    def __init__(self):
        super().__init__()
        self.network = nn.Sequential(nn.Flatten(), nn.Linear(192, 10))

    def forward(self, images):
        return self.network((images - 0.5) / 0.25)

def bare():
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 10))

def wrapped():
    return Wrapped()
"""


class Tiny(nn.Module):
    """A convolution, a BatchNorm and a linear layer; ``lam`` is taken off the images."""

    def __init__(self, classes: int = 10, width: int = 4) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, width, 3), nn.BatchNorm2d(width)
        self.linear, self.lam = nn.Linear(width, classes), 0.25

    def forward(self, images: Tensor, lam: float) -> Tensor:
        return self.linear(self.norm(self.convolution(images - lam)).relu().mean((2, 3)))


class Plain(nn.Module):
    """As :class:`Tiny`, without a knob."""

    def __init__(self, classes: int = 10, width: int = 4) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, width, 3), nn.BatchNorm2d(width)
        self.linear = nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.linear(self.norm(self.convolution(images)).relu().mean((2, 3)))


class ByBrightness(nn.Module):
    """Ten classes by the mean of the image times ``span``; the next classes are the nearest."""

    def __init__(self, span: float = 10.0) -> None:
        super().__init__()
        self.span = nn.Parameter(torch.tensor(span))

    def forward(self, images: Tensor) -> Tensor:
        shown = images.mean((1, 2, 3)) * self.span
        return -((torch.arange(10) + 0.5 - shown[:, None]) ** 2)


def make(kind: type[nn.Module] = Plain, **options: int) -> nn.Module:
    torch.manual_seed(0)
    return kind(**options).eval()


def quiet(function: Callable[[], object]) -> object:
    import warnings

    with warnings.catch_warnings(action="ignore"):
        return function()
