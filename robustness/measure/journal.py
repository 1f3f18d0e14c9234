"""The finished batches of a running attack on disk, one file each: an interruption loses at most the current batch."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from data_prep.arrays import read_arrays, write_arrays

_OVERHEAD = 1 << 20


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
