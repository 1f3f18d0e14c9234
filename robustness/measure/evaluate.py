"""Evaluation of a model on perturbed images at several λs: one row per image and λ; the model is not changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from data_prep.subsets import ClassSubset
from robustness.measure.perturbations import PerturbedImages
from robustness.which_lam import LamGiven, WhichLam
from sdnet_core.augment import to_images
from sdnet_core.classifier import Classifier
from sdnet_core.sparse_coding import Lambda

CODE_COLUMNS = ("residual", "sparsity", "noise_level")
"""Columns of a model with a sparse code."""
_LARGEST = 2**31 - 1
_TOP = 5


class EvaluationError(RuntimeError):
    """The model's logits are invalid; the cell counts as failed, with this reason."""


@dataclass(frozen=True)
class Answers:
    """A model's predictions for one batch at one λ, every value of shape (N,), on the model's device.

    predicted: class of the largest logit. confidence: its softmax probability. nll: −log p(label).
    residual: ‖x − Az‖² of the input's code, summed, normalised-pixel units. sparsity: share of zeros in the code.
    noise_level: estimated σ̂ of the image's noise, in normalised pixels; the same at every λ. These three are absent for
    a model without a code. top5: true if the label is among the five largest logits; absent for five classes or fewer.
    """

    predicted: Tensor
    confidence: Tensor
    nll: Tensor
    residual: Tensor | None
    sparsity: Tensor | None
    top5: Tensor | None
    noise_level: Tensor | None = None

    @classmethod
    def make_room(cls, count: int, n: int, *, has_code: bool, has_top5: bool, device: torch.device) -> Answers:
        """Allocate predictions for ``n`` images at each of ``count`` λs: uninitialised values of shape (count, n)."""
        types = {"predicted": torch.int64, "confidence": torch.float32, "nll": torch.float32}
        room: dict[str, Any] = {name: torch.empty(count, n, dtype=kind, device=device) for name, kind in types.items()}
        code = {name: torch.empty(count, n, device=device) if has_code else None for name in CODE_COLUMNS}
        top5 = torch.empty(count, n, dtype=torch.bool, device=device) if has_top5 else None
        return cls(**(room | code), top5=top5)

    def write(self, index: int, batch: slice, part: Answers) -> None:
        """Copy ``part`` to the positions ``batch`` of the λ ``index``."""
        for name, value in vars(part).items():
            if value is not None:
                getattr(self, name)[index, batch] = value


def choose_lam(network: Classifier, images: Float[Tensor, "n 3 h w"], which: LamGiven) -> Lambda | None:
    """Compute λ of a call: the fixed number, or the policy's choice for each image, shape (N,).

    A policy clips a line in a statistic of the image (:class:`robustness.policies.Law`). If gradients are recorded, the
    clip passes them unchanged (straight-through), so that an attack can push λ back from its bounds.

    Source: Bengio, Léonard & Courville, 2013 (straight-through estimator); Athalye, Carlini & Wagner, ICML 2018
        (backward pass differentiable approximation).
    """
    chooser = WhichLam.of(which)
    law = chooser.law
    if law is None:
        return chooser.value
    statistic = law.measure(network, images)
    chosen = law.lam(statistic)
    if not (torch.is_grad_enabled() and statistic.requires_grad):
        return chosen
    smooth = law.line(statistic)
    return chosen.detach() + smooth - smooth.detach()


def answer(
    network: Classifier,
    images: Tensor,
    labels: Tensor,
    choice: LamGiven,
    correlation: Tensor | None = None,
    subset: ClassSubset | None = None,
) -> Answers:
    """Classify images (N, 3, H, W) in [0, 1] at one choice of λ, and measure their codes if the model has any.

    ``correlation`` is the starting point of the codes at all λs (:meth:`sdnet_core.Network.correlate`), if known;
    ``subset`` lists the classes that count, if not all do.
    """
    lam = choose_lam(network, images, choice)
    residual = sparsity = None
    code = network.encode(images, lam, correlation)
    logits = network.classify(code, lam)
    if network.has_code:
        residual, sparsity = network.residual(images, code), (code == 0).mean((1, 2, 3), dtype=torch.float32)
    if logits.shape != (len(images), network.num_classes):
        raise EvaluationError(
            f"logits of shape {tuple(logits.shape)} for {len(images)} images of {network.num_classes} classes"
        )
    if subset is not None:
        logits = pool(logits, subset)
    top5 = (logits.topk(_TOP, 1).indices == labels[:, None]).any(1) if network.num_classes > _TOP else None
    log_probabilities = functional.log_softmax(logits.float(), dim=1)
    confidence, predicted = log_probabilities.max(1)
    return Answers(
        predicted=predicted,
        confidence=confidence.exp(),
        nll=functional.nll_loss(log_probabilities, labels, reduction="none"),
        residual=residual,
        sparsity=sparsity,
        top5=top5,
    )


