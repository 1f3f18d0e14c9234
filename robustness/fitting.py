"""Fit the residual law of a model on the training images of a data set, and store it next to the weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from data_prep import load_images
from data_prep.corruptions import severities
from data_prep.errors import InputError, check_seed
from data_prep.progress import make_bar
from robustness.laws import FittedLaw, law_path, write_law
from robustness.measure.fit import fit_residual_law
from robustness.measure.subjects import load_subject
from robustness.policies import SWEEP_NOISES
from sdnet_core.environment import select_device


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
    """Fit the law of a model (:func:`~robustness.measure.fit.fit_residual_law`) and store it.

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
    unknown = [noise for noise in noises if noise not in SWEEP_NOISES]
    if unknown or not noises:
        raise InputError(f"expected noises among {', '.join(SWEEP_NOISES)}, got {', '.join(unknown) or 'none'}")
    check_seed(seed)
    if batch_size < 1:
        raise InputError(f"--batch-size must be at least 1; got {batch_size}")
    place = select_device(device)
    images = load_images(data, split="train", data_dir=data_dir).subset(n, seed=seed)
    subject = load_subject(model, num_classes=len(images.classes), device=place, speed=speed)
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
