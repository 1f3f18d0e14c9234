"""Measure a suite into a run directory: only what is missing, every finished cell kept whatever happens next."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from data_prep import ImageSet
from data_prep.archives_c import ArchiveC
from data_prep.errors import InputError, UsageError
from robustness.measure.agreement import Agreement
from robustness.measure.attacker import Attacker
from robustness.measure.cells import PROTOCOL_VERSION, AttackTask, Cell, Task, plan_attacks, plan_tasks
from robustness.measure.evaluate import evaluate
from robustness.measure.perturbations import PerturbedImages, perturb
from robustness.measure.samples import collect_samples
from robustness.measure.subjects import Subject
from robustness.run_directory import RunDirectory
from robustness.suite import Suite
from sdnet_core.environment import describe_environment

CLEAN_TOLERANCE = 0.005
"""Clean accuracy may differ by this much from the model card on the same full test set."""


@dataclass
class Measurement:
    """A suite that is ready to be measured: models and images loaded, the grid planned, finished cells found.

    Args:
        suite: what to measure.
        subjects: the models.
        images: the clean images.
        archive: the official -C archive, or None to generate the corruptions.
        directory: where outcomes go.
        device: where to compute.
        batch_size: images per forward pass.
        training_images: those that the policy ``validated`` chooses λ on; None for no such choice.
    """

    suite: Suite
    subjects: list[Subject]
    images: ImageSet
    archive: ArchiveC | None
    directory: RunDirectory
    device: torch.device
    batch_size: int
    training_images: ImageSet | None = None
    tasks: list[Task] = field(init=False)
    attacks: list[AttackTask] = field(init=False)
    agreements: list[Agreement] = field(init=False, default_factory=list)
    done: set[str] = field(init=False, default_factory=set)
    failures: dict[str, str] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.tasks = plan_tasks(
            self.suite,
            self.subjects,
            self.images,
            official=self.archive is not None,
            training_images=self.training_images,
        )
        self.attacks = plan_attacks(self.suite, self.subjects, self.images)

    @property
    def cells(self) -> list[Cell]:
        """Every cell of the grid."""
        tasks: list[Task | AttackTask] = [*self.tasks, *self.attacks]
        return [cell for task in tasks for cell in task.cells]

    def find_done(self) -> None:
        """Look up which cells the run directory already holds, whole and of exactly this identity."""
        self.done = {
            cell.key for cell in self.cells if self.directory.read_outcome(cell.key, n=len(cell.images)) is not None
        }

    def run(self, asked: Sequence[str]) -> None:
        """Measure every missing cell; ``run.json`` is written before the first and after the last one.

        Raises:
            InputError: the clean accuracy of a model is not the one that its card records.
        """
        started = datetime.now(UTC)
        self._write_record(asked, started, "running")
        try:
            self._measure_tasks()
            self._measure_attacks()
            self._keep_samples()
        except BaseException:
            self._write_record(asked, started, "interrupted")
            raise
        self._write_record(asked, started, "failed" if self.failures else "complete")

    def _measure_tasks(self) -> None:
        missing = sum(len(self._missing(task)) * len(task.images) for task in self.tasks)
        bar = tqdm(total=missing, unit="img", unit_scale=True, disable=missing == 0, smoothing=0.05)
        with bar, tempfile.TemporaryDirectory(dir=self.directory.path, prefix=".scratch-") as scratch:
            for (perturbation, split), group in groupby(self.tasks, key=lambda t: (t.perturbation, t.images.split)):
                tasks = list(group)
                if any(self._missing(task) for task in tasks):
                    bar.set_description(f"{split} {perturbation.name} {perturbation.severity or ''}".strip())
                    images = perturb(
                        perturbation,
                        tasks[0].images,
                        seed=self.suite.seed,
                        archive=self.archive,
                        device=self.device,
                        scratch=Path(scratch),
                    )
                    for task in tasks:
                        self._measure_task(task, images, bar)
                if perturbation.is_clean:
                    self._check_clean_accuracy(tasks)

    def _keep_samples(self) -> None:
        """Store what the first model with a λ sees of one image."""
        for subject in self.subjects:
            if subject.network.has_code:
                arrays = collect_samples(
                    subject,
                    subject.lambdas(self.suite.lambdas),
                    list(dict.fromkeys(task.perturbation for task in self.tasks if task.images is self.images)),
                    self.images,
                    seed=self.suite.seed,
                    archive=self.archive,
                    device=self.device,
                )
                self.directory.write_samples(arrays)
                return

    def _missing(self, task: Task | AttackTask) -> list[Cell]:
        return [cell for cell in task.cells if cell.key not in self.done]

    def _measure_task(self, task: Task, images: PerturbedImages, bar: tqdm[Any]) -> None:
        """Measure the missing cells of a task; a model that fails is recorded with its reason and is never done."""
        cells = self._missing(task)
        if not cells:
            return
        started = time.perf_counter()
        try:
            frames = evaluate(
                task.subject.network,
                images,
                task.images.indices,
                [cell.lam for cell in cells],
                device=self.device,
                batch_size=self.batch_size,
                progress=lambda n: bar.update(n),
            )
        except UsageError:
            raise
        except Exception as error:
            self._record_failure(task.subject, task.perturbation.name, cells, error)
            return
        seconds = (time.perf_counter() - started) / len(cells)
        for cell, frame in zip(cells, frames, strict=True):
            self.directory.write_outcome(cell.key, frame, {"identity": cell.identity(), "seconds": round(seconds, 4)})
            self.done.add(cell.key)

    def _record_failure(self, subject: Subject, name: str, cells: list[Cell], error: Exception) -> None:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        self.failures |= {cell.key: reason for cell in cells}
        tqdm.write(f"failed: {subject.name}, {name}: {reason}")

    def _measure_attacks(self) -> None:
        """Craft the adversarial images of every attack that has missing cells, and evaluate them."""
        if not self.attacks:
            return
        pending = [(task, cells) for task in self.attacks if (cells := self._missing(task))]
        attacker = Attacker(
            images=self.images,
            directory=self.directory,
            device=self.device,
            batch_size=self.batch_size,
            seed=self.suite.seed,
        )
        total = sum(attacker.count_steps(task) for task, _ in pending)
        with tqdm(total=total, unit="img", smoothing=0.05, disable=not pending) as bar:
            for task, cells in pending:
                try:
                    frames = attacker.measure(task, cells, bar)
                except (UsageError, OSError):
                    raise
                except Exception as error:
                    self._record_failure(task.subject, task.adversary.name, cells, error)
                    continue
                for cell, (frame, seconds) in zip(cells, frames, strict=True):
                    self.directory.write_outcome(cell.key, frame, {"identity": cell.identity(), "seconds": seconds})
                    self.done.add(cell.key)
        self._keep_attack_samples(attacker)

    def _keep_attack_samples(self, attacker: Attacker) -> None:
        """Store what the strongest budget of the first attack does to the first model with a λ, at λ of training."""
        for task in sorted(self.attacks, key=lambda task: -task.adversary.attack.eps):
            same = task.adversary.attack.norm == self.suite.attacks[0].norm
            if same and task.subject.network.has_code and task.adversary.crafted_for == task.subject.lam:
                arrays = attacker.collect_samples(
                    task, [lam for lam in task.subject.lambdas(self.suite.lambdas) if lam]
                )
                if arrays is not None:
                    self.directory.write_samples(arrays, "attack_samples")
                    return

    def _check_clean_accuracy(self, tasks: list[Task]) -> None:
        """Compare the clean accuracy at λ of training with the model card, where the test set is the card's own."""
        for cell in (cell for task in tasks for cell in task.cells if cell.lam == task.subject.lam):
            card = cell.subject.accuracy
            if not card or card.get("fingerprint") != cell.images.fingerprint:
                continue
            outcome = self.directory.read_outcome(cell.key, n=len(cell.images))
            if outcome is None:
                continue
            measured, recorded = float(outcome[0]["correct"].mean()), card["correct"] / card["n"]
            if abs(measured - recorded) > CLEAN_TOLERANCE:
                raise InputError(
                    f"{cell.subject.name} reaches {measured:.2%} on the clean {self.images.title} and its card records "
                    f"{recorded:.2%}: the weights, the normalisation or the images are not those of its training"
                )

    def _write_record(self, asked: Sequence[str], started: datetime, status: str) -> None:
        suite = self.suite
        rows = []
        for cell in self.cells:
            state = "done" if cell.key in self.done else "failed" if cell.key in self.failures else "missing"
            rows.append({**cell.row(), "status": state, "reason": self.failures.get(cell.key, "")})
        self.directory.write_record(
            {
                "status": status,
                "asked": list(asked),
                "started": started.isoformat(timespec="seconds"),
                "written": datetime.now(UTC).isoformat(timespec="seconds"),
                "protocol": PROTOCOL_VERSION,
                "suite": {
                    "name": suite.name,
                    "description": suite.description,
                    "profile": suite.profile,
                    "corruptions": suite.corruptions,
                    "severities": suite.severities,
                    "lambdas": suite.lambdas,
                    "selection": suite.selection,
                    "baseline": suite.baseline,
                    "seed": suite.seed,
                    "attacks": [{"about": attack.describe(), **attack.identity()} for attack in suite.attacks],
                    "threats": suite.threats,
                    "probe_images": suite.probe_images,
                },
                "data": {
                    "name": suite.data,
                    "title": self.images.title,
                    "split": self.images.split,
                    "n": len(self.images),
                    "fingerprint": self.images.fingerprint,
                    "classes": self.images.classes,
                    "source": self.tasks[0].perturbation.source,
                },
                "models": [
                    {**s.identity(), "clean_accuracy_on_card": s.accuracy, "law": s.law and s.law.to_json()}
                    for s in self.subjects
                ],
                "batch_size": self.batch_size,
                "agreement": [dataclasses.asdict(agreement) for agreement in self.agreements],
                "environment": describe_environment(self.device),
                "cells": rows,
            }
        )
