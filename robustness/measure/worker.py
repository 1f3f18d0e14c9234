"""The worker, which measures a job: images are perturbed once, every model classifies them; it records nothing."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from data_prep.errors import InputError, UsageError, describe_error, is_disk_error, is_out_of_memory
from robustness.measure.attacker import Attacker
from robustness.measure.cells import AttackTask, Task
from robustness.measure.evaluate import evaluate
from robustness.measure.jobs import Job, Result
from robustness.measure.perturbations import Archive, PerturbedImages, SequencePerturbation, perturb
from robustness.measure.sequences import evaluate_sequences
from robustness.measure.time_limit import TimeLimitError, time_limit
from robustness.run_directory import RunDirectory


class OutOfMemory(RuntimeError):
    """A job does not fit into the memory of the device, or of the machine, at this batch size.

    ``keys``: keys of the cells that do not fit; empty if unknown, or if none fits.
    """

    def __init__(self, reason: str, keys: tuple[str, ...] = ()) -> None:
        super().__init__(reason)
        self.keys = keys

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.keys)


@dataclass
class Worker:
    """Measures jobs on one device.

    Args:
        archive: the official -C archive, or None to generate the corruptions.
        directory: run directory for adversarial images, the state of a running attack and scratch files.
        device: device of the models.
        timeout: seconds after which a task is abandoned and its cells fail; None for no limit.
    """

    archive: Archive | None
    directory: RunDirectory
    device: torch.device
    timeout: float | None = None
    _attacker: Attacker | None = field(init=False, default=None)

    def measure(self, job: Job, *, batch_size: int, bar: tqdm[Any]) -> Iterator[Result]:
        """Yield the result of each task of ``job`` as soon as it is known; a model that fails yields its reason.

        Args:
            job: the job to measure.
            batch_size: images per forward pass; an attack has its own.
            bar: progress bar, advanced by ``job.size`` in total.

        Raises:
            OutOfMemory: the job does not fit at this batch size.
            UsageError: an error that a user can fix.
        """
        bar.set_description(job.title)
        if job.is_attack:
            for task in job.tasks:
                assert isinstance(task, AttackTask)
                yield from self._attack(task, batch_size, bar)
            return
        first = job.tasks[0]
        assert isinstance(first, Task)
        with tempfile.TemporaryDirectory(dir=self.directory.path, prefix=".scratch-") as scratch:
            try:
                with telling_out_of_memory():
                    images = perturb(
                        first.perturbation,
                        first.images,
                        seed=first.cells[0].seed,
                        archive=self.archive,
                        device=self.device,
                        scratch=Path(scratch),
                        batch_size=batch_size,
                    )
            except InputError as error:
                yield from (_fail(task, first.perturbation.name, error) for task in job.tasks)
                return
            for task in job.tasks:
                assert isinstance(task, Task)
                yield from self._evaluate(task, images, batch_size, bar)

    def _evaluate(self, task: Task, images: PerturbedImages, batch_size: int, bar: tqdm[Any]) -> Iterator[Result]:
        """Evaluate the images at every λ of a task; a λ at which the model fails does not affect the others."""
        started = time.perf_counter()
        try:
            with time_limit(self.timeout):
                task.subject.reset()
                network, lambdas = task.subject.network, [cell.lam for cell in task.cells]
                given: dict[str, Any] = {
                    "device": self.device,
                    "batch_size": batch_size,
                }
                given["progress"] = lambda n: bar.update(n * task.perturbation.frames)
                if isinstance(task.perturbation, SequencePerturbation):
                    given |= {"noise": task.perturbation.is_noise, "step": task.perturbation.severity}
                    frames = evaluate_sequences(network, images, task.images.indices, lambdas, **given)
                else:
                    subset = task.cells[0].subset
                    frames = evaluate(network, images, task.images.indices, lambdas, subset=subset, **given)
        except Exception as error:
            failure = _fail(task, task.perturbation.name, error)
            if len(task.cells) == 1 or isinstance(error, TimeLimitError | InputError):
                yield failure
            else:
                for cell in task.cells:
                    yield from self._evaluate(replace(task, cells=(cell,)), images, batch_size, bar)
            return
        seconds = round((time.perf_counter() - started) / len(task.cells), 4)
        outcomes = {cell.key: (frame, seconds) for cell, frame in zip(task.cells, frames, strict=True)}
        yield Result(task.title, outcomes)

    def _attack(self, task: AttackTask, batch_size: int, bar: tqdm[Any]) -> Iterator[Result]:
        """Craft the adversarial images of an attack and evaluate them at every λ, as in :meth:`_evaluate`."""
        attacker = self._attacker_of(task, batch_size)
        try:
            with time_limit(self.timeout):
                task.subject.reset()
                results = attacker.measure(task, bar)
        except Exception as error:
            if is_disk_error(error):
                raise
            failure = _fail(task, task.adversary.name, error)
            if len(task.cells) == 1 or isinstance(error, TimeLimitError) or not attacker.is_crafted(task):
                yield failure
            else:
                for cell in task.cells:
                    yield from self._attack(replace(task, cells=(cell,)), batch_size, bar)
            return
        yield Result(task.title, {cell.key: result for cell, result in zip(task.cells, results, strict=True)})

    def _attacker_of(self, task: AttackTask, batch_size: int) -> Attacker:
        """Return the attacker of all attacks on these images, which keeps what they share."""
        cell = task.cells[0]
        if self._attacker is None:
            self._attacker = Attacker(cell.images, self.directory, self.device, batch_size, cell.seed)
        self._attacker.batch_size = batch_size
        return self._attacker


def _fail(task: Task | AttackTask, name: str, error: Exception) -> Result:
    """Return the result of a task whose model failed or whose image is damaged; raise other errors again."""
    if isinstance(error, UsageError) and not isinstance(error, InputError):
        raise error
    reason = str(error) if isinstance(error, InputError) else describe_error(error)
    keys = tuple(cell.key for cell in task.cells)
    if is_out_of_memory(error):
        raise OutOfMemory(reason, keys) from error
    return Result(f"{task.subject.name}, {name}", {}, keys, reason)


@contextmanager
def telling_out_of_memory() -> Iterator[None]:
    """Turn any lack of memory within the block into :class:`OutOfMemory`."""
    try:
        yield
    except Exception as error:
        if is_out_of_memory(error):
            raise OutOfMemory(describe_error(error)) from error
        raise
