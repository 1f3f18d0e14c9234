"""Executors, which measure jobs: here one by one, or on a Ray cluster (:mod:`robustness.measure.ray_executor`).

A job is executed in the same way on every machine (:func:`execute_job`): its images are made once, and every model is
evaluated on them. :mod:`robustness.measure.measurement` stores the results.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import Any, Protocol, runtime_checkable

from data_prep.errors import InputError, UsageError, describe_error, is_disk_error, is_out_of_memory
from robustness.measure.images_ahead import ImagesAhead, JobImages, prepare_images
from robustness.measure.jobs import Job, Result
from robustness.measure.perturbations import PerturbedImages
from robustness.measure.tasks import Task, Workplace
from robustness.measure.time_limit import TimeLimitError, time_limit

ATTEMPTS = 4
"""Number of attempts at a job that the machine, not the model, fails to finish."""


class OutOfMemory(RuntimeError):
    """A job does not fit into the memory of the device, or of the machine, at this batch size.

    ``keys``: keys of the cells that do not fit; empty if unknown, or if none fits.
    """

    def __init__(self, reason: str, keys: tuple[str, ...] = ()) -> None:
        super().__init__(reason)
        self.keys = keys

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.keys)


def execute_job(
    job: Job, workplace: Workplace, take: Callable[[Job, Workplace], JobImages] = prepare_images
) -> Iterator[Result]:
    """Yield the result of each task of ``job`` as soon as it is known; a model that fails yields its reason.

    The progress bar advances by ``job.size`` in total.

    Args:
        job: the job to measure.
        workplace: everything else that its tasks need.
        take: returns the images of the job.

    Raises:
        OutOfMemory: the job does not fit at the batch size of the workplace.
        UsageError: an error that a user can fix.
    """
    workplace.bar.set_description(job.title)
    try:
        with telling_out_of_memory():
            prepared = take(job, workplace)
    except InputError as error:
        yield from (_fail(task, error) for task in job.tasks)
        return
    with prepared as images:
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


@runtime_checkable
class Executor(Protocol):
    """Measures jobs, on this machine or on others."""

    @property
    def name(self) -> str:
        """Name in the run record."""

    def execute(self, jobs: Sequence[Job], workplace: Workplace) -> Iterator[Result]:
        """Yield the results of all tasks of all jobs, in any order, as soon as each is available."""


@dataclass
class JobAttempt:
    """An attempt at a job: its remaining cells and its batch size.

    job: the cells that have no result yet. batch_size: images per forward pass. number: number of attempts, including
    this one. spent: number of failures from lack of memory (True) and from other causes (False): up to ``ATTEMPTS``
    each.
    """

    job: Job | None
    batch_size: int
    number: int = 1
    spent: Counter[bool] = field(default_factory=Counter)
    _whole_size: int = field(init=False)

    def __post_init__(self) -> None:
        self._whole_size = self.batch_size

    def accept(self, result: Result) -> None:
        """Remove the cells that have a result."""
        if self.job is not None:
            self.job = self.job.restrict({cell.key for cell in self.job.cells} - result.keys)

    def again(
        self, reason: str, *, halve: bool, report: Callable[[str], None], blamed: Collection[str] = ()
    ) -> Result | None:
        """Prepare the next attempt and report the reason; return the failure as a result if there are no more attempts.

        ``blamed``: keys of the cells that caused the failure, if known. Then only these cells fail, and the rest of the
        job is tried again without them, from the first batch size.
        """
        assert self.job is not None
        left = tuple(cell.key for cell in self.job.cells)
        self.spent[halve] += 1
        if self.spent[halve] == ATTEMPTS or (halve and self.batch_size == 1):
            reason = f"{reason} (attempt {self.number}, batch size {self.batch_size})"
            failure = Result(self.job.title, {}, tuple(key for key in left if key in blamed) or left, reason)
            self.accept(failure)
            self.batch_size, self.number, self.spent = self._whole_size, 1, Counter()
            return failure
        self.number += 1
        if halve:
            self.batch_size = max(self.batch_size // 2, 1)
        number = self.spent[halve] + 1
        report(f"{self.job.title}: {reason}; attempt {number} of {ATTEMPTS} at batch size {self.batch_size}")
        return None


@dataclass(frozen=True)
class LocalExecutor:
    """Measures one job after another in this process; when memory runs out, this job and later jobs use half the batch.

    Args:
        overlap: make the images of the next job in a second thread while the models run
            (:class:`robustness.measure.images_ahead.ImagesAhead`). None does so unless the models are on the CPU, where
            both need the same cores: overlapping took 1.1 times as long for two small networks and 300 images.
    """

    name: str = "local"
    overlap: bool | None = None

    def execute(self, jobs: Sequence[Job], workplace: Workplace) -> Iterator[Result]:
        """See :class:`Executor`."""
        batch_size = workplace.batch_size
        overlap = workplace.device.type != "cpu" if self.overlap is None else self.overlap
        with ImagesAhead() as ahead:
            for job, following in zip_longest(jobs, jobs[1:]):
                attempt, failure = JobAttempt(job, batch_size), None

                def take(job: Job, there: Workplace, following: Job | None = following) -> JobImages:
                    try:
                        return ahead.take(job, there)
                    finally:
                        if following is not None and overlap:
                            ahead.start(following, there)

                while attempt.job is not None:
                    there = replace(workplace, batch_size=attempt.batch_size)
                    try:
                        for result in execute_job(attempt.job, there, take):
                            attempt.accept(result)
                            yield result
                    except OutOfMemory as error:
                        failed = attempt.again(str(error), halve=True, report=workplace.report, blamed=error.keys)
                        if failed is not None:
                            failure = failed
                            yield failed
                if failure is None:  # cells that fit at no size say nothing about the others
                    batch_size = attempt.batch_size
