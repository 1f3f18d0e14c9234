"""Tasks, the cells that are measured together, and the workplace where that happens."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pandas as pd
import torch
from tqdm import tqdm

from data_prep import ImageSet
from data_prep.shifts import SHIFTS
from robustness.measure.attacker import Attacker
from robustness.measure.cells import Adversary, Cell, hash_identity
from robustness.measure.evaluate import evaluate
from robustness.measure.perturbations import Archive, Perturbation, PerturbedImages, SequencePerturbation, perturb
from robustness.measure.sequences import evaluate_sequences
from robustness.measure.subjects import Subject
from robustness.run_directory import RunDirectory

T = TypeVar("T")
Outcome = tuple[pd.DataFrame, float]
"""Rows per image of a cell, and the seconds that it took."""


class Shelf:
    """Objects by key that several users share: each is made once and kept."""

    def __init__(self) -> None:
        self._held: dict[Hashable, Any] = {}

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return the object under ``key``; make it first if necessary."""
        if key not in self._held:
            self._held[key] = make()
        held: T = self._held[key]
        return held


@dataclass(frozen=True)
class Workplace:
    """Everything but the jobs that a measurement of jobs needs.

    Args:
        archive: the official -C archive, or None to generate the corruptions.
        directory: the run directory. Only adversarial images, the state of a running attack and scratch files are
            written to it here.
        device: device of the models, on this machine.
        batch_size: images per forward pass; an attack has its own.
        bar: progress bar over all jobs, in forward passes of one image each.
        report: called with a sentence for people about every failure that was repaired.
        timeout: seconds after which a task is abandoned and its cells fail; None for no limit.
        shelf: objects that tasks share, such as the probes of a model.
        check: called between the batches of images that are made; it raises an error to stop.
    """

    archive: Archive | None
    directory: RunDirectory
    device: torch.device
    batch_size: int
    bar: tqdm[Any]
    report: Callable[[str], None] = lambda _: None
    timeout: float | None = None
    shelf: Shelf = field(default_factory=Shelf)
    check: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Task(ABC):
    """Cells that share their model and its images, evaluated together: one λ after another on every batch.

    An executor treats all kinds in the same way: :meth:`prepare` makes the images that the tasks of a job share, and
    :meth:`run` measures one task on them.
    """

    subject: Subject
    perturbation: Perturbation | Adversary
    images: ImageSet
    cells: tuple[Cell, ...]
    is_attack: ClassVar[bool] = False

    @property
    @abstractmethod
    def title(self) -> str:
        """Title for people."""

    @property
    @abstractmethod
    def size(self) -> int:
        """Estimated forward passes of one image each."""

    @abstractmethod
    def prepare(self, workplace: Workplace, scratch: Path) -> PerturbedImages:
        """Make the images that all tasks of a job start from; ``scratch`` is a folder for large ones."""

    @abstractmethod
    def run(self, images: PerturbedImages, workplace: Workplace) -> list[Outcome]:
        """Measure the cells on the prepared images."""

    @abstractmethod
    def image_file(self, directory: RunDirectory) -> Path | None:
        """Return the file that keeps the task's images in a run directory; None if they are made again every time."""


@dataclass(frozen=True)
class PerturbationTask(Task):
    """Cells on images that are the same for all models and λs."""

    perturbation: Perturbation

    @property
    def title(self) -> str:
        """Title for people: split, perturbation and severity, or the shifted set."""
        if self.perturbation.name in SHIFTS:
            return self.images.title
        return f"{self.images.split} {self.perturbation.name} {self.perturbation.severity or ''}".strip()

    @property
    def size(self) -> int:
        """Forward passes of one image each; for sequences an estimate."""
        return len(self.cells) * len(self.images) * self.perturbation.frames

    def prepare(self, workplace: Workplace, scratch: Path) -> PerturbedImages:
        """Perturb the images."""
        return perturb(
            self.perturbation,
            self.images,
            seed=self.cells[0].seed,
            archive=workplace.archive,
            device=workplace.device,
            scratch=scratch,
            batch_size=workplace.batch_size,
            check=workplace.check,
        )

    def run(self, images: PerturbedImages, workplace: Workplace) -> list[Outcome]:
        """Evaluate the model on the images at every λ of the task."""
        started = time.perf_counter()
        frames = self._evaluate(
            images,
            device=workplace.device,
            batch_size=workplace.batch_size,
            progress=lambda n: workplace.bar.update(n * self.perturbation.frames),
        )
        seconds = round((time.perf_counter() - started) / len(self.cells), 4)
        return [(frame, seconds) for frame in frames]

    def image_file(self, directory: RunDirectory) -> None:
        """Return None: the images are made again every time."""

    def _evaluate(self, images: PerturbedImages, **options: Any) -> list[pd.DataFrame]:
        lambdas, subset = [cell.lam for cell in self.cells], self.cells[0].subset
        return evaluate(self.subject.network, images, self.images.indices, lambdas, subset=subset, **options)


@dataclass(frozen=True)
class SequenceTask(PerturbationTask):
    """Cells on a perturbation sequence of every image."""

    perturbation: SequencePerturbation

    def _evaluate(self, images: PerturbedImages, **options: Any) -> list[pd.DataFrame]:
        lambdas, compared = [cell.lam for cell in self.cells], self.perturbation
        options |= {"noise": compared.is_noise, "step": compared.severity}
        return evaluate_sequences(self.subject.network, images, self.images.indices, lambdas, **options)


@dataclass(frozen=True)
class AttackTask(Task):
    """Cells on one set of adversarial images, crafted on the model at one choice of λ; ``key`` names that set."""

    perturbation: Adversary
    is_attack: ClassVar[bool] = True

    @property
    def title(self) -> str:
        """Title for people: model, λ and attack."""
        lam = self.perturbation.crafted_for.title.replace(" = ", "=").removeprefix("the ")
        return " ".join(filter(None, (self.subject.name, lam, self.perturbation.attack.title)))

    @property
    def size(self) -> int:
        """Estimated forward passes of one image each."""
        return (self.perturbation.attack.passes + len(self.cells)) * len(self.images)

    @cached_property
    def key(self) -> str:
        """SHA-256 (hex) of everything that decides the adversarial images: a cell's identity without its λ."""
        identity = self.cells[0].identity()
        of_cell = ("lam", "probes", "answers")
        return hash_identity({name: value for name, value in identity.items() if name not in of_cell})

    def prepare(self, workplace: Workplace, scratch: Path) -> PerturbedImages:  # noqa: ARG002
        """Return the clean images, from which the attack starts."""
        return PerturbedImages(self.images.pixels, self.images.labels)

    def run(self, images: PerturbedImages, workplace: Workplace) -> list[Outcome]:
        """Craft the adversarial images, or read them back, and evaluate the model on them at every λ of the task."""
        return Attacker(self, images, workplace).run()

    def image_file(self, directory: RunDirectory) -> Path:
        """Return the file of the adversarial images."""
        return directory.adversarial / f"{self.key}.npz"
