"""The models under measurement: found by name or path, loaded, and identified by the content of their weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from data_prep.errors import InputError
from robustness.laws import FittedLaw, read_law
from robustness.measure.answers import Sketch, sketch_answers
from robustness.measure.foreign import ForeignClassifier, is_foreign, load_foreign
from sdnet_core import Network, load_model, read_card, shipped_models, weights_fingerprint
from sdnet_core.speed import accelerate

Classifier = Network | ForeignClassifier
"""What is measured: images in [0, 1] and λ in, logits out."""


@dataclass(frozen=True)
class Subject:
    """A model under measurement.

    Args:
        name: what tables call it.
        network: in eval mode, on the device of the run.
        fingerprint: SHA-256 of its weights.
        accuracy: what its card records: ``correct``, ``n``, ``data``, ``fingerprint``; may be empty.
        law: the residual law beside its weights; None if there is none.
        precision: ``"float32"``, or ``"fast"`` for the faster form of :func:`sdnet_core.speed.accelerate`.
        sketches: what a model from elsewhere answers to the probe images, by λ; see :meth:`show_probes`.
    """

    name: str
    network: Classifier
    fingerprint: str
    accuracy: dict[str, Any]
    law: FittedLaw | None = None
    precision: str = "float32"
    sketches: dict[float | None, Sketch] = field(default_factory=dict)

    @property
    def lam(self) -> float | None:
        """λ of training; None for a model without λ."""
        return self.network.lam

    def lambdas(self, grid: tuple[float, ...]) -> tuple[float | None, ...]:
        """The λs to measure: the grid, or λ of training if it is empty; one None for a model without λ."""
        return (grid or (self.lam,)) if self.network.has_lam else (None,)

    def show_probes(self, lambdas: Iterable[float | None], size: tuple[int, int], device: torch.device) -> None:
        """Ask a model from elsewhere, at every λ, for its answers to the probe images, of which its keys are made.

        A network of this project is all in its weights and its configuration, and is not asked.
        """
        if isinstance(self.network, ForeignClassifier):
            for lam in set(lambdas) - self.sketches.keys():
                self.sketches[lam] = sketch_answers(self.network, lam, size, device)

    def reset(self) -> None:
        """Make the model what it was before it was first measured; a network of this project never changes."""
        if isinstance(self.network, ForeignClassifier):
            self.network.reset()

    def identity(self) -> dict[str, Any]:
        """What decides the model's answers; JSON values."""
        return {"name": self.name, "weights": self.fingerprint, **self.network.describe()}


def load_subject(given: str, *, num_classes: int, device: torch.device, speed: str = "exact") -> Subject:
    """Load one model (see :func:`load_subjects`), without its law."""
    accuracy: dict[str, Any] = {}
    network: Classifier
    if is_foreign(given):
        if speed == "fast":
            raise InputError(f"--speed fast is for the networks of this project: measure {given} without it")
        network = load_foreign(given, num_classes=num_classes).to(device)
        fingerprint = weights_fingerprint(network)
    else:
        card = read_card(given)
        if card.config.num_classes != num_classes:
            raise InputError(
                f"{given} was trained for {card.config.num_classes} classes and the data set has {num_classes}: "
                "choose a model of this data set"
            )
        trained, accuracy = load_model(given), card.accuracy
        network, fingerprint = accelerate(trained, speed, device), weights_fingerprint(trained)
    precision = "fast" if speed == "fast" else "float32"
    return Subject(name_of(given), network, fingerprint, accuracy, precision=precision)


def load_subjects(
    names: tuple[str, ...], *, num_classes: int, device: torch.device, speed: str = "exact"
) -> list[Subject]:
    """Load every model of ``names`` onto ``device``, with its residual law where it has one.

    A name is a shipped one, the path of a checkpoint, or what :func:`robustness.measure.foreign.load_foreign` takes.

    Raises:
        PrerequisiteError: no such model.
        InputError: a damaged or foreign file, another number of classes, two models of one name, a law that was fitted
            to other weights.
    """
    subjects: dict[str, Subject] = {}
    for given in names:
        subject = load_subject(given, num_classes=num_classes, device=device, speed=speed)
        if subject.name in subjects:
            raise InputError(
                f"two models are called {subject.name!r}: rename one file, so that the tables can tell them apart"
            )
        law = None if is_foreign(given) else read_law(given, weights=subject.fingerprint)
        subjects[subject.name] = dataclasses.replace(subject, law=law)
    return list(subjects.values())


def name_of(given: str) -> str:
    """A shipped or foreign name; of a path the file's name, or the folder's where training calls a file ``model``."""
    if given in shipped_models() or is_foreign(given):
        return given
    stem = Path(given).stem
    return Path(given).resolve().parent.name if stem == "model" else stem
