"""Any classifier, any images, one call: ``python examples/one_call.py``.

A network of two layers is trained for a few seconds on drawn shapes and measured next to a shipped ResNet-18.
"""

from __future__ import annotations

import torch
from torch import nn

import robustness
from data_prep import load_images


def train(steps: int = 300) -> nn.Module:
    """A small network, trained on the training split of the shapes."""
    torch.manual_seed(0)
    images = load_images("shapes", split="train").subset(2000)
    pixels = torch.from_numpy(images.pixels).permute(0, 3, 1, 2) / 255
    labels = torch.from_numpy(images.labels)
    net = nn.Sequential(
        nn.Conv2d(3, 16, 5, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(5), nn.Flatten(), nn.LazyLinear(10)
    )
    net(pixels[:2])
    optimiser = torch.optim.Adam(net.parameters(), lr=3e-3)
    for step in range(steps):
        batch = torch.arange(64 * step, 64 * step + 64) % len(pixels)
        optimiser.zero_grad()
        nn.functional.cross_entropy(net(pixels[batch]), labels[batch]).backward()
        optimiser.step()
    return net


def main(steps: int = 300, n: int = 200) -> robustness.Run:
    """Train, measure, and show what came out."""
    run = robustness.evaluate(
        {"mine": train(steps), "base": "resnet18-shapes"},
        data="shapes",
        corruptions=["gaussian_noise", "contrast"],
        severities=[1, 3, 5],
        n=n,
        baseline="base",
    )
    print(run.headline)
    print(run.summary[["perturbation", "model", "accuracy", "ci_low", "ci_high", "versus"]].round(3).to_string())
    return run


if __name__ == "__main__":
    print(main().report("report.html"))
