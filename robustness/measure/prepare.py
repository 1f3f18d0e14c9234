"""Preparation of the measurement of a suite: load images and models, plan the grid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from data_prep import ImageSet, load_images
from data_prep.errors import InputError, PrerequisiteError, UsageError, check_choice
from data_prep.shifts import find_shifts, geometry_beside, list_shifts, read_shift
from data_prep.sources import split_sizes
from robustness.measure.attacker import check_attacks
from robustness.measure.executors import Executor, LocalExecutor
from robustness.measure.first_look import look_at_answers
from robustness.measure.given import Model
from robustness.measure.jobs import Shard
from robustness.measure.loaders.loaded import Wanted
from robustness.measure.measurement import Measurement
from robustness.measure.perturbations import Archive, check_generated, find_official
from robustness.measure.plan import ShiftBeside
from robustness.measure.subjects import load_subjects
from robustness.measure.tasks import Shelf
from robustness.mirror import local_folder
from robustness.options import RunOptions
from robustness.run_directory import RunDirectory
from robustness.suite import Suite
from sdnet_core.environment import select_device

_BATCH_SIZE, _BATCH_SIZE_OF_LARGE = 250, 50
LARGE_SIDE = 64
"""Pixels per side above which images are measured in smaller batches and, by default, with ImageNet-C's parameters."""


def prepare(
    suite: Suite,
    options: RunOptions,
    *,
    images: ImageSet | None = None,
    models: Mapping[str, Model] | None = None,
    progress: bool = False,
    shelf: Shelf | None = None,
) -> Measurement:
    """Load what a suite needs and plan its grid.

    Args:
        suite: the suite to measure.
        options: options of the measurement.
        images: the whole split of the suite's images, if already loaded.
        models: the models of the suite, if already loaded.
        progress: show a bar while pictures are read.
        shelf: objects that suites of the same command have loaded.

    Raises:
        PrerequisiteError: data, a model or a GPU is missing.
        InputError: data or a model is invalid.
    """
    shelf = shelf or Shelf()
    if options.speed == "fast" and suite.attacks:
        raise InputError("--speed fast is for corruptions, as attacks need exact gradients; leave it out")
    shard = Shard.parse(options.shard) if options.shard is not None else None
    executor = make_executor(options)
    device = select_device("cpu" if options.executor == "ray" else options.device)
    data_dir = Path(options.data_dir)
    if images is None:
        images = shelf.get(("clean", suite.data, suite.split), lambda: load_clean(suite, data_dir))
    found, archive = find_images(suite, data_dir, images)
    drawn = shelf.get(("drawn", id(images), suite.n, suite.seed), lambda: found)
    large = max(drawn.pixels.shape[1:3]) > LARGE_SIDE
    named, size = suite.models if models is None else models, drawn.pixels.shape[1:3]
    subjects = shelf.get(
        ("subjects", tuple(named), drawn.classes, size),
        lambda: load_subjects(
            named,
            Wanted(
                num_classes=len(drawn.classes), classes=drawn.classes, image_size=size, enlarge_to=options.input_size
            ),
            device=device,
            speed=options.speed,
        ),
    )
    notes = shelf.get(
        ("notes", id(subjects), id(drawn)),
        lambda: look_at_answers(subjects, drawn, device=device, timeout=options.timeout),
    )
    check_attacks(suite.attacks, subjects, probed=suite.probe_images > 0)
    if suite.baseline:
        check_choice(suite.baseline, [subject.name for subject in subjects], "a model as the baseline")
    measurement = Measurement(
        suite=suite,
        subjects=subjects,
        images=drawn,
        archive=archive,
        directory=RunDirectory(local_folder(options.out) if options.out else default_out(suite, shard)),
        device=device,
        batch_size=options.batch_size or (_BATCH_SIZE_OF_LARGE if large else _BATCH_SIZE),
        training_images=shelf.get(
            ("selection", id(drawn), suite.selection, suite.selection_n), lambda: load_selection(suite, data_dir, drawn)
        ),
        shifts=read_shifts(suite, images, data_dir, progress=progress),
        shard=shard,
        executor=executor,
        timeout=options.timeout,
    )
    measurement.events += [*_find_other_profile(measurement), *notes]
    return measurement


def _find_other_profile(measurement: Measurement) -> list[str]:
    """Write a note if corruptions are generated with the parameters for images of another size."""
    suite, fitting = measurement.suite, profile_of(measurement.images)
    if (
        measurement.archive is not None
        or not suite.corruptions
        or suite.profile not in {"cifar", "imagenet"} - {fitting}
    ):
        return []
    height, width = measurement.images.pixels.shape[1:3]
    return [
        f"the suite {suite.name} generates corruptions with the parameters of the profile {suite.profile}, and for "
        f"images of {height} × {width} pixels the profile is {fitting}; write profile = {fitting!r} into its file"
    ]


