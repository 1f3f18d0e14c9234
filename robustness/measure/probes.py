"""Probes: further checks next to an attack, which show whether its failure can be believed.

Source: Carlini et al., *On Evaluating Adversarial Robustness*, 2019; Athalye, Carlini & Wagner, ICML 2018; Croce &
Hein, ICML 2020, section 6; Tramèr et al., NeurIPS 2020; Pintor et al., NeurIPS 2022. The active test has a file of its
own: :mod:`robustness.measure.active_test`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from robustness.attack import Attack
from robustness.attack_kinds import has_margin_loss
from robustness.grids import LARGEST_EPS
from robustness.measure import pgd
from robustness.measure.active_test import find_planted
from robustness.measure.craft import Crafted, Stage, craft, distance
from robustness.measure.donors import Jury, distil
from robustness.measure.probe_results import NOT_TRIED, AttackProbes, ModelProbes
from robustness.measure.slopes import compare_slopes, measure_jumps
from robustness.measure.stages import library_of, list_stages
from robustness.measure.watchers import Impatient

VERSION = 6
"""Version of the probes; raise it whenever a probe changes, so that older outcomes no longer count as done."""
MANY = 4
"""Factor by which probes that cost a pass or two take more images than probes that attack."""
USUAL, LEAST = 10, 4
_PASSES = 450
_BROKEN_EARLY = 12
"""Estimated passes: of all probes per image of the limit, and of an attack on an image that it breaks."""
LARGER = 8
LEAST_LARGER = {"linf": 32 / 255, "l2": 2.0, "l1": 50.0}
"""Smallest larger budget by norm; otherwise it is eight times ε."""
DRAWS = 8
"""Number of evaluations averaged for a stochastic model."""
SQUARE_QUERIES = 2000
_SQUARE_SHARE = 0.1
_BATCH = 100
_FRESH_BATCH = 7
_FLAT = 1e-20
_INSIDE = 0.5
_MARGIN_FROM = {"linf": 2 / 255, "l2": 0.25, "l1": 6.0}
"""Smallest budget, by norm, at which honest models lose margin; below it, a kept margin is not evidence."""


def probe_libraries(attack: Attack) -> list[str]:
    """Return names and versions of the packages that probe ``attack``; raise PrerequisiteError without one."""
    label = f"{attack.label} (with its probes)"
    kinds = ("APGD", "autoattack")
    return [library_of(Attack(name=name, norm=attack.norm, eps=attack.eps, label=label)) for name in kinds]


@dataclass(frozen=True)
class Prober:
    """Tries the probes on a victim.

    Args:
        victim: images to logits, frozen and in eval mode.
        images: clean images float32 (N, 3, H, W) in [0, 1], on the CPU.
        labels: (N,).
        num_classes: number of classes of the victim.
        limit: number of images for each attempted attack, drawn at random since data sets are sorted by class.
        seed: seed of that draw and of the random starts.
        device: device of the victim.
        donors: other networks for these images; if there are none, one is distilled from the victim's predictions.
        reset: restores the victim to its original state.
    """

    victim: nn.Module
    images: Tensor
    labels: Tensor
    num_classes: int
    limit: int
    seed: int
    device: torch.device
    donors: Jury | None = None
    reset: Callable[[], None] = lambda: None

    def probe_model(self) -> ModelProbes:
        """Examine the gradients and logits of some images."""
        n = len(self.labels)
        zeros, slope, near, far = (np.full(n, np.nan, np.float32) for _ in range(4))
        undefined, unstable, distribution = (np.full(n, NOT_TRIED, np.int8) for _ in range(3))
        chosen = self._draw(torch.arange(n), 2 * self.limit)
        if not len(chosen):
            return ModelProbes(zeros, undefined, unstable, distribution, slope, near, far)
        counts, matters, right = [], torch.zeros(self.images.shape[1:], dtype=torch.bool), []
        for batch in torch.split(chosen, _BATCH):
            x, y = self._show(batch)
            logits, gradient = self._differentiate(x, y)
            counts.append((gradient == 0).flatten(1).sum(1).float().cpu())
            matters |= (gradient != 0).any(0).cpu()
            rows = batch.numpy()
            undefined[rows] = (~gradient.isfinite()).flatten(1).any(1).cpu().numpy()
            right.append(batch[(logits.max(1)[1] == y).cpu()])
            with torch.no_grad():
                again = torch.isclose(self.victim(x), logits, rtol=1e-3, atol=1e-4, equal_nan=True)
            unstable[rows] = (~again.all(1)).cpu().numpy()
            sums_to_one = torch.isclose(logits.sum(1), torch.ones_like(logits[:, 0]), atol=1e-5)
            distribution[rows] = (sums_to_one & (logits >= 0).all(1)).cpu().numpy()
        n_matter = int(matters.sum())
        unused = matters.numel() - n_matter
        zeros[chosen.numpy()] = (
            (torch.cat(counts) - unused) / n_matter if n_matter else torch.ones(len(chosen))
        ).numpy()
        sloped = torch.cat(right)[: self.limit // 2 + 1]
        if len(sloped):
            ratios, spread = compare_slopes(self.victim, *self._show(sloped), seed=self.seed)
            rows = sloped.numpy()
            slope[rows] = _farthest_from_one(ratios.cpu()).numpy()
            near[rows], far[rows] = spread.tolist()
        return ModelProbes(zeros, undefined, unstable, distribution, slope, near, far)

    def probe_attack(
        self, attack: Attack, stages: tuple[str, ...], robust: Tensor, right: Tensor, stored: Tensor, *, random: bool
    ) -> AttackProbes:
        """Try further attacks, and the attack itself in a setting where it cannot fail.

        Args:
            attack: the attack.
            stages: names of its stages.
            robust: (N,) bool, the images that withstood the attack.
            right: (N,) bool, the images that were right before the attack.
            stored: adversarial images (N, 3, H, W), as they are stored.
            random: the model is stochastic.
        """
        limit = self._afford(attack, int(robust.sum()), int(right.sum()))
        survivors = self._draw(robust.nonzero()[:, 0], MANY * limit)
        few = survivors[:limit]
        attacked = self._draw(right.nonzero()[:, 0], limit)
        drawn, others = survivors[: limit + limit // 2], self._other_losses(attack, stages)
        affordable = SQUARE_QUERIES * len(few) <= _SQUARE_SHARE * attack.passes * int(right.sum())
        inside, flat, margin = self._look_at(few, stored, attack)
        return AttackProbes(
            losses=self._withstand(others, drawn, attack),
            weakest=self._try_weakest(attack, others[:2], robust, drawn, stored, limit),
            square=self._withstand([self._square(attack)], few if affordable and "square" not in stages else few[:0]),
            transfer=self._transfer(survivors[: 2 * limit], attack),
            fresh=self._ask_fresh(survivors, stored),
            averaged=self._average(few if random else few[:0], attack),
            larger=self._withstand(self._larger(attack), attacked if len(few) else few),
            planted=self._plant(attack, attacked if len(few) else few),
            inside=inside,
            flat=flat,
            margin=margin,
            jump=self._follow(survivors[: limit + limit // 2], stored),
        )

    def _afford(self, attack: Attack, n_robust: int, n_right: int) -> int:
        """Return the number of images for each attack, paid for by a third of the attack's passes, within limits.

        At least :data:`LEAST`; a limit above the default :data:`USUAL` was requested, and is kept.
        """
        passes = attack.passes * n_robust + min(attack.passes, _BROKEN_EARLY) * (n_right - n_robust)
        return min(self.limit, max(LEAST, passes // (3 * _PASSES))) if self.limit <= USUAL else self.limit

    def _draw(self, candidates: Tensor, count: int) -> Tensor:
        """Draw ``count`` of the candidates at random; a smaller count draws the first of them."""
        order = torch.randperm(len(candidates), generator=torch.Generator().manual_seed(self.seed))
        return candidates[order[:count]]

    def _show(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        return self.images[chosen].to(self.device), self.labels[chosen].to(self.device)

    def _differentiate(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Compute logits, and the gradient of the cross-entropy by the images; zero if it does not reach them."""
        x = x.detach().clone().requires_grad_(True)
        with torch.enable_grad():
            logits = self.victim(x)
            loss = functional.cross_entropy(logits, y, reduction="sum")
            found = torch.autograd.grad(loss, x, allow_unused=True)[0] if loss.requires_grad else None
        return logits.detach(), torch.zeros_like(x) if found is None else found

    @torch.no_grad()
    def _ask(self, x: Tensor) -> Tensor:
        logits: Tensor = self.victim(x)
        return logits

    def _answer(self, chosen: Tensor, values: Tensor) -> NDArray[np.int8]:
        answer = np.full(len(self.labels), NOT_TRIED, np.int8)
        answer[chosen.numpy()] = values.cpu().numpy()
        return answer

    def _larger(self, attack: Attack) -> list[Attack]:
        """List attacks at a larger budget: a few steps, then more for images that withstand them."""
        eps = min(max(LARGER * attack.eps, LEAST_LARGER[attack.norm]), LARGEST_EPS[attack.norm])
        return [Attack(name="pgd", norm=attack.norm, eps=eps, steps=n, random_start=False) for n in (4, 12)]

    def _other_losses(self, attack: Attack, stages: Sequence[str] = ()) -> list[Attack]:
        """List short attacks with other losses: APGD with the DLR loss, its targeted form, and cross-entropy.

        Next to an AutoAttack that has these, PGD with the margin and a cross-entropy that does not vanish: a logit that
        is far above all others silences both of AutoAttack's losses.
        """
        if attack.norm == "l1":
            return [Attack(name="pgd", norm="l1", eps=attack.eps, steps=40)]
        if has_margin_loss(stages):
            return [Attack(name="pgd", norm=attack.norm, eps=attack.eps, steps=20, losses=("margin", "ce"))]
        searches = [("APGD", {"steps": 12, "loss": "dlr" if self.num_classes > 2 else "ce"})]
        if self.num_classes > 3:
            searches.append(("APGDT", {"steps": 6, "n_classes": 3}))
        searches.append(("APGD", {"steps": 10, "loss": "ce"}))
        return [Attack(name=name, norm=attack.norm, eps=attack.eps, options=options) for name, options in searches]

    def _square(self, attack: Attack) -> Attack:
        square = {"version": "custom", "parts": ("square",), "queries": SQUARE_QUERIES}
        return Attack(name="autoattack", norm=attack.norm, eps=attack.eps, **square)  # type: ignore[arg-type]

    def _withstand(self, attacks: Sequence[Attack], chosen: Tensor, within: Attack | None = None) -> NDArray[np.int8]:
        """Find which of ``chosen`` withstand all of ``attacks``, one after the other."""
        if not len(chosen):
            return self._answer(chosen, chosen)
        return self._answer(chosen, self._craft(self.victim, attacks, chosen, within or attacks[0]).robust)

    def _try_weakest(
        self, attack: Attack, others: list[Attack], robust: Tensor, drawn: Tensor, stored: Tensor, limit: int
    ) -> NDArray[np.int8]:
        """Attack survivors not in ``drawn``, ``limit`` at a time, smallest margin first, while at least half break."""
        values = np.full(len(self.labels), NOT_TRIED, np.int8)
        rest = robust.clone()
        rest[drawn] = False
        candidates = rest.nonzero()[:, 0]
        if not len(candidates) or not limit:
            return values
        margins = [
            _find_margin(self._ask(stored[batch].to(self.device)), self.labels[batch].to(self.device))
            for batch in torch.split(candidates, _BATCH)
        ]
        ordered = candidates[torch.cat(margins).argsort(stable=True).cpu()]
        for batch in torch.split(ordered, limit):
            held = self._craft(self.victim, others, batch, attack).robust
            values[batch.numpy()] = held.cpu().numpy()
            if held.float().mean() > 0.5:
                break
        return values

    def _craft(self, victim: nn.Module, attacks: Sequence[Attack], chosen: Tensor, within: Attack) -> Crafted:
        impatient = Impatient(victim)
        stages: list[Stage] = []
        for attack in attacks:
            found = list_stages(attack, impatient, num_classes=self.num_classes, seed=self.seed)
            stages += [impatient.cut_short(stage) for stage in found]
        return craft(
            impatient,
            stages,
            self.images[chosen],
            self.labels[chosen],
            norm=within.norm,
            eps=within.eps,
            batch_size=_BATCH,
            seed=self.seed,
            device=self.device,
        )

    @cached_property
    def _jury(self) -> Jury:
        """Return the jury of the donors, or of a small network trained on the victim's own predictions."""
        if self.donors is not None:
            return self.donors
        chosen = self._draw(torch.arange(len(self.labels)), 20 * self.limit)
        return distil(
            self.victim, self.images[chosen], num_classes=self.num_classes, seed=self.seed, device=self.device
        )

    def _transfer(self, chosen: Tensor, attack: Attack) -> NDArray[np.int8]:
        """Show images crafted on other networks, as they are and rounded towards the clean image."""
        if not len(chosen):
            return self._answer(chosen, chosen)
        settings = {"norm": attack.norm, "eps": attack.eps, "device": self.device}
        x, y = self._show(chosen)
        moved = self._jury.craft(chosen, self.images, self.labels, **settings).to(self.device)  # type: ignore[arg-type]
        levels = 255 * (moved - x)
        rounded = x + (levels.sign() * (levels.abs() + 1e-3).floor()) / 255
        right = torch.ones_like(y, dtype=torch.bool)
        for shown in (moved, rounded.clamp(0, 1)):
            valid = distance(shown, x, attack.norm) <= attack.eps * (1 + 1e-5) + 1e-6
            with torch.no_grad():
                right &= (self.victim(shown).max(1)[1] == y) | ~valid
        return self._answer(chosen, right)

    @torch.no_grad()
    def _ask_fresh(self, chosen: Tensor, stored: Tensor) -> NDArray[np.int8]:
        if not len(chosen):
            return self._answer(chosen, chosen)
        self.reset()
        batches = torch.split(chosen.flip(0), _FRESH_BATCH)
        answers = [
            self.victim(stored[batch].to(self.device)).max(1)[1].cpu() == self.labels[batch] for batch in batches
        ]
        return self._answer(chosen.flip(0), torch.cat(answers))

    def _average(self, chosen: Tensor, attack: Attack) -> NDArray[np.int8]:
        """Attack the mean of several evaluations; an image counts as robust if most further predictions are right."""
        if not len(chosen):
            return self._answer(chosen, chosen)
        mean = _Mean(self.victim, DRAWS)
        crafted = self._craft(mean, self._other_losses(attack)[:1], chosen, attack)
        shown, y = crafted.images.to(self.device), self.labels[chosen].to(self.device)
        with torch.no_grad():
            right = torch.stack([self.victim(shown).max(1)[1] == y for _ in range(DRAWS)]).float().mean(0)
        return self._answer(chosen, right > 0.5)

    def _plant(self, attack: Attack, chosen: Tensor) -> NDArray[np.int8]:
        if not len(chosen):
            return self._answer(chosen, chosen)
        found = find_planted(self.victim, attack, self.images[chosen], seed=self.seed, device=self.device)
        return self._answer(chosen, found)

    def _look_at(
        self, chosen: Tensor, stored: Tensor, attack: Attack
    ) -> tuple[NDArray[np.int8], NDArray[np.int8], NDArray[np.float32]]:
        """Inspect where the attack left its survivors, unless it returns the clean image on failure."""
        margin = np.full(len(self.labels), np.nan, np.float32)
        if not attack.kind.moves_survivors or not len(chosen):
            return self._answer(chosen[:0], chosen[:0]), self._answer(chosen[:0], chosen[:0]), margin
        x, y = self._show(chosen)
        moved = stored[chosen].to(self.device)
        logits, gradient = self._differentiate(moved, y)
        if attack.eps >= _MARGIN_FROM[attack.norm]:
            margin[chosen.numpy()] = (_find_margin(logits, y) / _find_margin(self._ask(x), y)).cpu().numpy()
        is_flat = gradient.abs().flatten(1).amax(1) <= _FLAT
        is_inside = distance(moved, x, attack.norm) < _INSIDE * attack.eps
        return self._answer(chosen, is_inside), self._answer(chosen, is_flat), margin

    def _follow(self, chosen: Tensor, stored: Tensor) -> NDArray[np.float32]:
        """Check for jumps on the way to where survivors were left."""
        jump = np.full(len(self.labels), np.nan, np.float32)
        if len(chosen):
            x, y = self._show(chosen)
            jump[chosen.numpy()] = measure_jumps(self.victim, x, stored[chosen].to(self.device), y).cpu().numpy()
        return jump


class _Mean(nn.Module):
    """The mean of the log-probabilities of several evaluations."""

    def __init__(self, model: nn.Module, draws: int) -> None:
        super().__init__()
        self.model, self.draws, self.training = model, draws, False

    def forward(self, images: Tensor) -> Tensor:
        answers = [functional.softmax(self.model(images), 1) for _ in range(self.draws)]
        return torch.stack(answers).mean(0).clamp(min=1e-12).log()


def _find_margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Compute z_y − max z_j over the other classes, (N,)."""
    return -pgd.margin(logits, labels, labels)


def _farthest_from_one(ratios: Tensor) -> Tensor:
    """Return the ratio with the largest |log| of each row; a ratio that is not positive is farther than any other."""
    size = ratios.clamp(min=1e-6).log().abs()
    worst = size.nan_to_num(nan=-1.0).argmax(1)
    return ratios[torch.arange(len(ratios)), worst]
