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
from robustness.measure.stages import library_of, list_stages

LONG_STEPS = 100
SQUARE_QUERIES = 300
VERSION = 3
"""Raised whenever a probe changes; outcomes with older ones then no longer count as done."""
_UNBOUNDED = Attack(name="pgd", norm="linf", eps=1.0, steps=20, step_size=0.1, random_start=False)
"""From the image itself: a random start at ε = 1 is a noise image, which fools any model without a gradient."""
_BATCH = 100
NOT_TRIED = -1


def probe_libraries(attack: Attack) -> list[str]:
    """Names and versions of the packages that try what ``attack`` did not; PrerequisiteError where one is missing."""
    label = f"{attack.label} (with its probes)"
    kinds = ("pgd", "autoattack")
    return [library_of(Attack(name=name, norm=attack.norm, eps=attack.eps, label=label)) for name in kinds]


@dataclass(frozen=True)
class ModelProbes:
    """What does not depend on the attack, one value per image: measured once per model and λ.

    zero_gradient: float32 (N,), share of exact zeros in ∇ₓ cross-entropy at the clean image, be it right or wrong.
        Values that have no gradient in any image (a stride that skips them) are left out, unless that is all of them.
    unstable: (N,) the same image gave other logits the second time. distribution: (N,) the logits are ≥ 0 and sum to 1.
    unbounded: int8 (N,): 1 the image withstood PGD with ε = 1, 0 it did not, −1 it was not tried.
    """

    zero_gradient: NDArray[np.float32]
    unstable: NDArray[np.bool_]
    distribution: NDArray[np.bool_]
    unbounded: NDArray[np.int8]


@dataclass(frozen=True)
class AttackProbes:
    """Further attacks on images that withstood one, within its budget: int8 (N,) as in :class:`ModelProbes`.

    long: PGD with 100 steps, unless APGD ran. square: Square with 300 queries, unless the attack gave it as many.
    """

    long: NDArray[np.int8]
    square: NDArray[np.int8]


@dataclass(frozen=True)
class Prober:
    """Tries the probes on a victim.

    Args:
        victim: images to logits, frozen and in eval mode.
        images: clean images float32 (N, 3, H, W) in [0, 1], on the CPU.
        labels: (N,).
        num_classes: of the victim.
        limit: images for each attack that is tried, drawn from those that qualify: data sets are sorted by class.
        seed: of that draw and of the random starts.
        device: where the victim is.
    """

    victim: nn.Module
    images: Tensor
    labels: Tensor
    num_classes: int
    limit: int
    seed: int
    device: torch.device

    def probe_model(self) -> ModelProbes:
        """Look at every image's gradient and logits, and attack some of those that are right without a bound."""
        n = len(self.labels)
        zeros = torch.zeros(n)
        matters = torch.zeros(self.images.shape[1:], dtype=torch.bool)
        unstable, distribution = np.zeros(n, bool), np.zeros(n, bool)
        right = []
        for chosen in torch.split(torch.arange(n), _BATCH):
            x = self.images[chosen].to(self.device).requires_grad_(True)
            y = self.labels[chosen].to(self.device)
            logits = self.victim(x)
            gradient = torch.zeros_like(x)
            if logits.requires_grad:
                loss = functional.cross_entropy(logits, y, reduction="sum")
                (found,) = torch.autograd.grad(loss, x, allow_unused=True)
                gradient = gradient if found is None else found
            zeros[chosen] = (gradient == 0).flatten(1).sum(1).float().cpu()
            matters |= (gradient != 0).any(0).cpu()
            right.append(chosen[(logits.max(1)[1] == y).cpu()])
            with torch.no_grad():
                unstable[chosen] = (~torch.isclose(self.victim(x), logits, rtol=1e-3, atol=1e-4).all(1)).cpu()
                sums_to_one = torch.isclose(logits.sum(1), torch.ones_like(logits[:, 0]), atol=1e-5)
                distribution[chosen] = (sums_to_one & (logits >= 0).all(1)).cpu()
        n_matter = int(matters.sum())
        share = (zeros - (matters.numel() - n_matter)) / n_matter if n_matter else torch.ones(n)
        return ModelProbes(share.numpy(), unstable, distribution, self._withstand(_UNBOUNDED, torch.cat(right)))

    def probe_attack(self, attack: Attack, stages: tuple[str, ...], robust: Tensor) -> AttackProbes:
        """Try what ``attack`` did not on the images (N,) bool that withstood it."""
        survivors = robust.nonzero()[:, 0]
        long = square = np.full(len(robust), NOT_TRIED, np.int8)
        if not any(stage.startswith("apgd") for stage in stages):
            pgd = Attack(name="pgd", norm=attack.norm, eps=attack.eps, steps=LONG_STEPS)
            long = self._withstand(pgd, survivors)
        if "square" not in stages or attack.queries < SQUARE_QUERIES:
            queries = Attack(
                name="autoattack",
                norm=attack.norm,
                eps=attack.eps,
                version="custom",
                parts=("square",),
                queries=SQUARE_QUERIES,
            )
            square = self._withstand(queries, survivors)
        return AttackProbes(long, square)

    def _withstand(self, attack: Attack, candidates: Tensor) -> NDArray[np.int8]:
        """Which of ``limit`` candidates, drawn at random, withstand ``attack``."""
        answer = np.full(len(self.labels), NOT_TRIED, np.int8)
        order = torch.randperm(len(candidates), generator=torch.Generator().manual_seed(self.seed))
        chosen = candidates[order[: self.limit]]
        if len(chosen):
            crafted = craft(
                self.victim,
                list_stages(attack, self.victim, num_classes=self.num_classes, seed=self.seed),
                self.images[chosen],
                self.labels[chosen],
                norm=attack.norm,
                eps=attack.eps,
                batch_size=_BATCH,
                seed=self.seed,
                device=self.device,
            )
            answer[chosen.numpy()] = crafted.robust.numpy()
        return answer