def profile_of(images: ImageSet) -> str:
    """Return the parameter table that suits the size of images: ``cifar`` or ``imagenet``."""
    return "imagenet" if max(images.pixels.shape[1:3]) > LARGE_SIDE else "cifar"


def find_images(suite: Suite, data_dir: Path, images: ImageSet | None = None) -> tuple[ImageSet, Archive | None]:
    """Find the images to measure and their official archive; None if corruptions are generated.

    Args:
        suite: suite that names the images and their number.
        data_dir: folder of the data sets.
        images: the whole split, if already loaded.

    Raises:
        PrerequisiteError: the data set, or what its corruptions need, is missing.
        InputError: fewer images than requested, or a damaged archive.
    """
    if images is None:
        images = load_clean(suite, data_dir)
    if suite.n is not None and suite.n > len(images):
        raise InputError(
            f"expected --n of at most {len(images)}, the images of {images.title} in {suite.split}, got {suite.n}; "
            "give a smaller number"
        )
    if suite.n is not None:
        images = images.subset(suite.n, seed=suite.seed)
    archive = find_official(suite, images, data_dir.resolve())
    check_generated(
        suite, images, {*suite.selection_corruptions, *(() if archive else suite.corruptions)}, archive is not None
    )
    return images, archive


def load_clean(suite: Suite, data_dir: Path) -> ImageSet:
    """Load the whole split of a suite's images; raise PrerequisiteError if it is missing."""
    try:
        return load_images(suite.data, split=suite.split, data_dir=data_dir)
    except PrerequisiteError as error:
        hint = "or try what needs no data: python -m robustness.run --suite demo"
        raise PrerequisiteError(f"{error}\n{hint}") from error


def read_shifts(suite: Suite, clean: ImageSet, data_dir: Path, *, progress: bool = False) -> list[ShiftBeside]:
    """Read the natural shifts of a suite, prepared like the ``clean`` images, each with its classes' clean images.

    Raises:
        PrerequisiteError: one or all of the shifts are missing.
        InputError: a shift has other classes, or is damaged.
    """
    if not suite.shifts:
        return []
    known = list_shifts(clean.classes)
    named = ", ".join(known) or "there are none for its classes"
    if others := [name for name in suite.shifts if name not in (*known, "all")]:
        raise InputError(f"expected natural shifts of {clean.title} ({named}), got {others[0]}; choose among them")
    there = [name for name in find_shifts(data_dir) if name in known]
    names = there if "all" in suite.shifts else suite.shifts
    if not names:
        raise PrerequisiteError(
            f"expected natural shifts of {clean.title} ({named}) in {data_dir}, got none; python -m data_prep list "
            "says how to get them"
        )
    geometry = geometry_beside(clean, data_dir)
    draw: dict[str, Any] = {"n": suite.n, "seed": suite.seed}
    shifts = []
    for name in names:
        shift = read_shift(name, data_dir, geometry=geometry, progress=progress, **draw)
        shift = replace(shift, images=replace(shift.images, split=clean.split))
        shifts.append((shift, shift.subset.restrict(clean, **draw)))
    return shifts


def make_executor(options: RunOptions) -> Executor:
    """Create the executor of the options; raise PrerequisiteError if Ray is not installed."""
    if options.executor == "local":
        return LocalExecutor()
    try:
        from robustness.measure.ray_executor import RayExecutor
    except ImportError as error:
        raise PrerequisiteError(f"--executor ray needs the package ray ({error}); pip install 'ray>=2.60'") from error
    return RayExecutor(options.ray_address, options.gpus_per_task)


def default_out(suite: Suite, shard: Shard | None) -> Path:
    """Return the run directory of a suite, or of a shard of it."""
    return Path("results/runs") / (f"{suite.name}-{shard.index}-of-{shard.count}" if shard else suite.name)


def load_selection(suite: Suite, data_dir: Path, images: ImageSet) -> ImageSet | None:
    """Load the training images that λ is chosen on; None if the suite or the data set of ``images`` has none."""
    if not suite.selection_corruptions:
        return None
    try:
        has_training = "train" in split_sizes(suite.data, data_dir)
    except UsageError:  # pictures that are not imported
        return None
    training = load_images(suite.data, split="train", data_dir=data_dir) if has_training else None
    if training is None or (training.title, training.classes) != (images.title, images.classes):
        return None
    return training.subset(min(suite.selection_n, suite.n or len(training)), seed=suite.seed)
