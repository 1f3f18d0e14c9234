"""The grid, flat: every measurement is one cell with a key made of everything that can change its result.

Two kinds of tasks: corruptions, whose images are the same for all models and λs, and attacks, whose images are crafted
against one model at one choice of λ and then shown to it at others.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from data_prep import ImageSet
from robustness.attack import Attack
from robustness.measure import probes
from robustness.measure.perturbations import Perturbation
from robustness.measure.stages import library_of
from robustness.measure.subjects import Subject
from robustness.measure.victims import LamChoice
from robustness.policies import ResidualLaw
from robustness.suite import Suite

PROTOCOL_VERSION = 1
"""Raised whenever the same inputs would give another number; older outcomes then no longer count as done."""


def describe_choice(choice: LamChoice) -> Any:
    """A choice of λ as JSON values."""
    return {"policy": "residual", **dataclasses.asdict(choice)} if isinstance(choice, ResidualLaw) else choice


def fixed_lam(choice: LamChoice) -> float | None:
    """λ where it is one number for all images, otherwise None."""
    return None if isinstance(choice, ResidualLaw) else choice


def hash_identity(identity: dict[str, Any]) -> str:
    """SHA-256 (hex) of the canonical JSON of ``identity``."""
    canonical = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Adversary:
    """An attack on the model at one choice of λ: a perturbation whose images depend on the model.

    Args:
        attack: what is done.
        crafted_for: λ, or the policy, that the attack differentiates through; None for a model without λ.
        probe_images: images that each trust probe takes.
    """

    attack: Attack
    crafted_for: LamChoice
    probe_images: int
    severity: ClassVar[int] = 0
    source: ClassVar[str] = "generated"

    @property
    def name(self) -> str:
        """What tables call it."""
        return self.attack.label

    def identity(self) -> dict[str, Any]:
        """Everything that decides the adversarial images, given model, images and seed."""
        return {
            "attack": self.attack.identity(),
            "library": library_of(self.attack),
            "crafted_for": describe_choice(self.crafted_for),
        }


@dataclass(frozen=True)
class Cell:
    """One measurement: a model at one λ on one set of perturbed images.

    Args:
        subject: the model.
        lam: λ of the call, or the policy that chooses it; None for a model without λ.
        perturbation: what is done to the images.
        images: the clean images.
        seed: of the corruption.
    """

    subject: Subject
    lam: LamChoice
    perturbation: Perturbation | Adversary
    images: ImageSet
    seed: int

    def identity(self) -> dict[str, Any]:
        """Everything that can change the result; JSON values. Device, batch size and output path are not in it."""
        return {
            "protocol": PROTOCOL_VERSION,
            "model": self.subject.identity(),
            "lam": describe_choice(self.lam),
            "perturbation": self.perturbation.identity(),
            "data": {"fingerprint": self.images.fingerprint, "n": len(self.images)},
            "seed": self.seed,
            "precision": self.subject.precision,
            **self._probes(),
        }

    def _probes(self) -> dict[str, Any]:
        """The trust probes are measured with the cell that was attacked itself."""
        if not isinstance(self.perturbation, Adversary) or self.perturbation.crafted_for != self.lam:
            return {}
        return {"probes": {"version": probes.VERSION, "images": self.perturbation.probe_images}}

    @cached_property
    def key(self) -> str:
        """SHA-256 (hex) of the canonical JSON of :meth:`identity`."""
        return hash_identity(self.identity())

    def row(self) -> dict[str, Any]:
        """What tables say of the cell; JSON values."""
        return {
            "key": self.key,
            "model": self.subject.name,
            "data": self.images.title,
            "split": self.images.split,
            "source": self.perturbation.source,
            "perturbation": self.perturbation.name,
            "severity": self.perturbation.severity,
            "lam": fixed_lam(self.lam),
            "policy": "residual" if isinstance(self.lam, ResidualLaw) else "",
            "trained_lam": self.subject.lam,
            "n": len(self.images),
            **self._threat_fields(),
        }

    def _threat_fields(self) -> dict[str, Any]:
        """What tables say of an attack; clean images at a policy are there for the sake of its attacks only."""
        if not isinstance(self.perturbation, Adversary):
            return {"threat": "adaptive"} if isinstance(self.lam, ResidualLaw) else {}
        crafted = self.perturbation.crafted_for
        return {
            "norm": self.perturbation.attack.norm,
            "eps": self.perturbation.attack.eps,
            "threat": "whitebox" if crafted == self.lam else "transfer",
            "crafted_lam": fixed_lam(crafted),
            "crafted_policy": "residual" if isinstance(crafted, ResidualLaw) else "",
        }


@dataclass(frozen=True)
class Task:
    """Cells that share their images and their model; evaluated together, one λ after the other on every batch."""

    subject: Subject
    perturbation: Perturbation
    images: ImageSet
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class AttackTask:
    """Cells that share one set of adversarial images of one model; its ``key`` names that set."""

    subject: Subject
    adversary: Adversary
    cells: tuple[Cell, ...]

    @property
    def title(self) -> str:
        """For people: model, λ and attack."""
        choice = self.adversary.crafted_for
        lam = "" if choice is None else " residual λ" if isinstance(choice, ResidualLaw) else f" λ={choice:g}"
        return f"{self.subject.name}{lam} {self.adversary.attack.title}"

    @cached_property
    def key(self) -> str:
        """SHA-256 (hex) of everything that decides the adversarial images: a cell's identity without its λ."""
        identity = self.cells[0].identity()
        return hash_identity({name: value for name, value in identity.items() if name not in ("lam", "probes")})


