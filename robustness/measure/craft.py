"""Attacks on the images that are still classified correctly, by stage and batch.

A journal keeps every finished batch on disk: an interruption loses at most one.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from data_prep.arrays import read_arrays, write_arrays
from robustness.attack import allowed_distance
from robustness.measure.pgd import measure_norm

_OVERHEAD = 1 << 20
"""Bytes of an attempt on disk besides its images, at most."""


@dataclass(frozen=True)
class Stage:
    """One attempt: ``perturb(images, labels)`` returns adversarial images; it draws from the global generator.

    Args:
        name: name in marks and files.
        perturb: the attempt.
        knows_budget: the stage was given ε; False for a stage that searches for the smallest perturbation.
    """

    name: str
    perturb: Callable[[Tensor, Tensor], Tensor]
    knows_budget: bool = True


@dataclass(frozen=True)
class Setup:
    """The victim and the settings that the stages of an attack are made for.

    Args:
        victim: images to logits.
        num_classes: number of classes of the victim.
        seed: seed of the attacks that have their own generator.
        leave_early: stop on images that are classified wrongly.
    """

    victim: nn.Module
    num_classes: int
    seed: int
    leave_early: bool


@dataclass(frozen=True)
class Attempt:
    """The result of one stage on one batch, on the CPU.

    images: float32 (M, 3, H, W) in [0, 1], within the budget. fooled: (M,) true if the model gets the image wrong.
    dropped: (M,) true if the attempt left the budget that it was given and the clean image replaces it.
    seconds: float64 (), seconds that it took.
    """

    images: Float[Tensor, "m 3 h w"]
    fooled: Bool[Tensor, " m"]
    dropped: Bool[Tensor, " m"]
    seconds: Float[Tensor, ""]


@dataclass(frozen=True)
class Journal:
    """A folder of attempts; each batch adds one batch's size, whatever the number of images."""

    folder: Path

    def write(self, stage: int, batch: int, members: Int[Tensor, " m"], attempt: Attempt) -> None:
        """Store the ``attempt`` of a stage's batch on the images at the positions ``members``."""
        named = {name: tensor.numpy() for name, tensor in {"members": members, **vars(attempt)}.items()}
        write_arrays(self._path(stage, batch), named, compressed=False)

    def read(self, stage: int, batch: int, members: Int[Tensor, " m"], shape: torch.Size) -> Attempt | None:
        """Read the attempt of a stage's batch; None if it is absent, damaged, or was made on other images.

        shape: shape of the images, (M, 3, H, W).
        """
        arrays = read_arrays(self._path(stage, batch), most=4 * shape.numel() + _OVERHEAD)
        if arrays is None or arrays.keys() != {"members", "images", "fooled", "dropped", "seconds"}:
            return None
        found = {name: torch.from_numpy(array) for name, array in arrays.items()}
        stored, attempt = found.pop("members"), Attempt(**found)
        fits = attempt.images.shape == shape and attempt.images.dtype == torch.float32
        fits = fits and attempt.fooled.dtype == attempt.dropped.dtype == torch.bool and attempt.seconds.ndim == 0
        return attempt if fits and torch.equal(stored, members) else None

    def clear(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, stage: int, batch: int) -> Path:
        return self.folder / f"{stage:02}-{batch:05}.npz"


@dataclass
class Crafted:
    """The state of an attack; all arrays are in the order of the images, on the CPU.

    images: adversarial images float32 (N, 3, H, W) in [0, 1]; if the model was wrong from the start, the clean image or
        the mover's.
    attacked: (N,) the model was right on the clean image.
    robust: (N,) the model was right, and no attempt has fooled it yet.
    broken_by: (N,) index of the stage that fooled the model; −1 for none.
    dropped: (N,) an attempt left the budget that it was given, and did not count.
    seconds: seconds of all attempts, including attempts before an interruption.
    """

    images: Float[Tensor, "n 3 h w"]
    attacked: Bool[Tensor, " n"]
    robust: Bool[Tensor, " n"]
    broken_by: Int[Tensor, " n"]
    dropped: Bool[Tensor, " n"]
    seconds: float = 0.0

    def take(self, stage: int, members: Int[Tensor, " m"], attempt: Attempt) -> None:
        """Record a stage's result for the images at the positions ``members``; wrong images cannot be broken."""
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
    """Run the stages in order, each on the images that withstood the stages before it.

    An attempt outside the budget ‖x′ − x‖ ≤ ε or outside [0, 1] does not count: the image stays unchanged. It is
    recorded as dropped if the stage was given the budget.

    Args:
        victim: images to logits, frozen and in eval mode, on ``device``.
        stages: the attempts.
        images: clean images in [0, 1], on the CPU.
        labels: classes of the images.
        norm: ``linf``, ``l2`` or ``l1``.
        eps: budget ε, in the norm.
        batch_size: images that are attacked together.
        seed: seed of the global generator, plus the stage's index, at the start of every batch; the generator is
            restored at the end.
        device: device to compute on.
        mover: the last stage, for every image that no stage has moved: images that the model gets wrong from the start,
            and images that withstood a search that returns the clean image on failure (as all parts of AutoAttack do).
            A clean image would seem to withstand the attack at another λ. An image that the mover breaks counts as
            broken.
        journal: record of finished batches, from which an interrupted attack resumes.
        progress: called with a stage's name and the number of images that it has finished.
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
    attacked = find_right(victim, images, labels, batch_size, device)
    unbroken = torch.full((len(images),), -1, dtype=torch.int64)
    crafted = Crafted(images.clone(), attacked, attacked.clone(), unbroken, torch.zeros_like(attacked))
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
    """Run one stage on one batch."""
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
    """Compute ‖a − b‖ per image, in ``linf``, ``l2`` or ``l1``."""
    return measure_norm(a - b, norm)[:, 0, 0, 0]


def _in_range(images: Tensor) -> Tensor:
    flat = images.flatten(1)
    return (flat.amin(1) >= 0) & (flat.amax(1) <= 1) & torch.isfinite(flat).all(1)


@torch.no_grad()
def find_right(
    victim: nn.Module, images: Tensor, labels: Tensor, batch_size: int, device: torch.device
) -> Bool[Tensor, " n"]:
    """Find the images that ``victim``, on ``device``, classifies as their labels say; the result is on the CPU."""
    batches = zip(torch.split(images, batch_size), torch.split(labels, batch_size), strict=True)
    return torch.cat([(victim(x.to(device)).max(1)[1].cpu() == y) for x, y in batches])
