"""One image under every corruption and its reconstructions A z at every λ, kept for the figures."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import torch

from data_prep import ImageSet
from data_prep.archives_c import ArchiveC
from robustness.measure.perturbations import Perturbation, perturb
from robustness.measure.subjects import Subject
from sdnet_core.augment import to_images


@torch.inference_mode()
def collect_samples(
    subject: Subject,
    lambdas: tuple[float | None, ...],
    perturbations: list[Perturbation],
    images: ImageSet,
    *,
    seed: int,
    archive: ArchiveC | None,
    device: torch.device,
) -> dict[str, np.ndarray]:
    """Perturb one image by everything at its hardest and reconstruct it from its code at every λ.

    Args:
        subject: a model with a λ.
        lambdas: the λs to show.
        perturbations: of each name the one of the highest severity is shown.
        images: the clean images; one of them is taken.
        seed: of the corruptions, so that the image is the one that was measured.
        archive: the official -C archive, or None.
        device: where the model is.

    Returns:
        For ``samples.npz``: perturbed uint8 (P, H, W, 3), reconstructed uint8 (P, L, H, W, 3), lambdas (L,), titles
        (JSON list of name and severity) and the model's name.
    """
    hardest = {p.name: p for p in sorted(perturbations, key=lambda p: p.severity)}
    shown = [hardest[name] for name in dict.fromkeys(p.name for p in perturbations)]
    one = images.subset(1)
    perturbed, reconstructed = [], []
    with tempfile.TemporaryDirectory() as scratch:
        for perturbation in shown:
            rows = perturb(perturbation, one, seed=seed, archive=archive, device=device, scratch=Path(scratch)).pixels
            pixels = rows[:1]
            x = to_images(torch.from_numpy(np.array(pixels)).to(device))
            network = subject.network
            rebuilt = torch.cat([network.reconstruct(x, network.encode(x, lam)) for lam in lambdas])
            rounded = rebuilt.clamp(0, 1).permute(0, 2, 3, 1).mul(255).round().to(torch.uint8)
            perturbed.append(pixels[0])
            reconstructed.append(rounded.cpu().numpy())
    return {
        "titles": np.array(json.dumps([[p.name, p.severity] for p in shown])),
        "model": np.array(subject.name),
        "lambdas": np.array(lambdas, dtype=np.float64),
        "perturbed": np.stack(perturbed),
        "reconstructed": np.stack(reconstructed),
    }