def list_perturbations(suite: Suite, corruptions: tuple[str, ...], *, official: bool) -> list[Perturbation]:
    """Clean first, then each of ``corruptions`` at every severity, all of one source: no table mixes sources."""
    generated = "synthetic" if suite.profile == "sweep" else "generated"
    source = "official" if official else generated
    clean = Perturbation(name="clean", severity=0, source=source)
    profile = "" if official else suite.profile
    return [clean] + [
        Perturbation(name=name, severity=severity, source=source, profile=profile)
        for name in corruptions
        for severity in suite.levels(name)
    ]


def plan_tasks(
    suite: Suite, subjects: list[Subject], images: ImageSet, *, official: bool, training_images: ImageSet | None = None
) -> list[Task]:
    """The whole grid, grouped: perturbations outermost, so that images are perturbed once for all models and λs.

    Args:
        suite: the grid.
        subjects: the models.
        images: the clean images that are measured.
        official: whether their corruptions are read from the official archive.
        training_images: those that ``validated`` chooses λ on, for the models that have λs to choose from; None for
            no such choice. Their corruptions are always generated.
    """
    tasks = [
        _plan_task(suite, subject, perturbation, images)
        for perturbation in list_perturbations(suite, suite.corruptions, official=official)
        for subject in subjects
    ]
    if training_images is not None:
        tasks += [
            _plan_task(suite, subject, perturbation, training_images)
            for perturbation in list_perturbations(suite, suite.selection_corruptions, official=False)
            for subject in subjects
            if len(subject.lambdas(suite.lambdas)) > 1
        ]
    return tasks


def _plan_task(suite: Suite, subject: Subject, perturbation: Perturbation, images: ImageSet) -> Task:
    choices = _choices(suite, subject, perturbation) if images.split == suite.split else subject.lambdas(suite.lambdas)
    cells = tuple(Cell(subject, lam, perturbation, images, suite.seed) for lam in choices)
    return Task(subject, perturbation, images, cells)


def plan_attacks(suite: Suite, subjects: list[Subject], images: ImageSet) -> list[AttackTask]:
    """A task for every attack, model and choice of λ that it is crafted for.

    ``whitebox`` shows the images to the model at that choice only; ``transfer`` and ``adaptive`` need all pairs.
    """
    tasks = []
    for attack in suite.attacks:
        for subject in subjects:
            choices = attacked_choices(suite, subject)
            for crafted_for in choices:
                adversary = Adversary(attack=attack, crafted_for=crafted_for, probe_images=suite.probe_images)
                shown = [crafted_for] if suite.threats == ("whitebox",) else choices
                cells = tuple(Cell(subject, choice, adversary, images, suite.seed) for choice in shown)
                tasks.append(AttackTask(subject, adversary, cells))
    return tasks


def attacked_choices(suite: Suite, subject: Subject) -> tuple[LamChoice, ...]:
    """The λs of the grid, with that of training under ``transfer``, and under ``adaptive`` the residual law."""
    fixed = subject.lambdas(suite.lambdas)
    if "transfer" in suite.threats and subject.lam is not None and subject.lam not in fixed:
        fixed = tuple(sorted([*(lam for lam in fixed if lam is not None), subject.lam]))
    has_policy = "adaptive" in suite.threats and subject.law is not None and subject.network.has_lam
    return (*fixed, subject.law.law) if has_policy and subject.law is not None else fixed


def _choices(suite: Suite, subject: Subject, perturbation: Perturbation) -> tuple[LamChoice, ...]:
    """The grid; clean images are answered at every choice that is attacked, too: robust means right on them as well."""
    attacked = perturbation.is_clean and suite.attacks
    return attacked_choices(suite, subject) if attacked else subject.lambdas(suite.lambdas)
