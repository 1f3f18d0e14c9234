"""Attack a model at one choice of λ, keep the adversarial images, and show them to the model at every choice."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from data_prep import ImageSet
from data_prep.errors import InputError
from robustness.attack import Attack
from robustness.measure.adversarial import AdversarialSet, encode
from robustness.measure.cells import AttackTask
from robustness.measure.craft import craft, distance
from robustness.measure.donors import Jury, find_donors
from robustness.measure.evaluate import evaluate
from robustness.measure.journal import Journal
from robustness.measure.perturbations import PerturbedImages
from robustness.measure.probes import ModelProbes, Prober, probe_libraries
from robustness.measure.stages import Stage, list_stages
from robustness.measure.subjects import Subject
from robustness.measure.victims import Victim
from robustness.run_directory import RunDirectory
from robustness.which_lam import WhichLam
from sdnet_core import Network
from sdnet_core.adversarial import frozen
from sdnet_core.augment import to_images

_SAMPLES = 4


@dataclass
class Attacker:
    """Crafts adversarial images for one set of clean images and evaluates them.

    Args:
        images: the clean images.
        directory: run directory for adversarial images and the state of a running attack.
        device: device of the models.
        batch_size: images per forward pass of the evaluation; the attack has its own.
        seed: seed of the random starts.
    """

    images: ImageSet
    directory: RunDirectory
    device: torch.device
    batch_size: int
    seed: int
    _model_probes: dict[tuple[str, WhichLam], ModelProbes] = field(init=False, default_factory=dict)
    _donors: dict[str, Jury | None] = field(init=False, default_factory=dict)
    _attack_passes: int = field(init=False, default=0)

    def measure(self, task: AttackTask, bar: tqdm[Any]) -> list[tuple[pd.DataFrame, float]]:
        """Return outcomes per image and seconds of the cells; existing adversarial images are read back.

        The frame of the attacked cell (``whitebox``) also has the columns of the trust marks: see :meth:`_verify`.
        """
        network, crafted_for = task.subject.network, task.adversary.crafted_for
        with frozen(network):
            adversarial = self._obtain(task, bar)
            bar.set_description(f"{task.title}: evaluation and probes")
            started = time.perf_counter()
            frames = self._evaluate(task.subject, adversarial, [cell.lam for cell in task.cells], self.batch_size)
            bar.update(len(self.images) * len(task.cells))
            seconds = (time.perf_counter() - started) / len(task.cells)
            results = []
            for cell, frame in zip(task.cells, frames, strict=True):
                is_whitebox = cell.lam == crafted_for
                marked = self._verify(task, adversarial, frame) if is_whitebox else frame
                results.append((marked, round(seconds + adversarial.seconds * is_whitebox, 4)))
        return results

    @torch.inference_mode()
    def collect_samples(self, task: AttackTask, lambdas: Sequence[float]) -> dict[str, np.ndarray] | None:
        """Collect images of a few classes that the attack turned, and its effect on their codes, for figures.

        Returns:
            ``clean`` uint8 and ``adversarial``, ``perturbation`` float32 (K, H, W, 3), ``code_change`` float32
            (K, L, H', W'), mean |z(x′) − z(x)| over the atoms, ``lambdas`` (L,), ``eps``, ``title`` and ``answers``
            (JSON: label and prediction of each). None if there are no images or none was turned.
        """
        pixels = np.asarray(self.images.pixels)
        adversarial = AdversarialSet.read(self.directory.adversarial_set(task.key), pixels)
        if adversarial is None or not (adversarial.broken_by >= 0).any():
            return None
        turned = np.flatnonzero(adversarial.broken_by >= 0)
        _, first_of_class = np.unique(self.images.labels[turned], return_index=True)
        chosen = turned[np.sort(first_of_class)][:_SAMPLES]
        network, classes = task.subject.network, self.images.classes
        assert isinstance(network, Network)
        moved = np.concatenate([adversarial[int(i) : int(i) + 1] for i in chosen])
        x, x_moved = _as_tensor(pixels[chosen]).to(self.device), to_images(torch.from_numpy(moved)).to(self.device)
        changes = [(network.encode(x_moved, lam) - network.encode(x, lam)).abs().mean(1) for lam in lambdas]
        predicted = Victim(network, task.adversary.crafted_for)(x_moved).argmax(1).tolist()
        names = [[classes[self.images.labels[i]], classes[p]] for i, p in zip(chosen, predicted, strict=True)]
        return {
            "clean": pixels[chosen],
            "adversarial": moved,
            "perturbation": moved - pixels[chosen].astype(np.float32) / 255,
            "code_change": torch.stack(changes, 1).cpu().numpy(),
            "lambdas": np.array(lambdas),
            "eps": np.array(task.adversary.attack.eps),
            "title": np.array(f"{task.subject.name}, {task.adversary.attack.title}"),
            "answers": np.array(json.dumps(names)),
        }

    def is_crafted(self, task: AttackTask) -> bool:
        """Check whether the adversarial images of a task are on disk."""
        return self.directory.adversarial_set(task.key).is_file()

    def _obtain(self, task: AttackTask, bar: tqdm[Any]) -> AdversarialSet:
        path = self.directory.adversarial_set(task.key)
        pixels = np.asarray(self.images.pixels)
        journal = Journal(path.with_suffix(".partial"))
        adversarial = AdversarialSet.read(path, pixels)
        self._attack_passes = 0
        if adversarial is None:
            self._craft(task, pixels, journal, bar).write(path)
            adversarial = AdversarialSet.read(path, pixels)  # measure exactly what is stored
            assert adversarial is not None, f"{path} was written and cannot be read"
        else:
            bar.update(len(self.images) * task.adversary.attack.passes)
        journal.clear()
        return adversarial

    def _craft(self, task: AttackTask, pixels: NDArray[np.uint8], journal: Journal, bar: tqdm[Any]) -> AdversarialSet:
        """Run the attack, or resume it."""
        attack, choice, network = task.adversary.attack, task.adversary.crafted_for, task.subject.network
        victim = Victim(network, choice)
        stages, mover = self._stages(task, victim), self._mover(task, victim)
        images = _as_tensor(pixels)
        labels = torch.from_numpy(np.array(self.images.labels))
        before, weight = bar.n, attack.passes / len(stages)

        def report(stage: str, n: int) -> None:
            bar.set_description(f"{task.title}: {stage}")
            bar.update(n * weight)

        crafted = craft(
            victim,
            stages,
            images,
            labels,
            norm=attack.norm,
            eps=attack.eps,
            batch_size=attack.batch_size,
            seed=self.seed,
            device=self.device,
            mover=mover,
            journal=journal,
            progress=report,
        )
        bar.update(len(images) * attack.passes - (bar.n - before))
        self._attack_passes = victim.passes
        return encode(
            crafted,
            pixels,
            labels,
            victim=victim,
            stages=tuple(stage.name for stage in (*stages, *([mover] if mover else []))),
            batch_size=attack.batch_size,
            device=self.device,
        )

    def _stages(self, task: AttackTask, victim: Victim) -> list[Stage]:
        return list_stages(
            task.adversary.attack,
            victim,
            num_classes=task.subject.network.num_classes,
            seed=self.seed,
            leave_early=not task.adversary.shown_elsewhere,
        )

    def _mover(self, task: AttackTask, victim: Victim) -> Stage | None:
        """Build the mover for images that the stages leave clean, if they are shown at another λ."""
        attack = task.adversary.mover
        if attack is None:
            return None
        (stage,) = list_stages(attack, victim, num_classes=task.subject.network.num_classes, seed=self.seed)
        return dataclasses.replace(stage, name="mover")

    def _evaluate(
        self, subject: Subject, adversarial: AdversarialSet, choices: Sequence[WhichLam], batch_size: int
    ) -> list[pd.DataFrame]:
        images = PerturbedImages(adversarial, self.images.labels)
        indices = self.images.indices
        return evaluate(subject.network, images, indices, choices, device=self.device, batch_size=batch_size)

    def _verify(self, task: AttackTask, adversarial: AdversarialSet, frame: pd.DataFrame) -> pd.DataFrame:
        """Return ``frame`` with the columns that trust marks need, measured again on the stored images.

        Columns: ``attacked`` (was right on the clean image), ``broken_by`` (name of the stage, empty for none),
        ``stages`` (names of all, with commas), ``dropped`` (an attempt left the budget that it was given), ``distance``
        ‖x′ − x‖ in the attack's norm, ``in_range`` (all values in [0, 1]), ``predicted_again`` (at another batch size),
        ``attack_passes`` and ``probe_passes`` (of all images together; 0 for an attack that was read back), and the
        fields of :class:`~robustness.measure.probes.ModelProbes` and :class:`~robustness.measure.probes.AttackProbes`.
        """
        first_size = min(self.batch_size, len(adversarial))
        other_size = max(first_size // 3, 1) if first_size > 1 else 2
        (again,) = self._evaluate(task.subject, adversarial, [task.adversary.crafted_for], other_size)
        stored = to_images(torch.from_numpy(adversarial[:])).contiguous()
        clean = _as_tensor(np.asarray(self.images.pixels))
        names = np.array([*adversarial.stages, ""])
        return frame.assign(
            attacked=adversarial.attacked,
            broken_by=names[adversarial.broken_by],
            stages=",".join(adversarial.stages),
            dropped=adversarial.dropped,
            distance=distance(stored, clean, task.adversary.attack.norm).numpy(),
            in_range=((stored >= 0) & (stored <= 1)).flatten(1).all(1).numpy(),
            predicted_again=again["predicted"].to_numpy(),
            **self._probe(task, adversarial, clean, stored),
        )

    def _probe(self, task: AttackTask, adversarial: AdversarialSet, clean: Tensor, stored: Tensor) -> dict[str, Any]:
        """Try the probes of an attack; those that do not depend on it, only once per model and λ."""
        subject, choice = task.subject, task.adversary.crafted_for
        labels = torch.from_numpy(np.array(self.images.labels))
        victim = Victim(subject.network, choice)
        limit = task.adversary.probe_images
        prober = Prober(
            victim=victim,
            images=clean,
            labels=labels,
            num_classes=subject.network.num_classes,
            limit=limit,
            seed=self.seed,
            device=self.device,
            donors=self._find_donors(subject, clean, labels) if limit else None,
            reset=subject.reset,
        )
        if (subject.name, choice) not in self._model_probes:
            self._model_probes[subject.name, choice] = prober.probe_model()
        about_model = self._model_probes[subject.name, choice]
        own = prober.probe_attack(
            task.adversary.attack,
            adversarial.stages,
            torch.from_numpy(adversarial.attacked & (adversarial.broken_by < 0)),
            torch.from_numpy(adversarial.attacked),
            stored,
            random=about_model.is_random,
        )
        passes = {"attack_passes": self._attack_passes, "probe_passes": victim.passes}
        return vars(about_model) | vars(own) | passes

    def _find_donors(self, subject: Subject, images: Tensor, labels: Tensor) -> Jury | None:
        """Find the donors, the same for all models that are not donors themselves."""
        own = subject.fingerprint if isinstance(subject.network, Network) else ""
        if own not in self._donors:
            self._donors[own] = find_donors(
                images,
                labels,
                num_classes=subject.network.num_classes,
                besides=own,
                device=self.device,
            )
        return self._donors[own]


def check_attacks(attacks: Sequence[Attack], subjects: Sequence[Subject], *, probed: bool) -> None:
    """Set up every attack on every model, so that an impossible attack fails before the work starts.

    ``probed``: trust probes, which are attacks of both libraries, also run.

    Raises:
        PrerequisiteError: the library of an attack or of the probes is not installed.
        InputError: there is no such attack, or it does not fit the model.
    """
    for attack in attacks:
        if probed:
            probe_libraries(attack)
        for subject in subjects:
            network = subject.network
            if not getattr(network, "differentiable", True) and attack.needs_gradients:
                raise InputError(
                    f"{subject.name} has no gradients, which {attack.title} needs: measure it under corruptions, or "
                    "under Square, name = 'Square'"
                )
            list_stages(attack, Victim(network, subject.lam), num_classes=network.num_classes, seed=0)


def _as_tensor(pixels: NDArray[np.uint8]) -> Tensor:
    return to_images(torch.from_numpy(np.array(pixels))).contiguous()
