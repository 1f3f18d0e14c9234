"""The grid as a flat list of cells: each measurement has a key made of everything that can change its result."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from data_prep import ImageSet
from data_prep.subsets import ClassSubset
from robustness.attack import Attack
from robustness.measure import probes
from robustness.measure.answers import Sketch, identify
from robustness.measure.perturbations import Perturbation
from robustness.measure.stages import library_of
from robustness.measure.subjects import Subject
from robustness.which_lam import WhichLam

PROTOCOL_VERSION = 1
"""Version of the protocol; raise it whenever the same inputs give another number, so that older outcomes no longer
count as done."""


def hash_identity(identity: dict[str, Any]) -> str:
    """Return the SHA-256 (hex) of the canonical JSON of ``identity``."""
    canonical = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Adversary:
    """An attack on the model at one choice of λ: a perturbation whose images depend on the model.

    Args:
        attack: the attack.
        crafted_for: λ, or the policy, that the attack differentiates through; None for a model without λ.
        probe_images: number of images for each trust probe.
        shown_elsewhere: the model is also evaluated on the images at other choices of λ.
        donors: other models of the run on which the trust probes craft images; empty if shipped networks serve.
    """

    attack: Attack
    crafted_for: WhichLam
    probe_images: int
    shown_elsewhere: bool
    donors: tuple[Subject, ...] = ()

    @property
    def name(self) -> str:
        """Name in tables."""
        return self.attack.label

    @property
    def mover(self) -> Attack | None:
        """Attack that moves images left clean, if they are evaluated at other λs, too: PGD within the same budget."""
        if not self.shown_elsewhere:
            return None
        label = f"{self.attack.label} (for images that it leaves clean)"
        return Attack(name="pgd", norm=self.attack.norm, eps=self.attack.eps, label=label)

    def identity(self) -> dict[str, Any]:
        """Return everything that decides the adversarial images, given model, images and seed."""
        mover = self.mover
        return {
            "attack": self.attack.identity(),
            "library": library_of(self.attack),
            "crafted_for": self.crafted_for.identity(),
            **({"mover": [mover.identity(), library_of(mover)]} if mover else {}),
        }

    def identify_probes(self, lam: WhichLam) -> dict[str, Any]:
        """Return the identity of the trust probes, which are measured with the attacked cell."""
        if self.crafted_for != lam:
            return {}
        libraries = {"libraries": probes.probe_libraries(self.attack)} if self.probe_images else {}
        donors = {"donors": [donor.fingerprint for donor in self.donors]} if self.donors else {}
        return {"probes": {"version": probes.VERSION, "images": self.probe_images, **libraries, **donors}}

    def to_row(self, lam: WhichLam) -> dict[str, Any]:
        """Return the columns in tables of the cell at ``lam``, as JSON values; an attack has no severities."""
        return {
            "source": "generated",
            "perturbation": self.name,
            "severity": 0,
            "norm": self.attack.norm,
            "eps": self.attack.eps,
            "threat": "whitebox" if self.crafted_for == lam else "transfer",
            **self.crafted_for.to_row("crafted_"),
        }


@dataclass(frozen=True)
class Cell:
    """One measurement: a model at one λ on one set of perturbed images.

    Args:
        subject: the model.
        lam: λ of the call, or the policy that chooses it; None for a model without λ.
        perturbation: the perturbation of the images.
        images: the clean images.
        seed: seed of the corruption.
        shift: the natural shift that the images belong to, or are compared with; empty for none.
        subset: the classes that count; None for all.
    """

    subject: Subject
    lam: WhichLam
    perturbation: Perturbation | Adversary
    images: ImageSet
    seed: int
    shift: str = ""
    subset: ClassSubset | None = None

    def identity(self) -> dict[str, Any]:
        """Return all that can change the result, as JSON values; device, batch size and output path are left out."""
        return {
            "protocol": PROTOCOL_VERSION,
            "model": self.subject.identity(),
            "lam": self.lam.identity(),
            "perturbation": self.perturbation.identity(),
            "data": {"fingerprint": self.images.fingerprint, "n": len(self.images)},
            "seed": self.seed,
            "precision": self.subject.precision,
            **({"subset": self.subset.fingerprint} if self.subset else {}),
            **self.perturbation.identify_probes(self.lam),
            **{name: identify(sketch) for name, sketch in zip(("answers", "answers_attacked"), self.sketches)},
        }

    @property
    def sketches(self) -> list[Sketch]:
        """Sketches of a foreign model's logits, at the λs that the result depends on.

        Its weights may lie where torch does not find them.
        """
        known, crafted_for = self.subject.sketches, self.perturbation.crafted_for
        choices = [self.lam] if crafted_for is None else [self.lam, crafted_for]
        return [known[choice.value] for choice in choices if not choice.policy and choice.value in known]

    @cached_property
    def key(self) -> str:
        """SHA-256 (hex) of the canonical JSON of :meth:`identity`."""
        return hash_identity(self.identity())

    @cached_property
    def sameness(self) -> str:
        """SHA-256 (hex) of all that decides the predictions; clean images share it, whatever else a suite measures."""
        identity = self.identity()
        if self.perturbation.name == "clean":
            identity["perturbation"] = "clean"
        return hash_identity(identity)

    def row(self) -> dict[str, Any]:
        """Return the cell's columns in tables, as JSON values."""
        return {
            "key": self.key,
            "model": self.subject.name,
            "data": self.images.title,
            "split": self.images.split,
            **self.lam.to_row(),
            "trained_lam": self.subject.lam,
            "n": len(self.images),
            **({"shift": self.shift} if self.shift else {}),
            **self.perturbation.to_row(self.lam),
        }
