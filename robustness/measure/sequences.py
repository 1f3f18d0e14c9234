"""Evaluation on a perturbation sequence of every image: how often, and how far, a model's predictions change."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch

from robustness.flips import TOP, flips_of_sequences, top5_distances
from robustness.measure.evaluate import EvaluationError, choose_lam
from robustness.measure.perturbations import PerturbedImages
from robustness.which_lam import LamGiven
from sdnet_core.augment import to_images
from sdnet_core.classifier import Classifier


@torch.inference_mode()
def evaluate_sequences(
    network: Classifier,
    images: PerturbedImages,
    indices: np.ndarray,
    lambdas: Sequence[LamGiven],
    *,
    noise: bool,
    step: int,
    device: torch.device,
    batch_size: int,
    progress: Callable[[int], object] = lambda _: None,
) -> list[pd.DataFrame]:
    """Compute outcomes per image as :func:`robustness.measure.evaluate.evaluate` does, one frame for each λ.

    Args:
        network, indices, lambdas, device: as there.
        images: pixels uint8 (N, frames, H, W, 3) and labels.
        noise: compare every frame with the first, as in :func:`robustness.flips.flips_of_sequences`.
        step: number of frames between compared frames.
        batch_size: frames per forward pass.
        progress: called with the number of images since the last call.

    Returns:
        Frames with the columns ``index, label``; ``predicted, correct, confidence, nll`` of the first frame; ``flips``,
        and for at least five classes ``top5_distance``, of the whole sequence.

    Raises:
        EvaluationError: logits of the wrong shape, or not finite.
    """
    parts: list[list[pd.DataFrame]] = [[] for _ in lambdas]
    start = 0
    while start < len(indices):
        count = max(1, batch_size // images.pixels[start : start + 1].shape[1])
        rows = slice(start, start + count)
        pixels, labels = np.array(images.pixels[rows]), images.labels[rows]
        frames = to_images(torch.from_numpy(pixels).flatten(0, 1).to(device))
        for found, lam in zip(parts, lambdas, strict=True):
            logits = torch.cat(
                [network(x, choose_lam(network, x, lam)).float() for x in torch.split(frames, batch_size)]
            )
            if logits.shape != (len(frames), network.num_classes) or not torch.isfinite(logits).all():
                expected = f"{len(frames)} finite rows of {network.num_classes} logits"
                raise EvaluationError(f"expected {expected} for as many frames, got {tuple(logits.shape)}")
            answers = logits.cpu().numpy().reshape(*pixels.shape[:2], -1)
            found.append(_describe(answers, labels, indices[rows], noise=noise, step=step))
            progress(len(labels))
        start += len(labels)
    return [pd.concat(found, ignore_index=True) for found in parts]


def _describe(logits: np.ndarray, labels: np.ndarray, indices: np.ndarray, *, noise: bool, step: int) -> pd.DataFrame:
    """Compute the rows of some images from logits (n, frames, C)."""
    log_probabilities = torch.from_numpy(logits[:, 0]).log_softmax(dim=1).numpy()
    predicted = logits.argmax(axis=2)
    table = pd.DataFrame(
        {
            "index": indices.astype(np.int32),
            "label": labels.astype(np.int32),
            "predicted": predicted[:, 0].astype(np.int32),
            "confidence": np.exp(log_probabilities.max(axis=1)),
            "nll": -log_probabilities[np.arange(len(labels)), labels],
            "correct": predicted[:, 0] == labels,
            "flips": flips_of_sequences(predicted, noise=noise, step=step).astype(np.float32),
        }
    )
    if logits.shape[2] >= TOP:
        table["top5_distance"] = top5_distances(logits, noise=noise, step=step).astype(np.float32)
    return table
