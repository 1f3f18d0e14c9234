"""Identification of a model by its logits, which also reveal hidden weights or another program.

The model is evaluated on a few reproducible images at a λ. Its logits, scaled to the range 0 to 1, are summed with
fixed signs into 64 numbers, a sketch, which preserves distances between logits (Johnson & Lindenstrauss, 1984).

- The sketch's *id*, a hash of some of its numbers in coarse steps, is in the key of every cell of the model at that λ.
- The sketch itself is stored with the outcomes, which count as done only if it is close to the model's current sketch:
  this also reveals changes too small for the coarse steps. Another device rounds logits by less than :data:`TOLERANCE`.

Where rounding moves a number over the edge of a step (about once in five hundred changes of the device) the id differs,
and the cells are measured again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sdnet_core.classifier import Classifier
from sdnet_core.sparse_coding import Lambda

TOLERANCE = 3e-4
"""Largest difference between two sketches of one model, in units of the range of its logits times √(8 K)."""
_LENGTH, _COARSE, _STEP = 64, 16, 1 / 32
_FAR, _RANGES = 1e3, 100
"""A logit says nothing if it lies this far below the best ones, and this many times their range."""
NO_ANSWER = "none"
"""Id that stands for a model which fails or returns invalid logits on the probe images."""
Sketch = tuple[float, ...]


@lru_cache(maxsize=4)
def draw_probe_images(height: int, width: int) -> torch.Tensor:
    """Draw images float32 (8, 3, H, W) in [0, 1] from a counter: four of noise and four of coarse squares."""
    noise = np.random.Philox(key=0).random_raw(4 * 3 * height * width).astype(np.float64) / 2**64
    coarse = np.random.Philox(key=1).random_raw(4 * 3 * 8 * 8).astype(np.float64) / 2**64
    rows, columns = np.arange(height) * 8 // height, np.arange(width) * 8 // width
    squares = coarse.reshape(4, 3, 8, 8)[:, :, rows][..., columns]
    images = np.concatenate([noise.reshape(4, 3, height, width), squares])
    return torch.from_numpy(images.astype(np.float32))


def sketch_answers(network: Classifier, lam: Lambda | None, size: tuple[int, int], device: torch.device) -> Sketch:
    """Compute the sketch of a model at one λ, before any other evaluation; empty if it fails on the images."""
    network.reset()
    try:
        with torch.no_grad():
            logits = network(draw_probe_images(*size).to(device), lam).cpu().numpy().astype(np.float64)
    except Exception:  # the cells will fail and give the reason
        return ()
    finally:
        network.reset()
    is_valid = np.isfinite(logits.max(1)).all()  # NaN is the largest; −∞ rules a class out
    return sketch_logits(logits) if is_valid else ()


def sketch_logits(logits: NDArray[np.float64]) -> Sketch:
    """Compute 64 sums of the values, scaled to [0, 1] over √(number of values), and their range's logarithm."""
    low = find_lowest(torch.from_numpy(np.ascontiguousarray(logits)))
    span = float(logits.max()) - low
    values = (logits.clip(min=low).ravel() - low) / (span or 1.0)
    signs = _draw_signs(len(values))
    sums = signs @ values / np.sqrt(len(values))
    return (*(round(float(number), 7) for number in sums), round(float(np.log2(span or 1.0)), 7))


def find_lowest(logits: Tensor) -> float:
    """Find the smallest of the logits (N, K) that are not of a class that the model rules out; 0 if none is finite.

    A model rules a class out by −∞ or by a number far below the rest, such as −10⁹; the range would then hide all other
    differences. Far is more than 1,000, and more than 100 times the range of the two largest logits of all images.
    """
    best = logits.topk(min(2, logits.shape[1]), 1).values
    best = best[best.isfinite()]
    if not len(best):
        return 0.0
    least = best.min() - (_RANGES * (best.max() - best.min())).clamp(min=_FAR)
    return float(logits[logits >= least].min())


@lru_cache(maxsize=4)
def _draw_signs(count: int) -> NDArray[np.float64]:
    bits = np.random.Philox(key=2).random_raw(_LENGTH * count) >> np.uint64(63)
    return bits.astype(np.float64).reshape(_LENGTH, count) * 2 - 1


def identify(sketch: Sketch) -> str:
    """Return the id of a sketch in the key of a cell."""
    if not sketch:
        return NO_ANSWER
    steps = [round(number / _STEP) for number in (*sketch[:_COARSE], sketch[-1])]
    return hashlib.sha256(repr(steps).encode()).hexdigest()[:16]


def is_close(sketch: Sequence[float], other: Sequence[float]) -> bool:
    """Check whether two sketches can belong to one model."""
    return len(sketch) == len(other) and all(abs(a - b) <= TOLERANCE for a, b in zip(sketch, other))
