"""Attack the images that are still right, stage by stage and batch by batch; a kill loses at most one batch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from robustness.attack import allowed_distance
from robustness.measure.journal import Attempt, Journal
from robustness.measure.stages import Stage


@dataclass
class Crafted:
    """What an attack has come to; everything in the order of the images, on the CPU.

    images: adversarial images float32 (N, 3, H, W) in [0, 1]; where the model was wrong from the start, clean ones or
        those of the mover.
    attacked: (N,) the model was right on the clean image.
    robust: (N,) it was, and no attempt has fooled it yet.
    broken_by: (N,) index of the stage that fooled the model; −1 for none.
    dropped: (N,) an attempt broke the budget that it was given, and did not count.
    seconds: of all attempts, those before a kill included.
    """

    images: Float[Tensor, "n 3 h w"]
    attacked: Bool[Tensor, " n"]
    robust: Bool[Tensor, " n"]
    broken_by: Int[Tensor, " n"]
    dropped: Bool[Tensor, " n"]
    seconds: float = 0.0

    @classmethod
    def start(cls, images: Float[Tensor, "n 3 h w"], attacked: Bool[Tensor, " n"]) -> Crafted:
        """Before the first stage: the clean images, of which the model gets those ``attacked`` right."""
        nothing = torch.full((len(images),), -1, dtype=torch.int64)
        return cls(images.clone(), attacked, attacked.clone(), nothing, torch.zeros_like(attacked))

    def take(self, stage: int, members: Int[Tensor, " m"], attempt: Attempt) -> None:
        """Take over what a stage found for the images at the positions ``members``; wrong ones cannot be broken."""
        fooled = members[attempt.fooled & self.robust[members]]
        self.images[members] = attempt.images
        self.robust[fooled] = False
        self.broken_by[fooled] = stage
        self.dropped[members] |= attempt.dropped


def craft(
    victim: nn.Module,
    stages: Sequence[Stage],
    images: Float[Tensor, "n 3 h w"],
    labels: Int[Tensor, " n"],
    *,
    norm: str,
    eps: float,
    batch_size: int,
    seed: int,
    device: torch.device,
    mover: Stage | None = None,
    journal: Journal | None = None,
    progress: Callable[[str, int], object] = lambda _stage, _n: None,
) -> Crafted:
    """Run the stages one after the other, each on the images that withstood those before it.

    An attempt outside the budget ‖x′ − x‖ ≤ ε or outside [0, 1] is no attempt: the image stays as it was. It is
    recorded as dropped if the stage was given the budget.

    Args:
        victim: images to logits, frozen and in eval mode, on ``device``.
        stages: the attempts.
        images: clean images in [0, 1], on the CPU.
        labels: their classes.
        norm: ``linf``, ``l2`` or ``l1``.
        eps: budget, in the norm.
        batch_size: images that are attacked together.
        seed: the global generator has this seed, plus the stage's index, at the start of every batch; restored at the
            end.
        device: where to compute.
        mover: the last stage, on every image that nothing has moved: those that the model gets wrong from the start,
            and those that withstood a search which gives the clean image back where it fails (all parts of AutoAttack
            do). At another λ a clean image would pass for one that withstood. What it breaks counts.
        journal: where every batch is kept, and from which a killed attack goes on.
        progress: called with a stage's name and the number of images that it is through with.
    """

    def attempt(index: int, stage: Stage, members: Int[Tensor, " m"]) -> Iterator[tuple[Tensor, Attempt]]:
        for batch, chosen in enumerate(torch.split(members, batch_size) if len(members) else ()):
            found = journal.read(index, batch, chosen, images[chosen].shape) if journal else None
            if found is None:
                torch.manual_seed(seed + index)
                x, y = images[chosen].to(device), labels[chosen].to(device)
                found = _attempt(victim, stage, x, y, norm=norm, eps=eps)
                if journal:
                    journal.write(index, batch, chosen, found)
            crafted.seconds += float(found.seconds)
            yield chosen, found

    images = images.contiguous()  # the libraries take views
    crafted = Crafted.start(images, _right(victim, images, labels, batch_size, device))
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        for index, stage in enumerate(stages):
            for chosen, found in attempt(index, stage, crafted.robust.nonzero()[:, 0]):
                crafted.take(index, chosen, found)
                progress(stage.name, len(chosen))
        if mover is not None:
            unmoved = (crafted.images == images).flatten(1).all(1) & (crafted.robust | ~crafted.attacked)
            for chosen, found in attempt(len(stages), mover, unmoved.nonzero()[:, 0]):
                crafted.take(len(stages), chosen, found)
    return crafted


def _attempt(victim: nn.Module, stage: Stage, x: Tensor, y: Tensor, *, norm: str, eps: float) -> Attempt:
    """One stage on one batch."""
    started = time.perf_counter()
    attempt = stage.perturb(x, y).detach().to(x.device)
    valid = (distance(attempt, x, norm) <= allowed_distance(eps)) & _in_range(attempt)
    attempt = torch.where(valid[:, None, None, None], attempt, x)
    with torch.no_grad():
        fooled = victim(attempt).max(1)[1] != y
    dropped = ~valid if stage.knows_budget else torch.zeros_like(valid)
    images, fooled, dropped = attempt.cpu(), fooled.cpu(), dropped.cpu()
    return Attempt(images, fooled, dropped, torch.tensor(time.perf_counter() - started, dtype=torch.float64))


def distance(a: Float[Tensor, "n c h w"], b: Float[Tensor, "n c h w"], norm: str) -> Float[Tensor, " n"]:
    """‖a − b‖ per image, in ``linf``, ``l2`` or ``l1``."""
    difference = (a - b).flatten(1)
    distances: Tensor = torch.linalg.vector_norm(difference, ord={"linf": torch.inf, "l2": 2, "l1": 1}[norm], dim=1)
    return distances


def _in_range(images: Tensor) -> Tensor:
    flat = images.flatten(1)
    return (flat.amin(1) >= 0) & (flat.amax(1) <= 1) & torch.isfinite(flat).all(1)


@torch.no_grad()
def _right(
    victim: nn.Module, images: Tensor, labels: Tensor, batch_size: int, device: torch.device
) -> Bool[Tensor, " n"]:
    batches = zip(torch.split(images, batch_size), torch.split(labels, batch_size), strict=True)
    return torch.cat([(victim(x.to(device)).max(1)[1].cpu() == y) for x, y in batches])
