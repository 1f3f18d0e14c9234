"""Fit the residual law of a model on training images with synthetic noise, and store it next to the weights."""

from __future__ import annotations

import dataclasses
import math
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from data_prep import ImageSet, load_images
from data_prep.corruptions import severities
from data_prep.errors import InputError, check_seed
from data_prep.progress import make_bar
from robustness.laws import FittedLaw, NoiseLevel, fit_line, law_path, write_law
from robustness.measure.evaluate import evaluate
from robustness.measure.loaders.loaded import Wanted
from robustness.measure.perturbations import Perturbation, perturb
from robustness.measure.subjects import load_subject
from robustness.policies import SWEEP_NOISES, ResidualLaw
from robustness.statistics import resample_means
from sdnet_core.classifier import Classifier
from sdnet_core.environment import select_device

_LEAST_SHARE = 0.5
"""Least share of the clean accuracy at the training λ that a fitted level must keep."""
_BOOTSTRAPS = 1000
_LEAST_STEP = 1e-3
"""Step assumed for a grid of one λ, so that no point has infinite weight."""


def fit_law(
    model: str,
    data: str,
    lambdas: Sequence[float],
    *,
    noises: Sequence[str] = SWEEP_NOISES,
    n: int = 1000,
    seed: int = 0,
    data_dir: str | Path = "data",
    device: str | None = None,
    speed: str = "exact",
    batch_size: int = 250,
) -> tuple[FittedLaw, Path]:
    """Fit the law of a model (:func:`fit_residual_law`) and store it.

    Args:
        model: name of a shipped model, or a checkpoint.
        data: data set that the model was trained on; its split ``train`` is used.
        lambdas: the λs to choose from.
        noises: noises of the sweep.
        n: size of the random subset of the training images.
        seed: seed of the subset and of the noise.
        data_dir: folder of the data sets.
        device: ``cpu`` or ``cuda``; None for CUDA if it works.
        speed: ``exact`` or ``fast``.
        batch_size: images per forward pass.

    Returns:
        The law and the path of its file.

    Raises:
        PrerequisiteError: the model or the data is missing.
        InputError: an invalid value, a noise that is not in the sweep, or a model without a sparse code.
    """
    check_seed(seed)
    unknown = [noise for noise in noises if noise not in SWEEP_NOISES]
    if unknown or not noises:
        raise InputError(
            f"expected noises among {', '.join(SWEEP_NOISES)}, got {', '.join(unknown) or 'none'}; choose some of them"
        )
    if batch_size < 1:
        raise InputError(f"expected --batch-size of at least 1, got {batch_size}; give a larger number")
    place = select_device(device)
    images = load_images(data, split="train", data_dir=data_dir).subset(n, seed=seed)
    subject = load_subject(model, Wanted(num_classes=len(images.classes)), device=place, speed=speed)
    levels = 1 + sum(len(severities(noise, "sweep")) for noise in noises)
    total = levels * len({*lambdas, subject.lam}) * len(images)
    with make_bar(total=total, unit="img", unit_scale=True, smoothing=0.05) as bar:
        fitted = fit_residual_law(
            subject.network,
            images,
            lambdas,
            noises=noises,
            weights=subject.fingerprint,
            precision=subject.precision,
            seed=seed,
            device=place,
            batch_size=batch_size,
            progress=lambda count: bar.update(count),
        )
    path = law_path(model)
    write_law(fitted, path)
    return fitted, path


