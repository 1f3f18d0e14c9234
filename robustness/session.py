"""A measurement from start to end: announce it, measure into the run directory, analyse."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from data_prep import ImageSet
from data_prep.errors import InputError
from robustness.analysis.findings import Findings
from robustness.analysis.texts import format_duration
from robustness.analysis.write import write_analysis
from robustness.grids import format_lam
from robustness.measure.agreement import measure_agreement
from robustness.measure.first_look import find_other_weights
from robustness.measure.loaders.loaded import Wanted
from robustness.measure.measurement import Measurement
from robustness.measure.preprocessing import note_preprocessing
from robustness.measure.subjects import Subject, load_subject
from robustness.measure.tasks import Task
from robustness.mirror import mirrored
from robustness.options import AblationOptions, RunOptions
from sdnet_core.augment import to_images

_TIMED_BATCH, _SHOWN_CLASSES = 32, 12
_AGREEMENT_N = 1000
"""Largest number of clean images on which the fast and the exact form of a model are compared."""


def describe_plan(measurement: Measurement) -> Iterator[str]:
    """Describe what will be measured and how much of it is already done, a line at a time."""
    suite, images = measurement.suite, measurement.images
    cells, done = len(measurement.cells), len(measurement.done)
    yield f"suite {suite.name}: {images.title}, {images.split}, n = {len(images)}, on {measurement.device}"
    yield f"  {len(images.classes)} classes in this order: {_abridge(images.classes)}"
    for given in (images, *(shift.images for shift, _ in measurement.shifts)):
        yield from (f"  {note}" for note in given.notes)
    for subject in measurement.subjects:
        lambdas = subject.lambdas(suite.lambdas)
        grid = ", ".join(format_lam(lam) for lam in lambdas if lam is not None)
        yield f"  {subject.name}: " + (f"λ = {grid}" if grid else "no λ")
    parts = ["clean"]
    if suite.corruptions:
        levels = sum(len(suite.levels(name)) for name in suite.corruptions)
        source = measurement.tasks[0].perturbation.source
        kinds = len(suite.corruptions)
        parts.append(f"{kinds} {source} corruption{'s' * (kinds != 1)} at {levels} level{'s' * (levels != 1)}")
    if suite.sequences:
        source = "generated" if measurement.archive is None else "official"
        parts.append(f"{len(suite.sequences)} {source} perturbation sequence{'s' * (len(suite.sequences) != 1)}")
    parts += [shift.info.title for shift, _ in measurement.shifts]
    parts += [attack.title for attack in suite.attacks]
    yield f"  {', '.join(parts)}: {cells} cells, {done} of them done"
    for task in measurement.attacks:
        if task.perturbation.crafted_for.policy and task.perturbation.attack == suite.attacks[0]:
            yield f"  {task.subject.name} is also attacked through {task.perturbation.crafted_for.title}"
    has_lam = any(subject.lam is not None for subject in measurement.subjects)
    if has_lam and measurement.training_images is not None:
        n, names = len(measurement.training_images), ", ".join(suite.selection_corruptions)
        yield f"  among them the choice of λ on {n} training images: clean, {names}"
    elif has_lam and suite.selection:
        yield f"  no choice of λ on training images: {suite.data} has no split 'train'"
    if measurement.shard is not None:
        own = {cell.key for cell in measurement.own_cells}
        yield f"  shard {measurement.shard}: {len(own)} of the cells, {len(own & measurement.done)} of them done"


@dataclass(frozen=True)
class Estimate:
    """The remaining work of a run and its estimated duration.

    passes: passes by part of the run; a pass is one image through one model, and a gradient counts as two more.
    seconds: seconds for all passes. The trust probes are estimated as a third of the attacks. Small runs may take
        longer, because a surrogate of a model without donors is trained first.
    """

    passes: dict[str, int]
    seconds: float


def estimate_work(measurement: Measurement) -> Estimate:
    """Count the passes of what is missing and not left to an earlier suite, and time every model on one batch."""
    shared = {cell.sameness for other in measurement.previous_suites for cell in other.cells}
    missing = {cell.key for cell in measurement.own_cells if cell.sameness not in shared} - measurement.done
    speeds: dict[str, float] = {}
    passes: Counter[str] = Counter()
    seconds = 0.0
    for job in filter(None, (job.restrict(missing) for job in measurement.jobs)):
        for task in job.tasks:
            name = task.subject.name
            if name not in speeds:
                speeds[name] = _time_pass(task.subject, measurement)
            own = _count_passes(task, measurement)
            passes.update(own)
            seconds += sum(own.values()) * speeds[name]
    return Estimate(dict(passes), seconds)


def _count_passes(task: Task, measurement: Measurement) -> dict[str, int]:
    if task.is_attack:
        return {"attacks": task.size, **({"trust probes": task.size // 3} if measurement.suite.probe_images else {})}
    if task.images is measurement.training_images:
        return {"choice of λ on training images": task.size}
    return {"natural shifts" if task.cells[0].shift else "clean and corrupted images": task.size}


def describe_estimate(measurement: Measurement, estimate: Estimate) -> Iterator[str]:
    """Describe what is left and how long it takes, a line at a time."""
    if not estimate.passes:
        yield "  nothing is left to measure"
        return
    yield "  left: " + ", ".join(f"{part} {count:,} passes" for part, count in estimate.passes.items())
    duration = format_duration(max(estimate.seconds, 1))
    yield f"  about {duration} on {measurement.device} in batches of {measurement.batch_size}"


def plan_to_json(measurement: Measurement, estimate: Estimate) -> dict[str, Any]:
    """Return the plan of a measurement as JSON values."""
    suite, images = measurement.suite, measurement.images
    return {
        "suite": suite.name,
        "data": images.title,
        "split": images.split,
        "n": len(images),
        "classes": images.classes,
        "notes": images.notes,
        "models": {
            it.name: [lam for lam in it.lambdas(suite.lambdas) if lam is not None] for it in measurement.subjects
        },
        "corruptions": {name: suite.levels(name) for name in suite.corruptions},
        "sequences": suite.sequences,
        "shifts": [shift.name for shift, _ in measurement.shifts],
        "attacks": [attack.title for attack in suite.attacks],
        "device": str(measurement.device),
        "cells": len(measurement.own_cells),
        "done": sum(cell.key in measurement.done for cell in measurement.own_cells),
        "passes": estimate.passes,
        "seconds": float(f"{estimate.seconds:.3g}"),
    }


def shard_to_json(measurement: Measurement) -> dict[str, Any]:
    """Return a measured shard as JSON values; its numbers come with the merge."""
    return {
        "run": str(measurement.directory.path),
        "shard": str(measurement.shard),
        "status": "failed" if measurement.failures else "complete",
        "missing": measurement.failures,
    }


def _time_pass(subject: Subject, measurement: Measurement) -> float:
    """Measure the seconds per image of a model, the faster of two passes after a warm-up; 0 if it fails."""
    batch = min(measurement.batch_size, len(measurement.images), _TIMED_BATCH)
    pixels = torch.from_numpy(np.array(measurement.images.pixels[:batch]))
    images = to_images(pixels.to(measurement.device))
    try:
        with torch.no_grad():
            times = []
            for _ in range(3):
                started = time.perf_counter()
                subject.network(images).sum().item()
                times.append(time.perf_counter() - started)
    except Exception:  # the run reports the fault
        return 0.0
    finally:
        subject.reset()
    return min(times[1:]) / batch


def _abridge(names: Sequence[str]) -> str:
    shown = list(names) if len(names) <= _SHOWN_CLASSES else [*names[: _SHOWN_CLASSES - 1], "…", names[-1]]
    return ", ".join(shown)


def find_other_sizes(subjects: list[Subject], images: ImageSet) -> list[str]:
    """Write a note for every model that was made for images of another size."""
    height, width = images.pixels.shape[1:3]
    notes = []
    for subject in subjects:
        shown = subject.network.shown_size((height, width))
        if shown != (height, width):
            notes.append(
                f"{subject.name}: images of {height} × {width} pixels are brought to {shown[0]} × {shown[1]} for it, "
                "after the corruption"
            )
        if misfit := subject.network.find_misfit(height, width):
            notes.append(
                f"{subject.name}: {misfit}, these have {height} × {width} and are taken as they are, so it may do "
                "worse on them; --input-size scales them for models from elsewhere"
            )
    return notes


def compare_with_exact(measurement: Measurement) -> Iterator[str]:
    """Measure and record how ``--speed fast`` changes the predictions; one line per model."""
    device = measurement.device
    images = measurement.images.subset(min(_AGREEMENT_N, len(measurement.images)))
    for name, fast in zip(measurement.suite.models, measurement.subjects, strict=True):
        exact = load_subject(name, Wanted(num_classes=len(images.classes)), device=device)
        agreement = measure_agreement(fast, exact, images, device=device, batch_size=measurement.batch_size)
        measurement.agreements.append(agreement)
        yield f"  {agreement}"


def conduct(
    measurement: Measurement,
    options: RunOptions,
    *,
    asked: RunOptions | AblationOptions | None = None,
    say: Callable[[str], object] = lambda _: None,
    warn: Callable[[str], object] = lambda _: None,
) -> Findings | None:
    """Measure what is missing and write tables, figures and report.

    Args:
        measurement: the result of :func:`~robustness.measure.prepare.prepare` for ``options``.
        options: options of the measurement.
        asked: the request to store in the record; None for ``options``.
        say: called with every line about what is measured.
        warn: called with every warning.

    Returns:
        The findings of the run; None for a shard, since shards are merged before they are analysed.

    Raises:
        InputError: the folder has other content, another run is writing to it, or a model contradicts its card.
    """
    measurement.directory.create()
    with (
        measurement.directory.lock(),
        mirrored(measurement.directory, options.out, fresh=options.fresh) as measurement.on_result,
    ):
        if options.fresh:
            measurement.directory.clear()
        measurement.find_done()
        measurement.adopt()
        for line in describe_plan(measurement):
            say(line)
        measurement.events += find_other_weights(measurement.subjects, measurement.directory)
        measurement.events += find_other_sizes(measurement.subjects, measurement.images)
        for subject in measurement.subjects:
            if any(cell.subject is subject and cell.key not in measurement.done for cell in measurement.own_cells):
                measurement.events += note_preprocessing(
                    subject,
                    measurement.images,
                    device=measurement.device,
                    batch_size=measurement.batch_size,
                    timeout=measurement.timeout,
                )
        for note in measurement.events:
            warn(f"note: {note}")
        if options.speed == "fast":
            for line in compare_with_exact(measurement):
                say(line)
        measurement.run(asked or options)
        if measurement.shard is not None:
            return None
        return write_analysis(measurement.directory)


def check_measured(measurement: Measurement) -> None:
    """Raise InputError if no cell of a model could be measured, with the reason."""
    for subject in measurement.subjects:
        cells = [cell for cell in measurement.own_cells if cell.subject is subject]
        if cells and not any(cell.key in measurement.done for cell in cells):
            reason = measurement.failures.get(cells[0].key, "it was not measured")
            raise InputError(
                f"{subject.name} could not be measured at all: {reason}; correct that, or leave the model out"
            )
