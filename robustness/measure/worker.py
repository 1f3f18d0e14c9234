"""Measure a job: images are perturbed once, every model answers them; nothing is recorded here."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from data_prep.archives_c import ArchiveC
from data_prep.errors import UsageError
from robustness.measure.attacker import Attacker
from robustness.measure.cells import AttackTask, Task
from robustness.measure.evaluate import evaluate
from robustness.measure.jobs import Job, Result
from robustness.measure.perturbations import PerturbedImages, perturb
from robustness.run_directory import RunDirectory


class OutOfMemory(RuntimeError):
    """A job does not fit into the memory of the device, or of the machine, at this batch size."""


@dataclass
class Worker:
    """Measures jobs on one device.

    Args:
        archive: the official -C archive, or None to generate the corruptions.
        directory: where adversarial images, the state of a running attack and scratch files lie.
        device: where the models are.
    """

    archive: ArchiveC | None
    directory: RunDirectory
    device: torch.device
    _attacker: Attacker | None = field(init=False, default=None)

    def measure(self, job: Job, *, batch_size: int, bar: tqdm[Any]) -> Iterator[Result]:
        """What comes of each task of ``job``, as soon as it is known; a model that fails gives its reason.

        Args:
            job: what to measure.
            batch_size: images per forward pass; an attack has its own.
            bar: moved on by ``job.size`` altogether.

        Raises:
            OutOfMemory: at this batch size.
            UsageError: something that a user can mend.
        """
        bar.set_description(job.title)
        if job.is_attack:
            for task in job.tasks:
                assert isinstance(task, AttackTask)
                yield self._attack(task, batch_size, bar)
            return
        first = job.tasks[0]
        assert isinstance(first, Task)
        with tempfile.TemporaryDirectory(dir=self.directory.path, prefix=".scratch-") as scratch:
            images = perturb(
                first.perturbation,
                first.images,
                seed=first.cells[0].seed,
                archive=self.archive,
                device=self.device,
                scratch=Path(scratch),
            )
            for task in job.tasks:
                assert isinstance(task, Task)
                yield self._evaluate(task, images, batch_size, bar)

    def _evaluate(self, task: Task, images: PerturbedImages, batch_size: int, bar: tqdm[Any]) -> Result:
        started = time.perf_counter()
        try:
            frames = evaluate(
                task.subject.network,
                images,
                task.images.indices,
                [cell.lam for cell in task.cells],
                device=self.device,
                batch_size=batch_size,
                progress=lambda n: bar.update(n),
            )
        except Exception as error:
            return _fail(task, task.perturbation.name, error)
        seconds = round((time.perf_counter() - started) / len(task.cells), 4)
        outcomes = {cell.key: (frame, seconds) for cell, frame in zip(task.cells, frames, strict=True)}
        return Result(task.title, outcomes)

    def _attack(self, task: AttackTask, batch_size: int, bar: tqdm[Any]) -> Result:
        """Craft the adversarial images of an attack and evaluate them."""
        try:
            results = self.attacker_of(task, batch_size).measure(task, bar)
        except OSError:
            raise
        except Exception as error:
            return _fail(task, task.adversary.name, error)
        return Result(task.title, {cell.key: result for cell, result in zip(task.cells, results, strict=True)})

    def attacker_of(self, task: AttackTask, batch_size: int) -> Attacker:
        """The attacker of all attacks on these images, which keeps what they share."""
        cell = task.cells[0]
        if self._attacker is None:
            self._attacker = Attacker(cell.images, self.directory, self.device, batch_size, cell.seed)
        self._attacker.batch_size = batch_size
        return self._attacker


def _fail(task: Task | AttackTask, name: str, error: Exception) -> Result:
    """The result of a task whose model failed; other errors are raised again."""
    reason = f"{type(error).__name__}: {error}".splitlines()[0]
    if isinstance(error, UsageError):
        raise error
    if _is_out_of_memory(error):
        raise OutOfMemory(reason) from error
    return Result(f"{task.subject.name}, {name}", {}, tuple(cell.key for cell in task.cells), reason)


def _is_out_of_memory(error: Exception) -> bool:
    """Whether ``error`` is the GPU's, Python's or, in torch a plain RuntimeError, the allocator's of the CPU."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)
