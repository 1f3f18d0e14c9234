"""Jobs, the units of measurement on any machine, and their division among several machines."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from typing import Any

from data_prep.errors import InputError
from robustness.measure.cells import Cell, hash_identity
from robustness.measure.tasks import AttackTask, Outcome, PerturbationTask, Task


@dataclass(frozen=True)
class Job:
    """Tasks whose images are made once: a perturbation for every model, or one attack on one model at one λ.

    Args:
        tasks: one task for each model, or the attack alone.
    """

    tasks: tuple[Task, ...]

    @property
    def cells(self) -> list[Cell]:
        """The cells of all tasks."""
        return [cell for task in self.tasks for cell in task.cells]

    @property
    def title(self) -> str:
        """Title for people."""
        return self.tasks[0].title

    @property
    def is_attack(self) -> bool:
        """True if the job is an attack."""
        return self.tasks[0].is_attack

    @property
    def size(self) -> int:
        """Estimated forward passes of one image each."""
        return sum(task.size for task in self.tasks)

    @cached_property
    def key(self) -> str:
        """SHA-256 (hex) of the job's cells, independent of the order in which they were requested."""
        return hash_identity({"cells": sorted(cell.key for cell in self.cells)})

    def restrict(self, keys: Collection[str]) -> Job | None:
        """Return the same job for some cells only; None if no cell is left."""
        tasks = (replace(task, cells=tuple(cell for cell in task.cells if cell.key in keys)) for task in self.tasks)
        left = tuple(task for task in tasks if task.cells)
        return Job(left) if left else None


@dataclass(frozen=True)
class Result:
    """The result of a task: rows per image and seconds of every cell, by key, or the reason why there are none.

    title: title of the task, for people. failed: keys of the cells that could not be measured. environment: environment
    of the machine, if the task did not run on this one.
    """

    title: str
    outcomes: dict[str, Outcome]
    failed: tuple[str, ...] = ()
    reason: str = ""
    environment: dict[str, Any] | None = None

    @property
    def keys(self) -> set[str]:
        """Keys of the cells that the result covers."""
        return {*self.outcomes, *self.failed}


def plan_jobs(tasks: Sequence[PerturbationTask], attacks: Sequence[AttackTask]) -> list[Job]:
    """List the jobs of a plan, in its order."""
    shared = groupby(tasks, key=lambda task: (task.perturbation, id(task.images)))
    return [Job(tuple(group)) for _, group in shared] + [Job((attack,)) for attack in attacks]


@dataclass(frozen=True)
class Shard:
    """Part ``index`` (from 1) of a grid that is divided among ``count`` independent runs.

    Raises:
        InputError: an index outside 1 to ``count``.
    """

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.count:
            raise InputError(f"expected --shard i/n with i from 1 to n, as in 3/8, got {self}; give such a part")

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read ``"3/8"``; raise InputError for anything else."""
        if not (parts := re.fullmatch(r"(\d{1,9})/(\d{1,9})", text.strip(), re.ASCII)):
            raise InputError(f"expected --shard i/n with i from 1 to n, as in 3/8, got {text!r}; give such a part")
        return cls(int(parts[1]), int(parts[2]))

    def take(self, jobs: Sequence[Job]) -> list[Job]:
        """Return this shard's jobs: jobs are dealt like cards, largest first, so that each shard gets every kind.

        Every job is in exactly one of the ``count`` shards, whatever the order of models and λs.
        """
        ordered = sorted(jobs, key=lambda job: (job.is_attack, -job.size, job.key))
        mine = {job.key for job in ordered[self.index - 1 :: self.count]}
        return [job for job in jobs if job.key in mine]
