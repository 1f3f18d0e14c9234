"""Attack the images that are still right, stage by stage and batch by batch; a kill loses at most one batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from data_prep.files import replacing
from robustness.measure.stages import Stage

_BUDGET_TOLERANCE = 1e-6


@dataclass
class Crafted:
    """What an attack has come to; everything in the order of the images, on the CPU.

    images: adversarial images float32 (N, 3, H, W) in [0, 1]; clean where the model was wrong from the start.
    attacked: (N,) the model was right on the clean image.
    robust: (N,) it was, and no attempt has fooled it yet.
    broken_by: (N,) index of the stage that fooled the model; −1 for none.
    stage: stages finished. batches: batches finished of the current one. members: the images that it attacks.
    """

    images: Float[Tensor, "n 3 h w"]
    attacked: Bool[Tensor, " n"]
    robust: Bool[Tensor, " n"]
    broken_by: Int[Tensor, " n"]
    stage: int
    batches: int
    members: Int[Tensor, " m"]

    def write(self, path: Path) -> None:
        """Store the state."""
        arrays = {name: torch.as_tensor(value).numpy() for name, value in vars(self).items()}
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)

    @classmethod
    def read(cls, path: Path) -> Crafted | None:
        """Read a state back; None if there is none or it is damaged."""
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                fields = {name: torch.from_numpy(archive[name]) for name in archive.files}
            stage, batches = int(fields.pop("stage")), int(fields.pop("batches"))
            return cls(stage=stage, batches=batches, **fields)
        except Exception:  # a damaged archive raises a variety of errors; all of them mean: start again
            return None


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
    state: Path | None = None,
    progress: Callable[[str, int], object] = lambda _stage, _n: None,
) -> Crafted:
    """Run the stages one after the other, each on the images that withstood those before it.

    An attempt outside the budget ‖x′ − x‖ ≤ ε or outside [0, 1] is no attempt: the image stays as it was.

    Args:
        victim: images to logits, frozen and in eval mode, on ``device``.
        stages: the attempts.
        images: clean images in [0, 1], on the CPU.
        labels: their classes.
        norm: ``linf`` or ``l2``.
        eps: budget, in the norm.
        batch_size: images that are attacked together.
        seed: the global generator has this seed, plus the stage's index, at the start of every batch; restored at the
            end.
        device: where to compute.
        state: file to which the state is written after every batch, and from which a killed attack goes on.
        progress: called with a stage's name and the number of images that it is through with.
    """
    images = images.contiguous()  # the libraries take views
    crafted = Crafted.read(state) if state is not None and state.exists() else None
    if crafted is None:
        attacked = _right(victim, images, labels, batch_size, device)
        crafted = Crafted(
            images.clone(),
            attacked,
            attacked.clone(),
            torch.full((len(labels),), -1, dtype=torch.int64),
            0,
            0,
            attacked.nonzero()[:, 0],
        )
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        while crafted.stage < len(stages):
            stage = stages[crafted.stage]
            for chosen in torch.split(crafted.members, batch_size)[crafted.batches :]:
                torch.manual_seed(seed + crafted.stage)
                _attempt(victim, stage, images, labels, chosen, crafted, norm=norm, eps=eps, device=device)
                crafted.batches += 1
                if state is not None:
                    crafted.write(state)
                progress(stage.name, len(chosen))
            crafted.stage, crafted.batches, crafted.members = crafted.stage + 1, 0, crafted.robust.nonzero()[:, 0]
    return crafted


def _attempt(
    victim: nn.Module,
    stage: Stage,
    images: Tensor,
    labels: Tensor,
    chosen: Tensor,
    crafted: Crafted,
    *,
    norm: str,
    eps: float,
    device: torch.device,
) -> None:
    """One stage on one batch; what it finds goes into ``crafted``."""
    x, y = images[chosen].to(device), labels[chosen].to(device)
    attempt = stage.perturb(x, y).detach()
    valid = (distance(attempt, x, norm) <= eps * (1 + _BUDGET_TOLERANCE) + _BUDGET_TOLERANCE) & _in_range(attempt)
    attempt = torch.where(valid[:, None, None, None], attempt, x)
    with torch.no_grad():
        fooled = (victim(attempt).max(1)[1] != y).cpu()
    crafted.images[chosen] = attempt.cpu()
    crafted.robust[chosen[fooled]] = False
    crafted.broken_by[chosen[fooled]] = crafted.stage


def distance(a: Float[Tensor, "n c h w"], b: Float[Tensor, "n c h w"], norm: str) -> Float[Tensor, " n"]:
    """‖a − b‖ per image, in ``linf`` or ``l2``."""
    difference = (a - b).flatten(1)
    return difference.abs().amax(1) if norm == "linf" else torch.linalg.vector_norm(difference, dim=1)


def _in_range(images: Tensor) -> Tensor:
    flat = images.flatten(1)
    return (flat.amin(1) >= 0) & (flat.amax(1) <= 1) & torch.isfinite(flat).all(1)


@torch.no_grad()
def _right(
    victim: nn.Module, images: Tensor, labels: Tensor, batch_size: int, device: torch.device
) -> Bool[Tensor, " n"]:
    batches = zip(torch.split(images, batch_size), torch.split(labels, batch_size), strict=True)
    return torch.cat([(victim(x.to(device)).max(1)[1].cpu() == y) for x, y in batches])
