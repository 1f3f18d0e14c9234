"""Small problems for attacks, and their way through the harness."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from data_prep import ImageSet, load_images
from robustness.analysis.frames import Run
from robustness.attack import Attack
from robustness.measure.craft import Crafted, Stage, craft
from robustness.measure.measurement import Measurement
from robustness.measure.stages import list_stages
from robustness.measure.subjects import Subject
from robustness.measure.victims import Victim
from robustness.options import RunOptions
from robustness.run_directory import RunDirectory
from robustness.suite import Suite
from sdnet_core import build_model

CPU = torch.device("cpu")
SHAPE = (3, 8, 8)


class Linear(nn.Module):
    """Two classes with logits ∓⟨w, x − ½⟩: the sign of the inner product decides."""

    def __init__(self, weight: Tensor, classes: int = 2) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.classes = classes
        self.training = False

    def forward(self, images: Tensor) -> Tensor:
        margin = ((images - 0.5) * self.weight).flatten(1).sum(1)
        others = torch.full((len(images), self.classes - 2), -50.0)
        return torch.cat([torch.stack([-margin, margin], 1), others], 1)


def linear_problem(n: int = 40) -> tuple[Linear, Tensor, Tensor, Tensor]:
    """A linear model, images away from 0 and 1, their labels, and margins |⟨w, x − ½⟩|."""
    generator = torch.Generator().manual_seed(0)
    model = Linear(torch.randn(SHAPE, generator=generator))
    images = 0.5 + 0.1 * (torch.rand((n, *SHAPE), generator=generator) - 0.5)
    margin = ((images - 0.5) * model.weight.detach()).flatten(1).sum(1)
    return model, images, (margin > 0).long(), margin.abs()


def run(
    model: nn.Module, attack: Attack, images: Tensor, labels: Tensor, classes: int = 2, **options: object
) -> Crafted:
    stages = list_stages(attack, model, num_classes=classes, seed=0)
    settings = {"norm": attack.norm, "eps": attack.eps, "batch_size": attack.batch_size, "seed": 0, "device": CPU}
    return craft(model, stages, images, labels, **{**settings, **options})


def measure(
    suite: Suite, subjects: list[Subject], images: ImageSet, folder: Path, **options: object
) -> tuple[Measurement, Run]:
    """A suite, measured on the CPU into a folder, and its run."""
    directory = RunDirectory(folder)
    directory.create()
    measurement = Measurement(suite, subjects, images, None, directory, CPU, **{"batch_size": 16, **options})
    measurement.find_done()
    measurement.run(RunOptions())
    return measurement, Run.open(directory)


def half_breaker(half: int) -> Stage:
    """Breaks the images whose index, written into their first pixel, is even or odd."""

    def perturb(images: Tensor, labels: Tensor) -> Tensor:
        moved = images.clone()
        chosen = (images[:, 0, 0, 0] * 1000).round().long() % 2 == half
        moved[chosen, 0, 0, 1] = 1.0
        return moved

    return Stage(f"half-{half}", perturb)


class Marked(nn.Module):
    """Answers 1 where the second pixel is 1, otherwise 0."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.stack([torch.full((len(images),), 0.5), images[:, 0, 0, 1]], 1)


def marked_problem(n: int = 20) -> tuple[Tensor, Tensor]:
    images = torch.zeros((n, *SHAPE))
    images[:, 0, 0, 0] = torch.arange(n) / 1000
    return images, torch.zeros(n, dtype=torch.int64)


def small_victim(arch: str = "resnet18", lam: float | None = None, classes: int = 10) -> tuple[Victim, Tensor, Tensor]:
    """An untrained small network and images of the classes that it answers: right on all of them."""
    torch.manual_seed(0)
    network = build_model(arch, width=4, num_classes=classes).eval()
    images = torch.from_numpy(load_images("shapes", split="test").pixels[:12]).permute(0, 3, 1, 2).float() / 255
    images = images.contiguous()
    with torch.no_grad():
        network.linear.bias -= network(images).mean(0)
    victim = Victim(network, lam)
    return victim, images, victim(images).argmax(1).detach()


class TinyConvolution(nn.Module):
    """Five classes from 8 × 8 pixels: as cheap as a model with a curved boundary can be."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convolution, self.linear = nn.Conv2d(3, 8, 3), nn.Linear(8 * 36, 5)
        self.training = False

    def forward(self, images: Tensor) -> Tensor:
        return self.linear(self.convolution(images).relu().flatten(1))


def curved_problem(n: int = 24, seed: int = 1) -> tuple[TinyConvolution, Tensor, Tensor]:
    """Random images, and a small model's answers to them for labels."""
    model = TinyConvolution()
    images = torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(seed))
    return model, images, model(images).argmax(1).detach()
