"""The small networks that the zoo is made of; ``PYTHONPATH=tests python -m redteam.networks`` trains them on shapes.

Each has about 20,000 parameters, so that a whole zoo is attacked on a CPU. Their weights are in ``weights/``.
"""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from data_prep.shapes import make_shapes
from sdnet_core.augment import to_images

CLASSES = 10
WEIGHTS = Path(__file__).parent / "weights"
_BATCH = 64
_ADVERSARIAL_EPS, _ADVERSARIAL_STEPS = 4 / 255, 3


class Convolutions(nn.Module):
    """Three convolutions and a mean over the plane; ``features`` (N, F), ``head`` makes logits of them."""

    def __init__(self, activation: nn.Module, widths: tuple[int, int, int] = (16, 24, 40), kernel: int = 3) -> None:
        super().__init__()
        first, second, third = widths
        self.body = nn.Sequential(
            nn.Conv2d(3, first, 4, stride=2, padding=1),
            activation,
            nn.Conv2d(first, second, kernel, padding=kernel // 2),
            activation,
            nn.Conv2d(second, third, kernel, stride=2, padding=kernel // 2),
            activation,
        )
        self.head = nn.Linear(third, CLASSES)

    def features(self, images: Tensor) -> Tensor:
        return self.body(4 * (images - 0.5)).mean((2, 3))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))


class Transformer(nn.Module):
    """Patches of 4 × 4 pixels, two layers of attention, a mean over the tokens."""

    def __init__(self, width: int = 40) -> None:
        super().__init__()
        self.patches = nn.Sequential(nn.Conv2d(3, width, 6, stride=4, padding=1), nn.GELU(), nn.Conv2d(width, width, 1))
        self.places = nn.Parameter(0.02 * torch.randn(1, 64, width))
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.0, activation="gelu", batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.patches(4 * (images - 0.5)).flatten(2).transpose(1, 2)
        return self.head(self.layers(tokens + self.places).mean(1))


BUILDERS = {
    "plain": lambda: Convolutions(nn.ReLU()),
    "other": lambda: Convolutions(nn.LeakyReLU(0.1), (12, 20, 36), kernel=5),
    "small": lambda: Convolutions(nn.ReLU(), (8, 12, 16)),
    "smooth": lambda: Convolutions(nn.Softplus(beta=4)),
    "robust": lambda: Convolutions(nn.ReLU()),
    "transformer": lambda: Transformer(),
}
EPOCHS = {"plain": 10, "other": 7, "small": 10, "smooth": 3, "robust": 4, "transformer": 10}
STARTS = {"smooth": "plain", "robust": "plain"}
"""Networks that start from the weights of another."""


@cache
def load_network(name: str) -> nn.Module:
    """A trained network, frozen; the same one every time: who changes it takes a copy."""
    with torch.inference_mode(False):  # whoever asks first may be in it
        network = BUILDERS[name]().eval()
        network.load_state_dict(load_file(WEIGHTS / f"{name}.safetensors"))
    return network.requires_grad_(False)


def train(name: str, images: Tensor, labels: Tensor) -> nn.Module:
    """Cross-entropy, Adam, one cycle; ``robust`` sees PGD's images instead."""
    torch.manual_seed(list(BUILDERS).index(name))
    network = BUILDERS[name]()
    if name in STARTS:
        network.load_state_dict(load_network(STARTS[name]).state_dict())
    steps = EPOCHS[name] * (len(images) // _BATCH)
    optimiser = torch.optim.AdamW(network.parameters(), weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 8e-3 if name != "transformer" else 3e-3, steps)
    for epoch in range(EPOCHS[name]):
        for chosen in torch.randperm(len(images)).split(_BATCH)[: len(images) // _BATCH]:
            x, y = images[chosen], labels[chosen]
            if name == "robust":
                x = _perturb(network, x, y)
            optimiser.zero_grad()
            functional.cross_entropy(network(x), y).backward()
            optimiser.step()
            schedule.step()
        print(name, epoch, flush=True)
    return network.eval()


def _perturb(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    delta = _ADVERSARIAL_EPS * (2 * torch.rand_like(x) - 1)
    for _ in range(_ADVERSARIAL_STEPS):
        delta.requires_grad_(True)
        (gradient,) = torch.autograd.grad(functional.cross_entropy(network((x + delta).clamp(0, 1)), y), delta)
        delta = (delta + 0.5 * _ADVERSARIAL_EPS * gradient.sign()).detach().clamp(-_ADVERSARIAL_EPS, _ADVERSARIAL_EPS)
    return (x + delta).clamp(0, 1)


def main(names: list[str]) -> None:
    """Train ``names``, or all, and store them."""
    WEIGHTS.mkdir(exist_ok=True)
    train_set, test_set = make_shapes("train"), make_shapes("test", n=500)
    x, y = to_images(torch.from_numpy(train_set.pixels)).contiguous(), torch.from_numpy(train_set.labels)
    x_test, y_test = to_images(torch.from_numpy(test_set.pixels)).contiguous(), torch.from_numpy(test_set.labels)
    for name in names or list(BUILDERS):
        network = train(name, x, y)
        with torch.no_grad():
            accuracy = (network(x_test).argmax(1) == y_test).float().mean()
        save_file(network.state_dict(), WEIGHTS / f"{name}.safetensors")
        print(f"{name}: {accuracy:.1%} of {len(y_test)}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
