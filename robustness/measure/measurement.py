"""The measurement of a suite into a run directory: only missing cells are measured, and every finished cell is kept."""

from __future__ import annotations

import dataclasses
import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from data_prep import ImageSet
from data_prep.errors import InputError
from data_prep.files import replacing
from data_prep.progress import make_bar
from robustness.class_order import find_other_order
from robustness.grids import format_lam
from robustness.measure.agreement import Agreement
from robustness.measure.answers import is_close
from robustness.measure.cells import Cell
from robustness.measure.earlier import Earlier, look_back
from robustness.measure.executors import Executor, LocalExecutor
from robustness.measure.jobs import Job, Result, Shard, plan_jobs
from robustness.measure.perturbations import Archive, Perturbation
from robustness.measure.plan import ShiftBeside, plan_attacks, plan_tasks
from robustness.measure.recording import describe_cells, describe_grid, describe_subject
from robustness.measure.samples import collect_attack_samples, collect_samples
from robustness.measure.soundness import examine
from robustness.measure.subjects import Subject
from robustness.measure.tasks import AttackTask, PerturbationTask, Workplace
from robustness.measure.time_limit import TimeLimitError, time_limit
from robustness.options import AblationOptions, RunOptions, write_options
from robustness.run_directory import RunDirectory
from robustness.suite import Suite
from robustness.verdicts import judge_soundness
from robustness.which_lam import WhichLam
from sdnet_core.environment import describe_environment

CLEAN_TOLERANCE = 0.005
"""Largest difference of clean accuracy from the model card's on the same full test set."""


