"""A few perturbed images and their reconstructions A z at several λs, kept for the figures."""

from __future__ import annotations

import json

import numpy as np
import torch

from data_prep import ImageSet
from robustness.measure.perturbations import Perturbation, PerturbedImages
from robustness.measure.subjects import Subject
from sdnet_core.augment import to_images

N_IMAGES = 3
"""Images kept of every perturbation."""


class SampleCollector:
    """Collects, for the first model with a λ, perturbed images and what its code keeps of them at every λ."""

    def __init__(self, subjects: list[Subject], grid: tuple[float, ...], device: torch.device) -> None:
        self.subject = next((s for s in subjects if s.network.has_lam), None)
        self.lambdas = self.subject.lambdas(grid) if self.subject else ()
        self.device = device
        self.titles: list[dict[str, str | int]] = []
        self.perturbed: list[np.ndarray] = []
        self.reconstructed: list[np.ndarray] = []

    @torch.inference_mode()
    def add(self, perturbation: Perturbation, images: PerturbedImages) -> None:
        """Keep the first images of a perturbation and their reconstruction at every λ."""
        if self.subject is None:
            return
        pixels = np.ascontiguousarray(images.pixels[:N_IMAGES])
        x = to_images(torch.from_numpy(pixels).to(self.device))
        network = self.subject.network
        shown = [network.reconstruct(x, network.encode(x, lam)).clamp(0, 1) for lam in self.lambdas]
        stacked = torch.stack(shown).permute(0, 1, 3, 4, 2).mul(255).round().to(torch.uint8).cpu().numpy()
        self.titles.append({"perturbation": perturbation.name, "severity": perturbation.severity})
        self.perturbed.append(pixels)
        self.reconstructed.append(stacked)

    def arrays(self, images: ImageSet) -> dict[str, np.ndarray]:
        """Everything as arrays for ``samples.npz``; empty if no model has a λ.

        perturbed uint8 (P, N, H, W, 3), reconstructed uint8 (P, L, N, H, W, 3), lambdas (L,), titles (JSON), model.
        """
        if self.subject is None or not self.titles:
            return {}
        return {
            "titles": np.array(json.dumps(self.titles)),
            "model": np.array(self.subject.name),
            "lambdas": np.array(self.lambdas, dtype=np.float64),
            "perturbed": np.stack(self.perturbed),
            "reconstructed": np.stack(self.reconstructed),
            "labels": images.labels[:N_IMAGES],
        }
