"""Stability of a model's predictions along a sequence of frames, as in ImageNet-P and CIFAR-10-P.

A sequence begins with an image and changes it a little from frame to frame. In a sequence of noise the frames are drawn
independently of one another, and each is compared with the first, which is clean; in every other sequence each frame is
compared with the one ``step`` before it.

Source: Hendrycks & Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations",
ICLR 2019, sections 4.3 and 5.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from data_prep.errors import InputError

TOP = 5


def flips_of_sequences(predictions: NDArray[np.integer], *, noise: bool, step: int = 1) -> NDArray[np.float64]:
    """Compute the share of compared frames whose predicted class differs, for each sequence: (N,), from 0 to 1.

    predictions: class of every frame, (N, frames). noise: compare with the first frame. step: number of frames between
        compared frames, which the paper calls difficulty; it has no effect on noise.
    Raises: InputError for another shape, and for fewer frames than can be compared.
    """
    earlier, later = _pairs(predictions, 2, noise, step)
    return np.asarray((earlier != later).mean(axis=1))


def top5_distances(scores: NDArray[np.floating], *, noise: bool, step: int = 1) -> NDArray[np.float64]:
    """Compute the mean distance between the top-5 lists of compared frames, for each sequence: (N,), from 0 to 15.

    With σ(i) the rank in the later frame of the class that is ranked i in the earlier one, it is
    Σ_{i=1}^{5} |min(i, 6) − min(σ(i), 6)|: 0 for the same list, and 5 + 4 + 3 + 2 + 1 for one without a common class.

    scores: score of every class for every frame, (N, frames, classes), at least 5 classes; ties go to the first class.
    noise, step: as for :func:`flips_of_sequences`.
    """
    if scores.ndim == 3 and scores.shape[2] < TOP:
        raise InputError(
            f"expected scores of at least {TOP} classes for a top-{TOP} distance, got {scores.shape[2]}; take a model "
            "of more classes"
        )
    order = np.argsort(-scores, axis=-1, kind="stable")
    ranks = np.argsort(order, axis=-1, kind="stable")  # from 0
    first, _ = _pairs(order, 3, noise, step)
    _, ranked_later = _pairs(ranks, 3, noise, step)
    later = np.take_along_axis(ranked_later, first[..., :TOP], axis=-1)
    distances = np.abs(np.arange(TOP) - np.minimum(later, TOP)).sum(axis=-1)
    return np.asarray(distances.mean(axis=1))


def _pairs(
    frames: NDArray[np.integer], ndim: int, noise: bool, step: int
) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    """Return the earlier and the later frame of every comparison, (N, comparisons, …)."""
    if step < 1:
        raise InputError(f"expected a step of at least 1 frame, got {step}; give a larger one")
    least = 2 if noise else step + 1
    if frames.ndim != ndim or not len(frames) or frames.shape[1] < least:
        wanted = "(sequences, frames)" if ndim == 2 else "(sequences, frames, classes)"
        raise InputError(f"expected {wanted} with at least {least} frames, got {frames.shape}; give such an array")
    if noise:
        return np.broadcast_to(frames[:, :1], frames[:, 1:].shape), frames[:, 1:]
    return frames[:, :-step], frames[:, step:]
