"""Attack a model at one choice of λ, store the adversarial images, and evaluate the model on them at every choice."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from data_prep.errors import InputError
from robustness.attack import Attack
from robustness.measure.adversarial import AdversarialSet, encode
from robustness.measure.craft import Journal, Stage, craft, distance
from robustness.measure.donors import Jury, find_donors
from robustness.measure.evaluate import evaluate
from robustness.measure.perturbations import PerturbedImages
from robustness.measure.probes import Prober, probe_libraries
from robustness.measure.stages import list_stages
from robustness.measure.subjects import Subject
from robustness.measure.victims import Victim
from robustness.which_lam import WhichLam
from sdnet_core.adversarial import frozen
from sdnet_core.augment import to_images

if TYPE_CHECKING:
    from robustness.measure.tasks import AttackTask, Outcome, Workplace


class Attacker:
    """Crafts the adversarial images of one task and evaluates them.

    Args:
        task: the attack, the model and the cells.
        clean: the clean images.
        workplace: run directory for adversarial images and the state of a running attack, device, progress bar, and the
            probes that attacks on one model share.
    """

    def __init__(self, task: AttackTask, clean: PerturbedImages, workplace: Workplace) -> None:
        self.task, self.clean, self.workplace = task, clean, workplace
        self._seed, self._pixels = task.cells[0].seed, np.asarray(clean.pixels)
        self._images = to_images(torch.from_numpy(np.array(clean.pixels))).contiguous()
        self._labels = torch.from_numpy(np.array(clean.labels))

    def _make_victim(self) -> Victim:
        return Victim(self.task.subject.network, self.task.perturbation.crafted_for)

    def run(self) -> list[Outcome]:
        """Return outcomes per image and seconds of the cells; existing adversarial images are read back.

        The frame of the attacked cell (``whitebox``) also has the columns of the trust marks: see :meth:`_verify`.
        """
        cells, bar = self.task.cells, self.workplace.bar
        with frozen(self.task.subject.network):
            adversarial, attack_passes = self._obtain()
            bar.set_description(f"{self.task.title}: evaluation and probes")
            started = time.perf_counter()
            frames = self._evaluate(adversarial, [cell.lam for cell in cells], self.workplace.batch_size)
            bar.update(len(self._labels) * len(cells))
            seconds = (time.perf_counter() - started) / len(cells)
            results = []
            for cell, frame in zip(cells, frames, strict=True):
                is_whitebox = cell.lam == self.task.perturbation.crafted_for
                marked = self._verify(adversarial, frame, attack_passes) if is_whitebox else frame
                results.append((marked, round(seconds + adversarial.seconds * is_whitebox, 4)))
        return results

    def _obtain(self) -> tuple[AdversarialSet, int]:
        """Return the adversarial images, and the passes that crafting them took; 0 if they were read back."""
        path = self.task.image_file(self.workplace.directory)
        journal = Journal(path.with_suffix(".partial"))
        adversarial, passes = AdversarialSet.read(path, self._pixels), 0
        if adversarial is None:
            crafted, passes = self._craft(journal)
            crafted.write(path)
            adversarial = AdversarialSet.read(path, self._pixels)  # measure exactly what is stored
            assert adversarial is not None, f"{path} was written and cannot be read"
        else:
            self.workplace.bar.update(len(self._labels) * self.task.perturbation.attack.passes)
        journal.clear()
        return adversarial, passes

    def _craft(self, journal: Journal) -> tuple[AdversarialSet, int]:
        """Run the attack, or resume it; return the images and the passes that it took."""
        attack, bar, device = self.task.perturbation.attack, self.workplace.bar, self.workplace.device
        victim, leave_early = self._make_victim(), not self.task.perturbation.shown_elsewhere
        stages, mover = self._list_stages(attack, victim, leave_early=leave_early), self._mover(victim)
        before, weight = bar.n, attack.passes / len(stages)

        def report(stage: str, n: int) -> None:
            bar.set_description(f"{self.task.title}: {stage}")
            bar.update(n * weight)

        crafted = craft(
            victim,
            stages,
            self._images,
            self._labels,
            norm=attack.norm,
            eps=attack.eps,
            batch_size=attack.batch_size,
            seed=self._seed,
            device=device,
            mover=mover,
            journal=journal,
            progress=report,
        )
        bar.update(len(self._images) * attack.passes - (bar.n - before))
        passes = victim.passes
        coded = encode(
            crafted,
            self._pixels,
            self._labels,
            victim=victim,
            stages=tuple(stage.name for stage in (*stages, *([mover] if mover else []))),
            batch_size=attack.batch_size,
            device=device,
        )
        return coded, passes

    def _list_stages(self, attack: Attack, victim: Victim, *, leave_early: bool = True) -> list[Stage]:
        classes = self.task.subject.network.num_classes
        return list_stages(attack, victim, num_classes=classes, seed=self._seed, leave_early=leave_early)

    def _mover(self, victim: Victim) -> Stage | None:
        """Build the mover for images that the stages leave clean, if they are also evaluated at another λ."""
        attack = self.task.perturbation.mover
        if attack is None:
            return None
        (stage,) = self._list_stages(attack, victim)
        return dataclasses.replace(stage, name="mover")

    def _evaluate(
        self, adversarial: AdversarialSet, choices: Sequence[WhichLam], batch_size: int
    ) -> list[pd.DataFrame]:
        images = PerturbedImages(adversarial, self.clean.labels)
        network, indices = self.task.subject.network, self.task.images.indices
        return evaluate(network, images, indices, choices, device=self.workplace.device, batch_size=batch_size)

    def _verify(self, adversarial: AdversarialSet, frame: pd.DataFrame, attack_passes: int) -> pd.DataFrame:
        """Return ``frame`` with the columns that trust marks need, measured again on the stored images.

        Columns: ``attacked`` (was right on the clean image), ``broken_by`` (name of the stage, empty for none),
        ``stages`` (names of all, with commas), ``dropped`` (an attempt left the budget that it was given), ``distance``
        ‖x′ − x‖ in the attack's norm, ``in_range`` (all values in [0, 1]), ``predicted_again`` (at another batch size),
        ``attack_passes`` and ``probe_passes`` (of all images together; 0 for an attack that was read back), and the
        fields of :mod:`robustness.measure.probe_results`.
        """
        first_size = min(self.workplace.batch_size, len(adversarial))
        other_size = max(first_size // 3, 1) if first_size > 1 else 2
        (again,) = self._evaluate(adversarial, [self.task.perturbation.crafted_for], other_size)
        stored = to_images(torch.from_numpy(adversarial[:])).contiguous()
        names = np.array([*adversarial.stages, ""])
        return frame.assign(
            attacked=adversarial.attacked,
            broken_by=names[adversarial.broken_by],
            stages=",".join(adversarial.stages),
            dropped=adversarial.dropped,
            distance=distance(stored, self._images, self.task.perturbation.attack.norm).numpy(),
            in_range=((stored >= 0) & (stored <= 1)).flatten(1).all(1).numpy(),
            predicted_again=again["predicted"].to_numpy(),
            **self._probe(adversarial, stored),
            attack_passes=attack_passes,
        )

    def _probe(self, adversarial: AdversarialSet, stored: Tensor) -> dict[str, Any]:
        """Run the probes of an attack; probes that do not depend on the attack run only once per model and λ."""
        subject, adversary, victim = self.task.subject, self.task.perturbation, self._make_victim()
        prober = Prober(
            victim=victim,
            images=self._images,
            labels=self._labels,
            num_classes=subject.network.num_classes,
            limit=adversary.probe_images,
            seed=self._seed,
            device=self.workplace.device,
            donors=self._find_donors() if adversary.probe_images else None,
            reset=subject.reset,
        )
        key = ("probes", subject.name, adversary.crafted_for)
        about_model = self.workplace.shelf.get(key, prober.probe_model)
        own = prober.probe_attack(
            adversary.attack,
            adversarial.stages,
            torch.from_numpy(adversarial.attacked & (adversarial.broken_by < 0)),
            torch.from_numpy(adversarial.attacked),
            stored,
            random=about_model.is_random,
        )
        return vars(about_model) | vars(own) | {"probe_passes": victim.passes}

    def _find_donors(self) -> Jury | None:
        """Find the donors, the same for all models that are not donors themselves."""
        subject, others, device = self.task.subject, self.task.perturbation.donors, self.workplace.device
        own = subject.fingerprint if subject.network.is_known else ""
        return self.workplace.shelf.get(
            ("donors", own, tuple(id(other) for other in others)),
            lambda: find_donors(
                self._images,
                self._labels,
                num_classes=subject.network.num_classes,
                besides=own,
                others=[Victim(other.network.to(device), other.lam) for other in others],
                device=device,
            ),
        )


def check_attacks(attacks: Sequence[Attack], subjects: Sequence[Subject], *, probed: bool) -> None:
    """Set up every attack on every model, so that an impossible attack fails before the work starts.

    ``probed``: true if trust probes run, too, which need torchattacks and pyautoattack.

    Raises:
        PrerequisiteError: the library of an attack or of the probes is not installed.
        InputError: there is no such attack, or it does not fit the model.
    """
    for attack in attacks:
        if probed:
            probe_libraries(attack)
        for subject in subjects:
            network = subject.network
            if not network.differentiable and attack.needs_gradients:
                raise InputError(
                    f"{subject.name} has no gradients, which {attack.title} needs; measure it under corruptions, or "
                    "under Square, name = 'Square'"
                )
            list_stages(attack, Victim(network, subject.lam), num_classes=network.num_classes, seed=0)
