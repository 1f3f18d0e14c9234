"""Measure a job: images are perturbed once, every model answers them; nothing is recorded here."""

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

    ``keys``: of the cells that do not fit; empty where it is not known, or all of them.
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
        directory: where adversarial images, the state of a running attack and scratch files lie.
        device: where the models are.
        timeout: seconds after which a task is given up and its cells have failed; None for no limit.
    """

    archive: Archive | None
    directory: RunDirectory
    device: torch.device
    timeout: float | None = None
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
        """Answer the images at every λ of a task; one at which the model fails costs no other."""
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
        """Craft the adversarial images of an attack and answer them at every λ, as in :meth:`_evaluate`."""
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
        """The attacker of all attacks on these images, which keeps what they share."""
        cell = task.cells[0]
        if self._attacker is None:
            self._attacker = Attacker(cell.images, self.directory, self.device, batch_size, cell.seed)
        self._attacker.batch_size = batch_size
        return self._attacker


def _fail(task: Task | AttackTask, name: str, error: Exception) -> Result:
    """The result of a task whose model failed, or one of whose images is damaged; other errors are raised again."""
    if isinstance(error, UsageError) and not isinstance(error, InputError):
        raise error
    reason = str(error) if isinstance(error, InputError) else describe_error(error)
    keys = tuple(cell.key for cell in task.cells)
    if is_out_of_memory(error):
        raise OutOfMemory(reason, keys) from error
    return Result(f"{task.subject.name}, {name}", {}, keys, reason)


@contextmanager
def telling_out_of_memory() -> Iterator[None]:
    """What is raised within the block for want of memory becomes :class:`OutOfMemory`."""
    try:
        yield
    except Exception as error:
        if is_out_of_memory(error):
            raise OutOfMemory(describe_error(error)) from error
        raise
