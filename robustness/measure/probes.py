"""What is tried beside an attack, to find out whether its failure can be believed.

Source: Carlini et al., *On Evaluating Adversarial Robustness*, 2019; Athalye, Carlini & Wagner, ICML 2018; Croce &
Hein, ICML 2020, section 6.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from robustness.attack import Attack
from robustness.measure.craft import craft
from robustness.measure.stages import list_stages

LONG_STEPS = 100
SQUARE_QUERIES = 300
_UNBOUNDED_STEPS = 20
NOT_TRIED = -1


@dataclass(frozen=True)
class Probes:
    """One value per image, in the order of the images.

    zero_gradient: float32 (N,), share of exact zeros in ∇ₓ cross-entropy at the clean image; NaN where it was wrong.
    unbounded, long, square: int8 (N,): 1 the image withstood it, 0 it did not, −1 it was not tried. They are PGD with
    ε = 1 on images that were right; PGD with 100 steps, and Square with 300 queries, on images that withstood the
    attack, within its budget.
    """

    zero_gradient: NDArray[np.float32]
    unbounded: NDArray[np.int8]
    long: NDArray[np.int8]
    square: NDArray[np.int8]

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays by name."""
        return {name: np.asarray(value) for name, value in vars(self).items()}


@dataclass(frozen=True)
class ModelProbes:
    """The part of :class:`Probes` that does not depend on the attack: measured once per model and λ."""

    zero_gradient: NDArray[np.float32]
    unbounded: NDArray[np.int8]


@dataclass(frozen=True)
class Prober:
    """Tries the probes on a victim.

    Args:
        victim: images to logits, frozen and in eval mode.
        images: clean images float32 (N, 3, H, W) in [0, 1], on the CPU.
        labels: (N,).
        num_classes: of the victim.
        limit: images for each probe; the first ones that qualify.
        batch_size: images that are attacked together.
        seed: of the random starts.
        device: where the victim is.
    """

    victim: nn.Module
    images: Tensor
    labels: Tensor
    num_classes: int
    limit: int
    batch_size: int
    seed: int
    device: torch.device

    def probe_model(self) -> ModelProbes:
        """Look at the gradient of every image that is right, and attack some of them without a bound."""
        share = np.full(len(self.labels), np.nan, np.float32)
        right = []
        for chosen in torch.split(torch.arange(len(self.labels)), self.batch_size):
            x = self.images[chosen].to(self.device).requires_grad_(True)
            y = self.labels[chosen].to(self.device)
            logits = self.victim(x)
            gradient = torch.zeros_like(x)
            if logits.requires_grad:
                loss = functional.cross_entropy(logits, y, reduction="sum")
                (found,) = torch.autograd.grad(loss, x, allow_unused=True)
                gradient = gradient if found is None else found
            is_right = (logits.max(1)[1] == y).cpu()
            zeros = (gradient == 0).flatten(1).float().mean(1).cpu()
            share[chosen[is_right]] = zeros[is_right]
            right.append(chosen[is_right])
        unbounded = Attack(name="pgd", norm="linf", eps=1.0, steps=_UNBOUNDED_STEPS, step_size=0.1)
        return ModelProbes(share, self._withstand(unbounded, torch.cat(right)))

    def probe_attack(self, model: ModelProbes, attack: Attack, robust: Tensor) -> Probes:
        """Try a longer PGD and a black-box attack on the images (N,) bool that withstood ``attack``."""
        survivors = robust.nonzero()[:, 0]
        not_tried = np.full(len(robust), NOT_TRIED, np.int8)
        long = square = not_tried
        if attack.name != "autoattack":
            pgd = Attack(name="pgd", norm=attack.norm, eps=attack.eps, steps=LONG_STEPS)
            long = self._withstand(pgd, survivors)
            queries = Attack(
                name="autoattack",
                norm=attack.norm,
                eps=attack.eps,
                version="custom",
                parts=("square",),
                queries=SQUARE_QUERIES,
            )
            square = self._withstand(queries, survivors)
        return Probes(model.zero_gradient, model.unbounded, long, square)

    def _withstand(self, attack: Attack, candidates: Tensor) -> NDArray[np.int8]:
        """Which of the first candidates withstand ``attack``."""
        answer = np.full(len(self.labels), NOT_TRIED, np.int8)
        chosen = candidates[: self.limit]
        if len(chosen):
            crafted = craft(
                self.victim,
                list_stages(attack, self.victim, num_classes=self.num_classes, seed=self.seed),
                self.images[chosen],
                self.labels[chosen],
                norm=attack.norm,
                eps=attack.eps,
                batch_size=self.batch_size,
                seed=self.seed,
                device=self.device,
            )
            answer[chosen.numpy()] = crafted.robust.numpy()
        return answer
