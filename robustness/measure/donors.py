"""Adversarial images crafted on other networks, which can also fool a model whose own gradient is useless.

Source: Carlini et al., *On Evaluating Adversarial Robustness*, 2019, section 5.5; Papernot et al., *Practical Black-Box
Attacks against Machine Learning*, 2017 (surrogates).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from robustness.attack import Attack
from robustness.measure.stages import list_stages
from sdnet_core import load_model, read_card, shipped_models, weights_fingerprint

NETWORKS = 2
"""Number of donor networks; each costs a few passes."""
_LEAST_ACCURACY, _LOOKED_AT = 0.6, 50
_VIEWS, _NOISE, _STEPS, _BATCH, _RATE = 3, 0.04, 240, 50, 4e-3
_SIDE = 64
_STEPS_ELSEWHERE = 4


class Jury(nn.Module):
    """Mean log-probabilities of several networks, and the images crafted on the mean so far.

    Args:
        networks: images in [0, 1] to logits, frozen and in eval mode.
        num_classes: number of classes, the same for all networks.
    """

    def __init__(self, networks: Sequence[nn.Module], num_classes: int) -> None:
        super().__init__()
        self.networks, self.num_classes = nn.ModuleList(networks), num_classes
        self.training = False
        self._crafted: dict[tuple[str, float, int], Tensor] = {}

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n k"]:
        """Compute log-probabilities of images in [0, 1]."""
        return torch.stack([functional.log_softmax(network(images), 1) for network in self.networks]).mean(0)

    def craft(
        self,
        chosen: Int[Tensor, " m"],
        images: Float[Tensor, "n 3 h w"],
        labels: Int[Tensor, " n"],
        *,
        norm: str,
        eps: float,
        device: torch.device,
    ) -> Float[Tensor, "m 3 h w"]:
        """Craft adversarial versions of ``images[chosen]``, on the CPU: four steps with momentum from the image.

        Nothing is random, so an image's result does not depend on the rest of its batch and is shared by all victims.
        """
        missing = torch.tensor([i for i in chosen.tolist() if (norm, eps, i) not in self._crafted], dtype=torch.int64)
        if len(missing):
            linf = ("MIFGSM", {"steps": _STEPS_ELSEWHERE, "alpha": eps / 2})
            name, options = linf if norm == "linf" else ("pgd", {})
            search = Attack(name=name, norm=norm, eps=eps, steps=_STEPS_ELSEWHERE, random_start=False, options=options)
            (stage,) = list_stages(search, self, num_classes=self.num_classes, seed=0, leave_early=False)
            moved = stage.perturb(images[missing].to(device), labels[missing].to(device)).detach().cpu()
            self._crafted |= {(norm, eps, i): one for i, one in zip(missing.tolist(), moved, strict=True)}
        return torch.stack([self._crafted[norm, eps, i] for i in chosen.tolist()])


def shipped_donors(num_classes: int, size: tuple[int, int]) -> list[str]:
    """List the shipped networks for so many classes and images of that height and width."""
    return [name for name in shipped_models() if read_card(name).config.num_classes == num_classes and size == (32, 32)]


@torch.no_grad()
def find_donors(
    images: Float[Tensor, "n 3 h w"],
    labels: Int[Tensor, " n"],
    *,
    num_classes: int,
    besides: str,
    others: Sequence[nn.Module],
    device: torch.device,
) -> Jury | None:
    """Find the first networks that are right about most of the images; None if no network is.

    Args:
        images: clean images in [0, 1], on the CPU.
        labels: classes of the images.
        num_classes: number of classes of the data set.
        besides: fingerprint of the weights of the model under test, which cannot be its own donor.
        others: other models of the run, on ``device``, which replace shipped networks.
        device: device for the donors.
    """
    shipped = shipped_donors(num_classes, (images.shape[2], images.shape[3]))
    loaded = (load_model(name).eval().requires_grad_(False) for name in shipped)
    candidates = others or (network.to(device) for network in loaded if weights_fingerprint(network) != besides)
    able = (network for network in candidates if _is_able(network, images[:_LOOKED_AT].to(device), labels))
    donors = list(itertools.islice(able, NETWORKS))
    return Jury(donors, num_classes) if donors else None


def _is_able(network: nn.Module, images: Tensor, labels: Tensor) -> bool:
    right = network(images).argmax(1).cpu() == labels[: len(images)]
    return float(right.float().mean()) >= _LEAST_ACCURACY


class _Surrogate(nn.Module):
    """Four convolutions over at most 64 × 64 pixels."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 24, 3, 2, 1),
            nn.SiLU(),
            nn.Conv2d(24, 32, 3, 1, 1),
            nn.SiLU(),
            nn.Conv2d(32, 48, 3, 2, 1),
            nn.SiLU(),
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
            nn.Linear(48 * 16, num_classes),
        )

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n k"]:
        """Compute the logits of images in [0, 1]."""
        if max(images.shape[2:]) > _SIDE:
            images = functional.adaptive_avg_pool2d(images, _SIDE)
        return self.layers(4 * (images - 0.5))  # type: ignore[no-any-return]


def distil(
    victim: nn.Module, images: Float[Tensor, "n 3 h w"], *, num_classes: int, seed: int, device: torch.device
) -> Jury:
    """Train a small network to imitate ``victim`` on and around ``images``, with 3 evaluations of it per image.

    It learns the logits of every view, scaled to mean 0 and spread 1, and the class, from the images as they are and
    from noisy ones (σ = 0.04). Even a model whose logits are counts, or huge, thus gets a surrogate with a gradient.
    """
    generator = torch.Generator().manual_seed(seed)
    noise = _NOISE * torch.randn((_VIEWS - 1, *images.shape), generator=generator)
    views = torch.cat([images, (images + noise).clamp(0, 1).flatten(0, 1)])
    with torch.no_grad():
        logits = torch.cat([victim(x.to(device)).float() for x in torch.split(views, 100)])
    logits = logits.nan_to_num(0, 0, 0)
    spread = (logits - logits.mean(1, keepdim=True)) / logits.std(1, keepdim=True).clamp(min=1e-12)
    classes = logits.argmax(1)
    with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.enable_grad():
        torch.manual_seed(seed)
        surrogate = _Surrogate(num_classes).to(device)
        optimiser = torch.optim.AdamW(surrogate.parameters(), lr=_RATE)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, _STEPS)
        for _ in range(_STEPS):
            chosen = torch.randint(len(views), (_BATCH,), generator=generator)
            answers = surrogate(views[chosen].to(device))
            wanted = chosen.to(device)
            loss = functional.mse_loss(answers, spread[wanted]) + functional.cross_entropy(answers, classes[wanted])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
    return Jury([surrogate.eval().requires_grad_(False)], num_classes)
