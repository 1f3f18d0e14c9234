"""The plan of a suite: every task of its grid, in the order in which one machine measures them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

from data_prep import ImageSet
from data_prep.shifts import Shift
from robustness.measure.cells import Adversary, Cell
from robustness.measure.donors import NETWORKS, shipped_donors
from robustness.measure.perturbations import Archive, Perturbation, SequencePerturbation
from robustness.measure.subjects import Subject
from robustness.measure.tasks import AttackTask, PerturbationTask, SequenceTask
from robustness.suite import Suite
from robustness.which_lam import WhichLam

T = TypeVar("T", bound=PerturbationTask)
ShiftBeside = tuple[Shift, ImageSet]
"""A natural shift, and the clean images of its classes."""


def list_perturbations(suite: Suite, corruptions: tuple[str, ...], *, archive: Archive | None) -> list[Perturbation]:
    """List clean, then each of ``corruptions`` at every severity, all from one source: no table mixes sources."""
    generated = "synthetic" if suite.profile == "sweep" else "generated"
    source = "official" if archive else generated
    clean = Perturbation(name="clean", severity=0, source=source)
    profile = "" if archive else suite.profile
    return [clean] + [
        Perturbation(
            name=name,
            severity=severity,
            source=source,
            profile=profile,
            archive=archive.fingerprint(name, severity) if archive else "",
        )
        for name in corruptions
        for severity in suite.levels(name)
    ]


def list_sequences(suite: Suite, *, archive: Archive | None) -> list[SequencePerturbation]:
    """List the perturbation sequences of a suite, all from one source."""
    return [
        SequencePerturbation(
            name=name,
            severity=suite.difficulty,
            source="official" if archive else "generated",
            archive=archive.fingerprint(name, suite.difficulty) if archive else "",
        )
        for name in suite.sequences
    ]


def plan_tasks(
    suite: Suite,
    subjects: list[Subject],
    images: ImageSet,
    *,
    archive: Archive | None,
    training_images: ImageSet | None = None,
    shifts: Sequence[ShiftBeside] = (),
) -> list[PerturbationTask]:
    """Plan the whole grid in groups: perturbations outermost, so that images are perturbed once for all models and λs.

    Args:
        suite: the grid.
        subjects: the models.
        images: the clean images to measure.
        archive: the official -C archive of their corruptions, or None to generate them.
        training_images: images that ``validated`` chooses λ on, for models with λs to choose from; None for no such
            choice. Their corruptions are always generated.
        shifts: the natural shifts, each with the clean images that it is compared with.
    """

    def plan(kind: type[T], listed: Sequence[Perturbation], shown: ImageSet, models: list[Subject]) -> list[T]:
        pairs = ((perturbation, subject) for perturbation in listed for subject in models)
        return [kind(subject, it, shown, _list_cells(suite, subject, it, shown)) for it, subject in pairs]

    perturbations = list_perturbations(suite, suite.corruptions, archive=archive)
    tasks = plan(PerturbationTask, perturbations, images, subjects)
    tasks += plan(SequenceTask, list_sequences(suite, archive=archive), images, subjects)
    tasks += _plan_shifts(suite, subjects, shifts, source=perturbations[0].source)
    if training_images is not None:
        choosing = [subject for subject in subjects if len(subject.lambdas(suite.lambdas)) > 1]
        selection = list_perturbations(suite, suite.selection_corruptions, archive=None)
        tasks += plan(PerturbationTask, selection, training_images, choosing)
    return tasks


def _list_cells(suite: Suite, subject: Subject, perturbation: Perturbation, images: ImageSet) -> tuple[Cell, ...]:
    """List the λs of the grid; for clean images, every attacked choice as well: robust also means right on these."""
    is_attacked = suite.attacks and perturbation.is_clean and images.split == suite.split
    choices = attacked_choices(suite, subject) if is_attacked else _grid(suite, subject)
    return tuple(Cell(subject, lam, perturbation, images, suite.seed) for lam in choices)


def _plan_shifts(
    suite: Suite, subjects: list[Subject], shifts: Sequence[ShiftBeside], *, source: str
) -> Iterator[PerturbationTask]:
    """Plan the classes of each shifted set; clean images are evaluated again only if these are not all classes."""
    for shift, beside in shifts:
        subset = None if shift.subset.is_whole else shift.subset
        shifted = Perturbation(name=shift.name, severity=0, source="official")
        clean = Perturbation(name="clean", severity=0, source=source)
        asked = [(shifted, shift.images), *([] if subset is None else [(clean, beside)])]
        for perturbation, images in asked:
            for subject in subjects:
                cells = [
                    Cell(subject, lam, perturbation, images, suite.seed, shift.name, subset)
                    for lam in _grid(suite, subject)
                ]
                yield PerturbationTask(subject, perturbation, images, tuple(cells))


def plan_attacks(suite: Suite, subjects: list[Subject], images: ImageSet) -> list[AttackTask]:
    """Plan a task for every attack, model and choice of λ to craft for.

    With ``whitebox`` alone, the model is evaluated on the images at that choice only; ``transfer`` and ``adaptive``
    need all pairs.
    """
    tasks = []
    for attack in suite.attacks:
        for subject in subjects:
            choices = attacked_choices(suite, subject)
            elsewhere = suite.threats != ("whitebox",) and subject.network.has_lam
            for crafted_for in choices:
                adversary = Adversary(
                    attack=attack,
                    crafted_for=crafted_for,
                    probe_images=suite.probe_images,
                    shown_elsewhere=elsewhere,
                    donors=_donors(suite, subject, subjects, images),
                )
                shown = choices if elsewhere else [crafted_for]
                cells = tuple(Cell(subject, choice, adversary, images, suite.seed) for choice in shown)
                tasks.append(AttackTask(subject, adversary, images, cells))
    return tasks


def _donors(suite: Suite, subject: Subject, subjects: list[Subject], images: ImageSet) -> tuple[Subject, ...]:
    """List other models of the run for the trust probes, if there are probes and no shipped network for such images."""
    size = images.pixels.shape[1], images.pixels.shape[2]
    if not suite.probe_images or shipped_donors(subject.network.num_classes, size):
        return ()
    others = [other for other in subjects if other is not subject and other.network.differentiable]
    return tuple(others[:NETWORKS])


def attacked_choices(suite: Suite, subject: Subject) -> tuple[WhichLam, ...]:
    """List the λs of the grid, the training λ under ``transfer``, and the policies per image under ``adaptive``."""
    fixed = subject.lambdas(suite.lambdas)
    if "transfer" in suite.threats and subject.lam is not None and subject.lam not in fixed:
        fixed = tuple(sorted([*(lam for lam in fixed if lam is not None), subject.lam]))
    laws = subject.laws() if "adaptive" in suite.threats else ()
    return tuple(map(WhichLam.of, (*fixed, *laws)))


def _grid(suite: Suite, subject: Subject) -> tuple[WhichLam, ...]:
    return tuple(map(WhichLam.of, subject.lambdas(suite.lambdas)))
