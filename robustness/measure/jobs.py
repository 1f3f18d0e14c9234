"""Jobs: what is measured in one go, wherever that is; a part of them for each of several machines."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from typing import Any

import pandas as pd

from data_prep.errors import InputError
from robustness.measure.cells import AttackTask, Cell, Task, hash_identity


@dataclass(frozen=True)
class Job:
    """Tasks whose images are made once: a perturbation for every model, or one attack on one model at one λ.

    Args:
        tasks: one for each model, or the attack alone.
    """

    tasks: tuple[Task | AttackTask, ...]

    @property
    def cells(self) -> list[Cell]:
        """The cells of all tasks."""
        return [cell for task in self.tasks for cell in task.cells]

    @property
    def title(self) -> str:
        """For people."""
        return self.tasks[0].title

    @property
    def is_attack(self) -> bool:
        """Whether it is an attack."""
        return isinstance(self.tasks[0], AttackTask)

    @property
    def size(self) -> int:
        """About how many forward passes it takes, an image each."""
        return sum(task.size for task in self.tasks)

    @cached_property
    def key(self) -> str:
        """SHA-256 (hex) of its cells, in whatever order they are asked for."""
        return hash_identity({"cells": sorted(cell.key for cell in self.cells)})

    def restrict(self, keys: Collection[str]) -> Job | None:
        """The same job for some cells only; None where that leaves none."""
        tasks = (replace(task, cells=tuple(cell for cell in task.cells if cell.key in keys)) for task in self.tasks)
        left = tuple(task for task in tasks if task.cells)
        return Job(left) if left else None


@dataclass(frozen=True)
class Result:
    """What came of a task: rows per image and seconds of every cell, by its key, or the reason why there are none.

    title: of the task, for people. failed: keys of the cells that could not be measured. environment: of the machine,
    where it is not the one that asked.
    """

    title: str
    outcomes: dict[str, tuple[pd.DataFrame, float]]
    failed: tuple[str, ...] = ()
    reason: str = ""
    environment: dict[str, Any] | None = None

    @property
    def keys(self) -> set[str]:
        """The cells that it is about."""
        return {*self.outcomes, *self.failed}


def plan_jobs(tasks: Sequence[Task], attacks: Sequence[AttackTask]) -> list[Job]:
    """The jobs of a plan, in its order."""
    shared = groupby(tasks, key=lambda task: (task.perturbation, id(task.images)))
    return [Job(tuple(group)) for _, group in shared] + [Job((attack,)) for attack in attacks]


@dataclass(frozen=True)
class Shard:
    """Part ``index`` (from 1) of a grid that ``count`` runs measure, which know nothing of each other.

    Raises:
        InputError: an index outside 1 to ``count``.
    """

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.count:
            raise InputError(f"--shard {self} must be i/n with i from 1 to n, as in 3/8")

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read ``"3/8"``; raises InputError for anything else."""
        if not (parts := re.fullmatch(r"(\d{1,9})/(\d{1,9})", text.strip(), re.ASCII)):
            raise InputError(f"--shard must be i/n with i from 1 to n, as in 3/8; got {text!r}")
        return cls(int(parts[1]), int(parts[2]))

    def take(self, jobs: Sequence[Job]) -> list[Job]:
        """This shard's jobs: the largest are dealt first, like cards, so that every shard gets its share of each kind.

        Every job is in exactly one of the ``count`` shards, whatever the order in which models and λs were asked for.
        """
        ordered = sorted(jobs, key=lambda job: (job.is_attack, -job.size, job.key))
        mine = {job.key for job in ordered[self.index - 1 :: self.count]}
        return [job for job in jobs if job.key in mine]
