"""Executors, which measure jobs: here one by one, or on a Ray cluster (:mod:`robustness.measure.ray_executor`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

from robustness.measure.jobs import Job, Result
from robustness.measure.tasks import Workplace
from robustness.measure.worker import OutOfMemory, execute_job

ATTEMPTS = 4
"""Number of attempts at a job that the machine, not the model, fails to finish."""


@runtime_checkable
class Executor(Protocol):
    """Measures jobs somewhere."""

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

        ``blamed``: keys of the cells that caused the failure, if known. Then they alone have failed, and the rest of
        the job is tried on its own, from the first batch size.
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
    """Measures one job after another in this process; out of memory, this job and later ones use half the batch."""

    name: str = "local"

    def execute(self, jobs: Sequence[Job], workplace: Workplace) -> Iterator[Result]:
        """See :class:`Executor`."""
        batch_size = workplace.batch_size
        for job in jobs:
            attempt, failure = JobAttempt(job, batch_size), None
            while attempt.job is not None:
                try:
                    for result in execute_job(attempt.job, replace(workplace, batch_size=attempt.batch_size)):
                        attempt.accept(result)
                        yield result
                except OutOfMemory as error:
                    failed = attempt.again(str(error), halve=True, report=workplace.report, blamed=error.keys)
                    if failed is not None:
                        failure = failed
                        yield failed
            if failure is None:  # cells that fit at no size say nothing about the others
                batch_size = attempt.batch_size
