"""A few images under every corruption and under an attack, and their codes, for figures and report."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data_prep import ImageSet
from data_prep.errors import InputError
from robustness.grids import thin_out
from robustness.measure.adversarial import AdversarialSet
from robustness.measure.perturbations import Archive, Perturbation, perturb
from robustness.measure.subjects import Subject
from robustness.measure.tasks import AttackTask
from robustness.measure.victims import Victim
from sdnet_core.augment import to_images

_IMAGES = 6
_MAPS = 8
_ATTACKED_IMAGES = 4
_MOST_LAMBDAS = 20
"""Largest number of λs with pictures, to bound the memory: at one λ the pictures of ImageNet-C take 18 MB."""


@torch.inference_mode()
def collect_samples(
    subject: Subject | None,
    lambdas: tuple[float | None, ...],
    perturbations: list[Perturbation],
    images: ImageSet,
    *,
    seed: int,
    archive: Archive | None,
    device: torch.device,
) -> dict[str, np.ndarray]:
    """Perturb images of K classes by every corruption at its highest severity; reconstruct them at some λs.

    Args:
        subject: a model with a λ; None for the perturbed images alone.
        lambdas: the λ grid. At most 20 λs are shown, evenly spread, including the training λ if the grid has it.
        perturbations: the perturbations; for each name the highest severity is shown.
        images: the clean images; the first image of each of at most 6 classes is taken.
        seed: seed of the corruptions, so that the images match the measured ones.
        archive: the official -C archive, or None.
        device: device of the model.

    Returns:
        For ``samples.npz``: perturbed uint8 (P, K, H, W, 3), reconstructed uint8 (P, K, L, H, W, 3), lambdas (L,),
        titles (JSON list of name and severity), classes (JSON list), the model's name, its dictionary ``atoms`` float32
        (D, k, k, 3), and ``codes`` float16 (L, M, h, w): the maps of the M atoms that respond most to the first image,
        at these λs; ``code_atoms`` (M,) are their indices. Without a model, the first two with L = 0, and the texts.
    """
    hardest = {p.name: p for p in sorted(perturbations, key=lambda p: p.severity)}
    shown = [hardest[name] for name in dict.fromkeys(p.name for p in perturbations)]
    grid = [lam for lam in lambdas if lam is not None]
    kept = thin_out(grid, _MOST_LAMBDAS, {lam for lam in grid if subject is not None and lam == subject.lam})
    some, network = _take_classes(images), None if subject is None else subject.network
    titles, perturbed, reconstructed = [], [], []
    with tempfile.TemporaryDirectory() as scratch:
        for p in shown:
            try:
                rows = perturb(p, some, seed=seed, archive=archive, device=device, scratch=Path(scratch)).pixels
                pixels = np.array(rows[: len(some)])
            except InputError:  # a damaged file of the archive: its cells have failed with this reason
                continue
            titles.append([p.name, p.severity])
            perturbed.append(pixels)
            if network is not None:
                x = to_images(torch.from_numpy(pixels).to(device))
                rebuilt = torch.stack([network.reconstruct(x, network.encode(x, lam)) for lam in kept], dim=1)
                reconstructed.append(_to_pixels(rebuilt))
    told = {
        "titles": np.array(json.dumps(titles)),
        "classes": np.array(json.dumps([images.classes[label] for label in some.labels])),
        "model": np.array(subject.name if subject is not None else ""),
        "lambdas": np.array(kept, dtype=np.float64),
        "perturbed": np.stack(perturbed),
    }
    if network is None:
        shape = np.shape(perturbed)
        return {**told, "reconstructed": np.zeros((*shape[:2], 0, *shape[2:]), np.uint8)}
    first = to_images(torch.from_numpy(np.array(some.pixels[:1])).to(device))
    codes = torch.cat([network.encode(first, lam) for lam in kept])
    strongest = codes[0].flatten(1).sum(1).topk(min(_MAPS, codes.shape[1])).indices
    return {
        **told,
        "reconstructed": np.stack(reconstructed),
        "atoms": network.get_parameter("input_layer.weight").permute(0, 2, 3, 1).cpu().numpy(),
        "codes": codes[:, strongest].half().cpu().numpy(),
        "code_atoms": strongest.cpu().numpy(),
    }


@torch.inference_mode()
def collect_attack_samples(
    task: AttackTask, lambdas: Sequence[float], file: Path, device: torch.device
) -> dict[str, np.ndarray] | None:
    """Collect images of a few classes that an attack turned, and its effect on their codes, for figures.

    Args:
        task: the attack.
        lambdas: λs of the codes.
        file: file of the adversarial images.
        device: device of the model.

    Returns:
        ``clean`` uint8 and ``adversarial`` float32 (K, H, W, 3), ``code_change`` float32 (K, L, H', W'), mean
        |z(x′) − z(x)| over the atoms, ``lambdas`` (L,), ``answers`` (JSON: label and prediction of each), and the
        columns ``model, perturbation, norm, eps, lam`` of its cell. None if no image changed its class.
    """
    pixels, labels, classes = np.asarray(task.images.pixels), task.images.labels, task.images.classes
    adversarial = AdversarialSet.read(file, pixels)
    if adversarial is None or not (adversarial.broken_by >= 0).any():
        return None
    turned = np.flatnonzero(adversarial.broken_by >= 0)
    _, first_of_class = np.unique(labels[turned], return_index=True)
    chosen = turned[np.sort(first_of_class)][:_ATTACKED_IMAGES]
    network, adversary = task.subject.network, task.perturbation
    clean, moved = pixels[chosen], np.concatenate([adversarial[int(i) : int(i) + 1] for i in chosen])
    x, x_moved = (to_images(torch.from_numpy(it)).contiguous().to(device) for it in (clean, moved))
    changes = [(network.encode(x_moved, lam) - network.encode(x, lam)).abs().mean(1) for lam in lambdas]
    predicted = Victim(network, adversary.crafted_for)(x_moved).argmax(1).tolist()
    names = [[classes[labels[i]], classes[p]] for i, p in zip(chosen, predicted, strict=True)]
    return {
        "clean": clean,
        "adversarial": moved,
        "code_change": torch.stack(changes, 1).cpu().numpy(),
        "lambdas": np.array(lambdas),
        "model": np.array(task.subject.name),
        "perturbation": np.array(adversary.attack.label),
        "norm": np.array(adversary.attack.norm),
        "eps": np.array(adversary.attack.eps),
        "lam": np.array(adversary.crafted_for.value),
        "answers": np.array(json.dumps(names)),
    }


def _take_classes(images: ImageSet) -> ImageSet:
    """Take the first image of each class, for at most 6 classes."""
    _, firsts = np.unique(images.labels, return_index=True)
    return images.take(np.sort(firsts[:_IMAGES]))


def _to_pixels(images: Tensor) -> np.ndarray:
    """Convert images (..., 3, H, W) in [0, 1], clipped, to uint8 (..., H, W, 3)."""
    pixels: np.ndarray = images.clamp(0, 1).movedim(-3, -1).mul(255).round().to(torch.uint8).cpu().numpy()
    return pixels