@dataclass
class Measurement:
    """A suite that is ready to be measured: models and images loaded, grid planned, finished cells found.

    Args:
        suite: the suite to measure.
        subjects: the models.
        images: the clean images.
        archive: the official -C archive, or None to generate the corruptions.
        directory: run directory for the outcomes.
        device: device to compute on.
        batch_size: images per forward pass.
        training_images: images that the policy ``validated`` chooses λ on; None for no such choice.
        shifts: the natural shifts, each with the clean images that it is compared with.
        shard: the part of the grid to measure; None for all of it.
        executor: measures the jobs.
        timeout: seconds after which a task is abandoned and its cells fail; None for no limit.
        on_result: called when the outcomes of a task have been stored.
        previous_suites: the suites that the same command has already measured.
        quiet: show neither progress nor failures; the record holds both.
    """

    suite: Suite
    subjects: list[Subject]
    images: ImageSet
    archive: Archive | None
    directory: RunDirectory
    device: torch.device
    batch_size: int
    training_images: ImageSet | None = None
    shifts: Sequence[ShiftBeside] = ()
    shard: Shard | None = None
    executor: Executor = field(default_factory=LocalExecutor)
    timeout: float | None = None
    on_result: Callable[[], None] = lambda: None
    previous_suites: Sequence[Measurement] = ()
    quiet: bool = False
    tasks: list[PerturbationTask] = field(init=False)
    attacks: list[AttackTask] = field(init=False)
    agreements: list[Agreement] = field(init=False, default_factory=list)
    jobs: list[Job] = field(init=False)
    done: set[str] = field(init=False, default_factory=set)
    failures: dict[str, str] = field(init=False, default_factory=dict)
    events: list[str] = field(init=False, default_factory=list)
    soundness: list[dict[str, Any]] = field(init=False, default_factory=list)
    _earlier: Earlier = field(init=False, default_factory=Earlier)
    _outdated: set[str] = field(init=False, default_factory=set)
    _misfits: set[str] = field(init=False, default_factory=set)

    def __post_init__(self) -> None:
        self.tasks = plan_tasks(
            self.suite,
            self.subjects,
            self.images,
            archive=self.archive,
            training_images=self.training_images,
            shifts=self.shifts,
        )
        self.attacks = plan_attacks(self.suite, self.subjects, self.images)
        self._show_probes()
        jobs = plan_jobs(self.tasks, self.attacks)
        self.jobs = jobs if self.shard is None else self.shard.take(jobs)

    def _show_probes(self) -> None:
        """Evaluate the foreign models on the probe images, whose logits enter the keys of their cells."""
        asked: dict[str, set[float | None]] = {}
        for cell in self.cells:
            asked.setdefault(cell.subject.name, set()).add(cell.lam.value)
        for subject in self.subjects:
            with suppress(TimeLimitError), time_limit(self.timeout):
                subject.show_probes(asked[subject.name], self.images.pixels.shape[1:3], self.device)

    @property
    def cells(self) -> list[Cell]:
        """Cells of the whole grid, including the cells of other shards."""
        return [cell for task in (*self.tasks, *self.attacks) for cell in task.cells]

    @property
    def own_cells(self) -> list[Cell]:
        """Cells that are measured here."""
        return [cell for job in self.jobs for cell in job.cells]

    def find_done(self) -> None:
        """Look up the cells of exactly this identity that the run directory already holds whole."""
        self.done = self.directory.find_whole(cell.key for cell in self.cells)
        self._outdated = {cell.key for cell in self.cells if cell.key in self.done and self._is_of_another(cell)}
        self.done -= self._outdated

    def adopt(self) -> None:
        """Take over outcomes and adversarial images that previous suites of the same command have measured.

        These suites have the same models and images: a cell with the same key is measured once, and an attack that
        differs only in its trust probes is crafted once.
        """
        own = {cell.sameness: cell for cell in self.cells if cell.key not in self.done}
        for other in self.previous_suites if own else ():
            self._adopt_images(other)
            for cell in (cell for cell in other.cells if cell.key in other.done):
                wanted = own.get(cell.sameness)
                found = None if wanted is None else other.directory.read_outcome(cell.key, n=len(cell.images))
                if wanted is not None and found is not None:
                    frame, metadata = found
                    kept = {name: value for name, value in metadata.items() if name != "key"}
                    self.directory.write_outcome(wanted.key, frame, {**kept, "identity": wanted.identity()})
                    self.done.add(wanted.key)

    def _adopt_images(self, other: Measurement) -> None:
        """Copy the adversarial images of unfinished attacks that another suite has crafted."""
        crafted = {task.key: task.image_file(other.directory) for task in other.attacks}
        for task in self.attacks:
            keys, source = {cell.key for cell in task.cells}, crafted.get(task.key)
            if source is not None and source.is_file() and keys - self.done:
                with replacing(task.image_file(self.directory)) as temporary:
                    shutil.copyfile(source, temporary)
                self._outdated -= keys

    def _is_of_another(self, cell: Cell) -> bool:
        """Check whether a foreign model's finished cell was measured with other logits than the model has today."""
        if not cell.sketches:
            return False
        found = self.directory.read_columns(cell.key, n=len(cell.images))
        stored = [] if found is None else found[1].get("sketches", [])
        return len(stored) != len(cell.sketches) or not all(map(is_close, stored, cell.sketches))

    @cached_property
    def _environment(self) -> dict[str, Any]:
        return describe_environment(self.device)

    def _examine(self) -> None:
        """Check every model at every λ for predictions that depend on more than the image; report and mark such models.

        A compiled network (``--speed fast``) is skipped: it would be compiled again for every batch size.
        """
        for subject in self.subjects:
            own = [cell for cell in self.cells if cell.subject is subject and cell.subject.precision == "float32"]
            for lam in dict.fromkeys(cell.lam.value for cell in own if not cell.lam.policy):
                with time_limit(self.timeout):
                    soundness = examine(subject, lam, self.images, self.device, seed=self.suite.seed)
                self.soundness.append(dataclasses.asdict(soundness))
        for found in self.soundness:
            verdict, lam = judge_soundness(found), found["lam"]
            if verdict.reason and not found["error"]:
                at = "" if lam is None else f" at λ = {format_lam(lam)}"
                self._report(f"{found['model']}{at}: {verdict.reason}", shown="note: ")

    def _forget_others(self) -> None:
        """Remove the outcomes of a model whose logits have changed since, and the adversarial images crafted on it."""
        self.directory.remove_outcomes(self._outdated - self.done)
        for task in self.attacks:
            if {cell.key for cell in task.cells} & self._outdated:
                task.image_file(self.directory).unlink(missing_ok=True)

    def run(self, asked: RunOptions | AblationOptions) -> None:
        """Measure every missing cell; ``run.json`` is written before the first cell and after the last.

        Raises:
            InputError: the clean accuracy of a model differs from the accuracy on its card.
        """
        started = datetime.now(UTC)
        self._earlier = look_back(self.directory, self._grid, self.cells, self.done, whole=self.shard is None)
        for note in self._earlier.notes:
            self._report(note, shown="note: ")
        self._examine()  # before the record is replaced: without the result no number would have its mark
        self._forget_others()
        self._write_record(asked, started, "running")
        try:
            self._check_clean_accuracy(self.done)
            self._check_class_order(self.done)
            self._measure_jobs()
            self.directory.clear_samples()
            self._keep_samples()
            self._keep_attack_samples()
        except BaseException:
            self._write_record(asked, started, "interrupted")
            raise
        self._write_record(asked, started, "failed" if self.failures else "complete")

    def _measure_jobs(self) -> None:
        missing = {cell.key for cell in self.own_cells} - self.done
        pending = [job for whole in self.jobs if (job := whole.restrict(missing))]
        total = sum(job.size for job in pending)
        is_silent = self.quiet or not pending
        with make_bar(
            total=total, desc="measured", unit="img", unit_scale=True, quiet=is_silent, smoothing=0.05
        ) as bar:
            workplace = Workplace(
                self.archive, self.directory, self.device, self.batch_size, bar, self._report, self.timeout
            )
            cells = {cell.key: cell for job in pending for cell in job.cells}
            for result in self.executor.execute(pending, workplace) if pending else ():
                self._keep(result, cells)

    def _report(self, event: str, shown: str = "") -> None:
        """Keep a sentence for the record, and print it after ``shown``."""
        self.events.append(event)
        if not self.quiet:
            tqdm.write(f"{shown}{event}", file=sys.stderr)

    def _keep(self, result: Result, cells: dict[str, Cell]) -> None:
        """Store the outcomes of a task; a model that fails is recorded with its reason and never counts as done."""
        for key, (frame, seconds) in result.outcomes.items():
            environment = result.environment or self._environment
            metadata = {"identity": cells[key].identity(), "seconds": seconds, "environment": environment}
            if cells[key].sketches:
                metadata["sketches"] = cells[key].sketches
            self.directory.write_outcome(key, frame, metadata)
        self.done |= set(result.outcomes)
        self._check_clean_accuracy(set(result.outcomes))
        self._check_class_order(set(result.outcomes))
        self.on_result()
        if result.failed:
            self.failures |= dict.fromkeys(result.failed, result.reason)
            if not self.quiet:
                tqdm.write(f"failed: {result.title}: {result.reason}")

    def _keep_samples(self) -> None:
        """Store some images under every corruption, and their reconstructions by the first model with a λ."""
        subject = next((subject for subject in self.subjects if subject.network.has_code), None)
        if subject is not None or self.suite.corruptions:
            arrays = collect_samples(
                subject,
                subject.lambdas(self.suite.lambdas) if subject is not None else (),
                self._list_shown(),
                self.images,
                seed=self.suite.seed,
                archive=self.archive,
                device=self.device,
            )
            self.directory.write_samples(arrays)

    def _list_shown(self) -> list[Perturbation]:
        """List the perturbations of the clean images that yield one image per image."""
        of_images = (task.perturbation for task in self.tasks if task.images is self.images)
        return [it for it in dict.fromkeys(of_images) if it.frames == 1]

    def _keep_attack_samples(self) -> None:
        """Store the effect of the first attack's largest budget on the first model with a λ, at the training λ.

        ``rank`` is the position among the suitable tasks: a merge of shards keeps the samples with the first rank.
        """
        for rank, task in enumerate(sorted(self.attacks, key=lambda task: -task.perturbation.attack.eps)):
            adversary, subject = task.perturbation, task.subject
            is_first = adversary.attack.norm == self.suite.attacks[0].norm
            if is_first and subject.network.has_code and adversary.crafted_for.value == subject.lam:
                grid = [lam for lam in subject.lambdas(self.suite.lambdas) if lam is not None]
                arrays = collect_attack_samples(task, grid, task.image_file(self.directory), self.device)
                if arrays is not None:
                    self.directory.write_samples({**arrays, "rank": np.array(rank)}, "attack_samples")
                    return

    @cached_property
    def _promised(self) -> dict[str, Cell]:
        """Clean cells at the training λ with the images for which the model's card records its accuracy."""
        cells = (cell for task in self.tasks if task.perturbation.is_clean for cell in task.cells)
        own = (cell for cell in cells if cell.lam == WhichLam.of(cell.subject.lam) and cell.subject.accuracy)
        return {cell.key: cell for cell in own if cell.subject.accuracy.get("fingerprint") == cell.images.fingerprint}

    def _check_clean_accuracy(self, keys: set[str]) -> None:
        """Compare the clean accuracy with the model card."""
        for key in keys & self._promised.keys():
            cell = self._promised[key]
            outcome = self.directory.read_outcome(key, n=len(cell.images))
            if outcome is None:
                continue
            card = cell.subject.accuracy
            measured, recorded = float(outcome[0]["correct"].mean()), card["correct"] / card["n"]
            if abs(measured - recorded) > CLEAN_TOLERANCE:
                raise InputError(
                    f"expected an accuracy of {recorded:.2%} on the clean {self.images.title}, as the card of "
                    f"{cell.subject.name} records, got {measured:.2%}; check that weights, normalisation and images "
                    "are the same as in its training"
                )

    @cached_property
    def _clean(self) -> dict[str, Cell]:
        """Cells of the clean images, by key."""
        tasks = (task for task in self.tasks if task.perturbation.is_clean and task.images is self.images)
        return {cell.key: cell for task in tasks for cell in task.cells}

    def _check_class_order(self, keys: set[str]) -> None:
        """Report every model whose clean predictions fit another order of the classes clearly better, once."""
        for key, cell in self._clean.items():
            name = cell.subject.name
            if key not in keys or name in self._misfits:
                continue
            outcome = self.directory.read_columns(key, n=len(self.images))
            other = outcome and find_other_order(outcome[0]["predicted"], outcome[0]["label"], self.images.classes)
            if other is not None:
                self._misfits.add(name)
                self._report(f"{name}: {other.verdict.reason}", shown="warning: ")

    @cached_property
    def _grid(self) -> dict[str, Any]:
        return describe_grid(self.suite, self.images, self.tasks)

    def _write_record(self, asked: RunOptions | AblationOptions, started: datetime, status: str) -> None:
        earlier = self._earlier
        moments = {"started": started, "written": datetime.now(UTC)}
        times = {name: moment.isoformat(timespec="seconds") for name, moment in moments.items()}
        session = {**times, "status": status, "environment": self._environment}
        own = {cell.key for cell in self.own_cells}
        self.directory.write_record(
            {
                "status": status,
                "options": write_options(asked),
                **times,
                **self._grid,
                "models": [*map(describe_subject, self.subjects), *earlier.models],
                "batch_size": self.batch_size,
                "agreement": [*map(dataclasses.asdict, self.agreements), *earlier.agreement],
                "executor": self.executor.name,
                "shard": self.shard and str(self.shard),
                "soundness": [*self.soundness, *earlier.soundness],
                "events": self.events,
                "environment": self._environment,
                "sessions": [*earlier.sessions, session],
                "cells": [*describe_cells(self.cells, own, self.done, self.failures), *earlier.cells],
            }
        )
