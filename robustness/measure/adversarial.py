"""Adversarial images on disk: a byte per value instead of four."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from data_prep.arrays import read_arrays, write_arrays
from data_prep.schema import fits
from robustness.measure.craft import Crafted, find_right

_LEVELS = 127
_LARGEST_RATIO, _OVERHEAD = 6, 1 << 20
"""Size limit of a set in bytes: at most a byte and an exact float32 per value, plus a small overhead."""


@dataclass(frozen=True)
class AdversarialSet:
    """Adversarial versions of clean images, decoded batch by batch: ``adversarial[0:100]`` is float32 (N, H, W, 3).

    The perturbation δ of an image is stored as s·c/127 with whole c, those nearest to 127 δ / max|δ|, and with
    s = max|δ|, or slightly less if rounding would increase the Euclidean norm. So it uses the budget and never leaves
    it: ‖decoded − x‖ ≤ ‖x′ − x‖. If that changes whether the model is right, the image is stored exactly.

    Args:
        clean: pixels uint8 (N, H, W, 3).
        codes: c, int8 (N, H, W, 3).
        scale: s, float32 (N,).
        exact: float32 (M, H, W, 3), the images stored exactly.
        exact_index: (M,) their positions, increasing.
        attacked: (N,) the model was right on the clean image.
        broken_by: int16 (N,) index into ``stages`` of the stage that fooled the model; −1 for none.
        dropped: (N,) an attempt left the budget that it was given, and did not count.
        stages: names of the attack's stages.
        seconds: seconds that crafting took.
    """

    clean: NDArray[np.uint8]
    codes: NDArray[np.int8]
    scale: NDArray[np.float32]
    exact: NDArray[np.float32]
    exact_index: NDArray[np.int64]
    attacked: NDArray[np.bool_]
    broken_by: NDArray[np.int16]
    dropped: NDArray[np.bool_]
    stages: tuple[str, ...]
    seconds: float

    def __len__(self) -> int:
        return len(self.clean)

    def __getitem__(self, batch: slice) -> NDArray[np.float32]:
        """Decode a batch."""
        start, stop, _ = batch.indices(len(self))
        images = _decode(self.clean[start:stop], self.codes[start:stop], self.scale[start:stop])
        first, last = np.searchsorted(self.exact_index, (start, stop))
        images[self.exact_index[first:last] - start] = self.exact[first:last]
        return images

    def write(self, path: Path) -> None:
        """Store everything but the clean images."""
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        about = {"stages": self.stages, "seconds": self.seconds}
        write_arrays(path, {**arrays, "about": np.array(json.dumps(about))})

    @classmethod
    def read(cls, path: Path, clean: NDArray[np.uint8]) -> AdversarialSet | None:
        """Read a set of adversarial versions of ``clean``; None if it is absent, damaged or made for other images."""
        arrays = read_arrays(path, most=_LARGEST_RATIO * clean.nbytes + _OVERHEAD)
        about = _read_about(arrays.pop("about", None)) if arrays is not None else None
        if arrays is None or about is None or not _fit_together(arrays, clean, len(about["stages"])):
            return None
        return cls(clean=clean, stages=tuple(about["stages"]), seconds=about["seconds"], **arrays)


class _About(TypedDict):
    stages: list[str]
    seconds: float


def _read_about(array: NDArray[Any] | None) -> _About | None:
    try:
        about = json.loads(str(array))
    except (ValueError, RecursionError):
        return None
    return about if fits(about, _About) else None


def _fit_together(arrays: dict[str, NDArray[Any]], clean: NDArray[np.uint8], n_stages: int) -> bool:
    """Check that these are the arrays of a set of versions of ``clean``, as :func:`encode` makes them."""
    n, index = len(clean), arrays.get("exact_index")
    if arrays.keys() != set(_ARRAYS) or index is None or index.ndim != 1:
        return False
    shapes = {"codes": clean.shape, "exact": (len(index), *clean.shape[1:]), "exact_index": index.shape}
    is_whole = all(
        array.dtype == _ARRAYS[name] and array.shape == shapes.get(name, (n,)) for name, array in arrays.items()
    )
    in_order = is_whole and bool((np.diff(index) > 0).all() and ((index >= 0) & (index < n)).all())
    return in_order and bool(((arrays["broken_by"] >= -1) & (arrays["broken_by"] < n_stages)).all())


_ARRAYS: dict[str, type[np.generic]] = {
    "codes": np.int8,
    "scale": np.float32,
    "exact": np.float32,
    "exact_index": np.int64,
    "attacked": np.bool_,
    "broken_by": np.int16,
    "dropped": np.bool_,
}


@torch.no_grad()
def encode(
    crafted: Crafted,
    clean: NDArray[np.uint8],
    labels: Tensor,
    *,
    victim: nn.Module,
    stages: tuple[str, ...],
    batch_size: int,
    device: torch.device,
) -> AdversarialSet:
    """Compress crafted images; an image is stored exactly if its decoded version is classified differently.

    Args:
        crafted: the attack's result.
        clean: the clean pixels uint8 (N, H, W, 3).
        labels: (N,) classes of the images.
        victim: the model that was attacked, on ``device``.
        stages: names of the attack's stages.
        batch_size: batch size of the attack.
        device: device of the victim.
    """
    adversarial = crafted.images.permute(0, 2, 3, 1).numpy()
    delta = (adversarial - clean.astype(np.float32) / 255).astype(np.float32)
    codes, scale = _round(delta)
    decoded = torch.from_numpy(_decode(clean, codes, scale)).permute(0, 3, 1, 2)
    right = find_right(victim, decoded, labels, batch_size, device)
    changed = (crafted.attacked & (right != crafted.robust)).nonzero()[:, 0].numpy()
    return AdversarialSet(
        clean=clean,
        codes=codes,
        scale=scale,
        exact=adversarial[changed],
        exact_index=changed,
        attacked=crafted.attacked.numpy(),
        broken_by=crafted.broken_by.numpy().astype(np.int16),
        dropped=crafted.dropped.numpy(),
        stages=stages,
        seconds=crafted.seconds,
    )


def _round(delta: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Compute c and s of perturbations (N, H, W, 3)."""
    flat = delta.reshape(len(delta), -1)
    largest = np.abs(flat).max(1)
    codes = np.rint(flat * np.divide(_LEVELS, largest, out=np.zeros_like(largest), where=largest > 0)[:, None])
    rounded = np.linalg.norm(codes, axis=1) * largest / _LEVELS
    grown = np.divide(rounded, np.linalg.norm(flat, axis=1), out=np.ones_like(largest), where=largest > 0)
    return codes.astype(np.int8).reshape(delta.shape), largest / grown.clip(min=1)


def _decode(clean: NDArray[np.uint8], codes: NDArray[np.int8], scale: NDArray[np.float32]) -> NDArray[np.float32]:
    unit = (scale / _LEVELS)[:, None, None, None]
    decoded: NDArray[np.float32] = (clean.astype(np.float32) / 255 + codes * unit).clip(0, 1).astype(np.float32)
    return decoded
