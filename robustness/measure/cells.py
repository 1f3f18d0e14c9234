"""The grid, flat: every measurement is one cell with a key made of everything that can change its result."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from data_prep import ImageSet
from robustness.measure.perturbations import Perturbation
from robustness.measure.subjects import Subject
from robustness.suite import Suite

PROTOCOL_VERSION = 1
"""Raised whenever the same inputs would give another number; older outcomes then no longer count as done."""


@dataclass(frozen=True)
class Cell:
    """One measurement: a model at one λ on one set of perturbed images.

    Args:
        subject: the model.
        lam: λ of the call; None for a model without λ.
        perturbation: what is done to the images.
        images: the clean images.
        seed: of the corruption.
        precision: of the forward pass.
    """

    subject: Subject
    lam: float | None
    perturbation: Perturbation
    images: ImageSet
    seed: int
    precision: str = "float32"

    def identity(self) -> dict[str, Any]:
        """Everything that can change the result; JSON values. Device, batch size and output path are not in it."""
        return {
            "protocol": PROTOCOL_VERSION,
            "model": self.subject.identity(),
            "lam": self.lam,
            "perturbation": self.perturbation.identity(),
            "data": {"fingerprint": self.images.fingerprint, "n": len(self.images)},
            "seed": self.seed,
            "precision": self.precision,
        }

    @cached_property
    def key(self) -> str:
        """SHA-256 (hex) of the canonical JSON of :meth:`identity`."""
        canonical = json.dumps(self.identity(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def row(self) -> dict[str, Any]:
        """What tables say of the cell; JSON values."""
        return {
            "key": self.key,
            "model": self.subject.name,
            "data": self.images.title,
            "source": self.perturbation.source,
            "perturbation": self.perturbation.name,
            "severity": self.perturbation.severity,
            "lam": self.lam,
            "trained_lam": self.subject.lam,
            "n": len(self.images),
        }


@dataclass(frozen=True)
class Task:
    """Cells that share their images and their model; evaluated together, one λ after the other on every batch."""

    subject: Subject
    perturbation: Perturbation
    cells: tuple[Cell, ...]


def list_perturbations(suite: Suite, *, official: bool) -> list[Perturbation]:
    """Clean first, then every corruption at every severity; all of one source, so that no table mixes sources."""
    generated = "synthetic" if suite.profile == "sweep" else "generated"
    source = "official" if official else generated
    clean = Perturbation(name="clean", severity=0, source=source)
    profile = "" if official else suite.profile
    return [clean] + [
        Perturbation(name=name, severity=severity, source=source, profile=profile)
        for name in suite.corruptions
        for severity in suite.levels(name)
    ]


def plan_tasks(suite: Suite, subjects: list[Subject], images: ImageSet, *, official: bool) -> list[Task]:
    """The whole grid, grouped: perturbations outermost, so that images are perturbed once for all models and λs."""
    return [
        Task(
            subject,
            perturbation,
            tuple(Cell(subject, lam, perturbation, images, suite.seed) for lam in subject.lambdas(suite.lambdas)),
        )
        for perturbation in list_perturbations(suite, official=official)
        for subject in subjects
    ]
