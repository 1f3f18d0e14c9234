"""Ask models on natural shifts, and on the clean images of the same classes, each by the protocol of its paper."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from data_prep import ImageSet
from data_prep.shifts import Shift
from data_prep.subsets import ClassSubset
from robustness.analysis.statistics import accuracy_interval
from robustness.measure.evaluate import EvaluationError
from robustness.measure.subjects import Subject
from sdnet_core.augment import to_images

COLUMNS = (
    "model",
    "lam",
    "shift",
    "protocol",
    "classes",
    "n",
    "accuracy",
    "ci_low",
    "ci_high",
    "clean_n",
    "clean_accuracy",
    "clean_ci_low",
    "clean_ci_high",
)


@torch.inference_mode()
def predict(
    subject: Subject, images: ImageSet, subset: ClassSubset, lam: float | None, *, device: torch.device, batch_size: int
) -> NDArray[np.int64]:
    """Answer images among the classes of a subset: the representative of the largest logit that counts, int64 (N,).

    Raises:
        EvaluationError: logits of another shape, or not finite.
    """
    subject.reset()
    answers = []
    for start in range(0, len(images), batch_size):
        batch = to_images(torch.from_numpy(np.array(images.pixels[start : start + batch_size])).to(device))
        logits = subject.network(batch, lam)
        if logits.shape != (len(batch), len(subset.representative)):
            raise EvaluationError(f"logits of shape {tuple(logits.shape)} for {len(subset.representative)} classes")
        if not torch.isfinite(logits).all():
            raise EvaluationError("logits that are not finite")
        answers.append(subset.collapse(logits.float().cpu().numpy()))
    return np.concatenate(answers)


def measure_shifts(
    subjects: Sequence[Subject],
    clean: ImageSet,
    shifts: Iterable[Shift],
    *,
    lambdas: tuple[float, ...] = (),
    n: int | None = None,
    seed: int = 0,
    device: torch.device,
    batch_size: int,
    say: Callable[[str], object] = lambda _: None,
) -> pd.DataFrame:
    """Measure accuracy on every shifted set, and on the clean images whose classes count there.

    Args:
        subjects: the models.
        clean: all clean images; of each shift those are taken whose classes it has, ``n`` of them.
        shifts: read one after the other, so that one is in memory at a time.
        lambdas: λs of models that have a λ; that of training if empty.
        n, seed: of the subset of the clean images.
        device, batch_size: where and how many at a time.
        say: called with a line for every row.

    Returns:
        A row per model, λ and shift with ``COLUMNS``; accuracies are shares with Wilson's 95 % interval.
    """
    rows = []
    for shift in shifts:
        beside = shift.subset.restrict(clean, n, seed)
        for subject in subjects:
            for lam in subject.lambdas(lambdas):
                scores = []
                for images in (shift.images, beside):
                    given = predict(subject, images, shift.subset, lam, device=device, batch_size=batch_size)
                    scores.append(accuracy_interval(given == images.labels))
                values = (len(shift.images), *scores[0], len(beside), *scores[1])
                row = (subject.name, lam, shift.info.title, shift.info.protocol, len(shift.subset), *values)
                rows.append(row)
                say(f"{subject.name}: {scores[0][0]:.1%} on {shift.info.title}, {scores[1][0]:.1%} on the clean images")
    return pd.DataFrame(rows, columns=list(COLUMNS))
