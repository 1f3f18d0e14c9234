"""A first look at the logits of every model: a model that fails is reported once, before the grid, with advice."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import numpy as np
import torch
from torch import Tensor, nn

from data_prep import ImageSet
from data_prep.errors import InputError, UsageError, describe_error, is_out_of_memory
from robustness.measure.subjects import Subject
from robustness.measure.time_limit import TimeLimitError, time_limit
from robustness.run_directory import RunDirectory
from sdnet_core.augment import to_images
from sdnet_core.classifier import Classifier

_IMAGES = 4
_SUM_TOLERANCE = 1e-3


def look_at_answers(
    subjects: Sequence[Subject], images: ImageSet, *, device: torch.device, timeout: float | None = None
) -> list[str]:
    """Show a few clean images to every foreign model, at its own λ.

    Args:
        subjects: the models, on ``device``. Networks of this project are skipped.
        images: the images to measure.
        device: device of the models.
        timeout: seconds after which a model is left to the grid, which abandons it task by task; None for no limit.

    Returns:
        Notes for a reader of the numbers, one sentence each.

    Raises:
        InputError: a model that raises an error, returns no logits, or returns logits for another number of images or
            classes.
    """
    pixels = np.asarray(images.pixels[:_IMAGES])
    notes: list[str] = []
    for subject in subjects:
        if subject.network.is_known:
            continue
        notes += subject.network.notes
        subject.reset()
        with suppress(TimeLimitError), time_limit(timeout):
            logits = _ask(subject, to_images(torch.from_numpy(pixels.copy()).to(device)))
            if logits is not None:
                notes += _note_probabilities(subject, logits)
        subject.reset()
    return notes


def find_other_weights(subjects: Sequence[Subject], directory: RunDirectory) -> list[str]:
    """Write a note for every foreign model that a run directory knows by the same name with other weights."""
    try:
        known = {model["name"]: model["weights"] for model in directory.read_record()["models"]}
    except UsageError:  # no record, or an unreadable one
        return []
    return [
        f"{subject.name}: its weights are others than when this directory was last measured, so that nothing counts as "
        "done; if it was not trained since, its function draws them anew each time; let it load them, or seed them"
        for subject in subjects
        if not subject.network.is_known and known.get(subject.name, "") not in ("", subject.fingerprint)
    ]


def _ask(subject: Subject, images: Tensor) -> Tensor | None:
    """Return logits (N, K) of a few images; None if memory is too small for them, which the grid handles."""
    network = subject.network
    n, classes, size = len(images), network.num_classes, f"{images.shape[2]} × {images.shape[3]}"
    try:
        with torch.no_grad():
            logits: Tensor = network(images)
    except TimeLimitError:
        raise
    except UsageError as error:
        raise InputError(f"{subject.name}: {error}") from error
    except Exception as error:
        if is_out_of_memory(error):
            return None
        raise InputError(
            f"{subject.name} fails on {n} images of 3 channels and {size} pixels: {describe_error(error)}; "
            f"{_advise(network)}"
        ) from error
    if logits.ndim == 2 and len(logits) == n and logits.shape[1] != classes:
        raise InputError(
            f"expected a model of {classes} classes, as the data set has, got {subject.name}, which has "
            f"{logits.shape[1]}; measure it on the data that it was trained for"
        )
    if logits.shape != (n, classes):
        raise InputError(
            f"expected logits ({n}, {classes}) from {subject.name}, a row for each image and a column for each class, "
            f"got {tuple(logits.shape)}; return that shape"
        )
    return logits


def _advise(network: Classifier) -> str:
    """Suggest a remedy for a model that raises an error on the images."""
    if part := network.hidden_knob:
        return f"its part {part} takes lam and the model itself does not; let its forward take lam and hand it on"
    first = next((it for it in network.modules() if isinstance(it, nn.Conv2d)), None)
    if first is not None and first.in_channels != 3:
        return (
            f"its first convolution takes {first.in_channels} channel{'s' * (first.in_channels != 1)}: make them of "
            "the three of the image within forward, as images.mean(1, keepdim=True) does for grey"
        )
    return "if it wants images of another size, give --input-size; otherwise mend it, or leave it out"


def _note_probabilities(subject: Subject, logits: Tensor) -> list[str]:
    """Write a note if outputs look like probabilities: ≥ 0, and every row sums to 1."""
    rows = logits.detach().sum(1)
    if logits.shape[1] < 2 or bool((logits < 0).any()) or bool(((rows - 1).abs() > _SUM_TOLERANCE).any()):
        return []
    return [
        f"{subject.name}: its answers look like probabilities, and logits are expected: accuracies are right, while "
        "confidences, calibration and the gradients of attacks pass through a second softmax; return their logarithm"
    ]
