"""A model with a knob of its own: details smaller than λ are taken off the image before it is classified.

python -m robustness.run --suite demo --models examples.thresholding:build,resnet18-shapes --lambdas 0,0.05,0.1,0.2
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from sdnet_core import load_model


class Thresholding(nn.Module):
    """f(blur(x) + soft(x − blur(x), λ)): soft-thresholded details, then any classifier f."""

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier
        self.lam = 0.0  # what the classifier was trained with

    def forward(self, images: Tensor, lam: float | Tensor) -> Tensor:
        """Logits of images (N, 3, H, W) in [0, 1]; ``lam`` is a number, or one value per image."""
        threshold = lam.view(-1, 1, 1, 1) if isinstance(lam, Tensor) else lam
        blurred = functional.avg_pool2d(functional.pad(images, (1, 1, 1, 1), mode="reflect"), 3, stride=1)
        detail = images - blurred
        kept = torch.sign(detail) * functional.relu(detail.abs() - threshold)
        return self.classifier(blurred + kept)  # type: ignore[no-any-return]


def build() -> nn.Module:
    """Build the model that ``--models examples.thresholding:build`` loads."""
    return Thresholding(load_model("resnet18-shapes"))
