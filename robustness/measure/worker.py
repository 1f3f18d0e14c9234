"""The worker, which measures a job: images are perturbed once, every model classifies them; it records nothing."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
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


def execute_job(job: Job, workplace: Workplace) -> Iterator[Result]:
    """Yield the result of each task of ``job`` as soon as it is known; a model that fails yields its reason.

    The progress bar advances by ``job.size`` in total.

    Raises:
        OutOfMemory: the job does not fit at the batch size of the workplace.
        UsageError: an error that a user can fix.
    """
    workplace.bar.set_description(job.title)
    with tempfile.TemporaryDirectory(dir=workplace.directory.path, prefix=".scratch-") as scratch:
        try:
            with telling_out_of_memory():
                images = job.tasks[0].prepare(workplace, Path(scratch))
        except InputError as error:
            yield from (_fail(task, error) for task in job.tasks)
            return
        for task in job.tasks:
            yield from _execute_task(task, images, workplace)


def _execute_task(task: Task, images: PerturbedImages, workplace: Workplace) -> Iterator[Result]:
    """Measure a task; a λ at which the model fails does not affect the others."""
    try:
        with time_limit(workplace.timeout):
            task.subject.reset()
            results = task.run(images, workplace)
    except Exception as error:
        if is_disk_error(error):
            raise
        failure, own = _fail(task, error), task.image_file(workplace.directory)
        has_images = own is None or own.is_file()
        if has_images and len(task.cells) > 1 and not isinstance(error, TimeLimitError | InputError):
            for cell in task.cells:
                yield from _execute_task(replace(task, cells=(cell,)), images, workplace)
        else:
            yield failure
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
