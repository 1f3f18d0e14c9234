"""The worker, which measures a job: images are perturbed once, every model classifies them; it records nothing."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from data_prep.errors import InputError, UsageError, describe_error, is_disk_error, is_out_of_memory
from robustness.measure.jobs import Job, Result
from robustness.measure.perturbations import PerturbedImages
from robustness.measure.tasks import Task, Workplace
from robustness.measure.time_limit import TimeLimitError, time_limit


class OutOfMemory(RuntimeError):
    """A job does not fit into the memory of the device, or of the machine, at this batch size.

    ``keys``: keys of the cells that do not fit; empty if unknown, or if none fits.
    """

    def __init__(self, reason: str, keys: tuple[str, ...] = ()) -> None:
        super().__init__(reason)
        self.keys = keys

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.keys)


@dataclass(frozen=True)
class Worker:
    """Measures jobs at one workplace."""

    workplace: Workplace

    def execute(self, job: Job, *, batch_size: int) -> Iterator[Result]:
        """Yield the result of each task of ``job`` as soon as it is known; a model that fails yields its reason.

        Args:
            job: the job to measure; it advances the progress bar by ``job.size`` in total.
            batch_size: images per forward pass; an attack has its own.

        Raises:
            OutOfMemory: the job does not fit at this batch size.
            UsageError: an error that a user can fix.
        """
        workplace = replace(self.workplace, batch_size=batch_size)
        workplace.bar.set_description(job.title)
        with tempfile.TemporaryDirectory(dir=workplace.directory.path, prefix=".scratch-") as scratch:
            try:
                with telling_out_of_memory():
                    images = job.tasks[0].prepare(workplace, Path(scratch))
            except InputError as error:
                yield from (_fail(task, error) for task in job.tasks)
                return
            for task in job.tasks:
                yield from _run(task, images, workplace)


def _run(task: Task, images: PerturbedImages, workplace: Workplace) -> Iterator[Result]:
    """Measure a task; a λ at which the model fails does not affect the others."""
    try:
        with time_limit(workplace.timeout):
            task.subject.reset()
            results = task.run(images, workplace)
    except Exception as error:
        if is_disk_error(error):
            raise
        failure, own = _fail(task, error), task.image_file(workplace.directory)
        is_whole = len(task.cells) == 1 or isinstance(error, TimeLimitError | InputError)
        if is_whole or (own is not None and not own.is_file()):
            yield failure
        else:
            for cell in task.cells:
                yield from _run(replace(task, cells=(cell,)), images, workplace)
        return
    yield Result(task.title, {cell.key: result for cell, result in zip(task.cells, results, strict=True)})


def _fail(task: Task, error: Exception) -> Result:
    """Return the result of a task whose model failed or whose image is damaged; raise other errors again."""
    if isinstance(error, UsageError) and not isinstance(error, InputError):
        raise error
    reason = str(error) if isinstance(error, InputError) else describe_error(error)
    keys = tuple(cell.key for cell in task.cells)
    if is_out_of_memory(error):
        raise OutOfMemory(reason, keys) from error
    return Result(f"{task.subject.name}, {task.perturbation.name}", {}, keys, reason)


@contextmanager
def telling_out_of_memory() -> Iterator[None]:
    """Turn any lack of memory within the block into :class:`OutOfMemory`."""
    try:
        yield
    except Exception as error:
        if is_out_of_memory(error):
            raise OutOfMemory(describe_error(error)) from error
        raise