def pool(logits: Tensor, subset: ClassSubset) -> Tensor:
    """Give every class the largest logit among the outputs that it stands for, and −∞ to the others: (N, C)."""
    counted = torch.from_numpy(np.flatnonzero(subset.mask)).to(logits.device)
    groups = torch.from_numpy(subset.representative).to(logits.device)[counted]
    own = logits[:, counted]
    return torch.full_like(logits, -torch.inf).scatter_reduce(1, groups.expand_as(own), own, "amax")


@torch.inference_mode()
def evaluate(
    network: Classifier,
    images: PerturbedImages,
    indices: np.ndarray,
    lambdas: Sequence[LamGiven],
    *,
    device: torch.device,
    batch_size: int,
    subset: ClassSubset | None = None,
    progress: Callable[[int], object] = lambda _: None,
) -> list[pd.DataFrame]:
    """Compute outcomes per image, one frame for each of ``lambdas``.

    Every batch is moved to the device once and evaluated at every λ; predictions stay on the device until the end. They
    are copied into arrays allocated before the first forward pass: small tensors that outlive a pass would keep the
    allocator from reusing the memory around them.

    Args:
        network: the network in eval mode, on ``device``.
        images: perturbed pixels (uint8, or float32 in [0, 1]) and labels.
        indices: identity of every image in its split.
        lambdas: λs of the calls, or policies that choose it for each image; (None,) for a model without λ.
        device: device of the network.
        batch_size: images per forward pass; it affects results only by rounding.
        subset: the classes that count; None for all.
        progress: called with the number of predictions since the last call.

    Returns:
        Frames with the columns ``index, label, predicted, correct, confidence, nll``, for a model with a sparse code
        :data:`CODE_COLUMNS`, and for more than five classes ``top5``.

    Raises:
        EvaluationError: logits of the wrong shape, or not finite.
    """
    n = len(images.labels)
    has_code = network.has_code
    has_top5 = network.num_classes > _TOP
    answers = Answers.make_room(len(lambdas), n, has_code=has_code, has_top5=has_top5, device=device)
    for start in range(0, n, batch_size):
        batch = slice(start, start + batch_size)
        pixels = torch.from_numpy(np.array(images.pixels[batch])).to(device, non_blocking=True)
        labels = torch.from_numpy(np.array(images.labels[batch])).to(device, non_blocking=True)
        x = to_images(pixels)
        shared = network.correlate(x) if len(lambdas) > 1 else None
        level = network.noise_level(x) if network.has_code else None
        for index, lam in enumerate(lambdas):
            part = answer(network, x, labels, lam, shared, subset)
            answers.write(index, batch, replace(part, noise_level=level))
            progress(len(labels))
    return [_to_frame(answers, index, images.labels, indices, lam) for index, lam in enumerate(lambdas)]


def _to_int32(values: np.ndarray) -> np.ndarray:
    """Convert whole numbers to four bytes; raise EvaluationError for a number that does not fit."""
    if len(values) and not (int(values.min()) >= 0 and int(values.max()) <= _LARGEST):
        raise EvaluationError(f"expected labels and indices from 0 to {_LARGEST}, got {values.min()} to {values.max()}")
    return values.astype(np.int32)


def _to_frame(answers: Answers, index: int, labels: np.ndarray, indices: np.ndarray, lam: LamGiven) -> pd.DataFrame:
    def gather(name: str, dtype: type[np.generic]) -> np.ndarray:
        values: np.ndarray = getattr(answers, name)[index].cpu().numpy().astype(dtype)
        return values

    columns: dict[str, np.ndarray] = {
        "index": _to_int32(indices),
        "label": _to_int32(labels),
        "predicted": gather("predicted", np.int32),
        "confidence": gather("confidence", np.float32),
        "nll": gather("nll", np.float32),
    }
    columns |= {name: gather(name, np.float32) for name in CODE_COLUMNS if getattr(answers, name) is not None}
    if answers.top5 is not None:
        columns["top5"] = gather("top5", np.bool_)
    bad = int((~np.isfinite(columns["confidence"])).sum())
    if bad:
        at = f" at {title}" if (title := WhichLam.of(lam).title) else ""
        raise EvaluationError(f"the logits of {bad} of {len(labels)} images are not finite{at}")
    columns["correct"] = columns["predicted"] == columns["label"]
    return pd.DataFrame(columns)