@torch.inference_mode()
def fit_residual_law(
    network: Classifier,
    images: ImageSet,
    lambdas: Sequence[float],
    *,
    noises: Sequence[str] = SWEEP_NOISES,
    weights: str,
    precision: str = "float32",
    seed: int,
    device: torch.device,
    batch_size: int,
    progress: Callable[[int], object] = lambda _: None,
) -> FittedLaw:
    """Find the best λ of every noise level and fit a line through these λs over their mean residuals.

    Every level of every noise, and the clean images, make one :class:`NoiseLevel`. The law is the line
    (:func:`robustness.laws.fit_line`) through the levels at which the training λ keeps at least half of its clean
    accuracy, clipped to the range of their best λs.

    Args:
        network: an SDNet in eval mode, on ``device``.
        images: training images; test images are refused.
        lambdas: the λs to choose from.
        noises: noises of the sweep. In a run whose corruptions include these noises, the law was fitted to noises of
            the test; ``speckle_noise`` is the noise that CIFAR-10-C and ImageNet-C reserve for such purposes.
        weights: fingerprint of the network's weights, stored with the law.
        precision: precision of the network, stored with the law.
        seed: seed of the noise.
        device: device of the network.
        batch_size: images per forward pass.
        progress: called with the number of predictions since the last call.

    Raises:
        InputError: images that do not come from a training split, or a network without λ.

    Source: Dai et al., NeurIPS 2022, section 4.3; levels of the public reference implementation.
    Deviation: noise is drawn once for all λs, r is taken at the training λ, clean images are one point, levels at which
        the model loses more than half of its accuracy are left out, the others are weighted by the precision of their
        best λ, and the images are training images instead of the test set.
    """
    if images.split != "train":
        raise InputError(
            f"expected the split 'train' to fit a law on, so that no test label is used, got {images.split}; give "
            "training images"
        )
    if network.lam is None or not network.has_code:
        raise network.lacks_code()
    grid = sorted({*lambdas, network.lam})
    levels = [("clean", 0), *((noise, level) for noise in noises for level in severities(noise, "sweep"))]
    points = []
    with tempfile.TemporaryDirectory() as scratch:
        for noise, severity in levels:
            profile = "sweep" if severity else ""
            perturbation = Perturbation(name=noise, severity=severity, source="synthetic", profile=profile)
            noisy = perturb(perturbation, images, seed=seed, archive=None, device=device, scratch=Path(scratch))
            frames = evaluate(
                network, noisy, images.indices, grid, device=device, batch_size=batch_size, progress=progress
            )
            points.append(_find_best(noise, severity, dict(zip(grid, frames, strict=True)), lambdas, network.lam))
    provenance = {
        "weights": weights,
        "data": {"name": images.name, "title": images.title, "split": images.split, "n": len(images)},
        "fingerprint": images.fingerprint,
        "seed": seed,
        "precision": precision,
        "trained_lam": network.lam,
        "lambdas": sorted(lambdas),
        "profile": "sweep",
    }
    return draw_line(points, provenance)


def draw_line(points: Sequence[NoiseLevel], provenance: dict[str, Any]) -> FittedLaw:
    """Fit the law through ``points``; the first point holds the clean images."""
    least = _LEAST_SHARE * points[0].trained_accuracy
    marked = [dataclasses.replace(point, fitted=point.trained_accuracy >= least) for point in points]
    fitted = [point for point in marked if point.fitted]
    slope, intercept, r_squared = fit_line(fitted)
    lambdas = [point.lam for point in fitted]
    return FittedLaw(ResidualLaw(slope, intercept, min(lambdas), max(lambdas)), r_squared, tuple(marked), provenance)


def _find_best(
    noise: str, severity: int, frames: dict[float, pd.DataFrame], lambdas: Sequence[float], trained_lam: float
) -> NoiseLevel:
    trained = frames[trained_lam]
    candidates = np.array(sorted(lambdas, key=lambda lam: math.fabs(lam - trained_lam)))  # argmax takes the first
    right = np.stack([frames[lam]["correct"].to_numpy(dtype=np.float64) for lam in candidates])
    best = candidates[resample_means(right.T, draws=_BOOTSTRAPS).argmax(axis=1)]
    step = np.ptp(candidates) / max(len(candidates) - 1, 1)
    return NoiseLevel(
        noise,
        severity,
        residual=float(trained["residual"].mean()),
        lam=float(best.mean()),
        spread=math.sqrt(best.var() + max(step, _LEAST_STEP) ** 2 / 12),
        accuracy=float(right.mean(axis=1).max()),
        trained_accuracy=float(trained["correct"].mean()),
        fitted=False,
    )
