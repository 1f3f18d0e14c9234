"""The pictures of frosted glass that the corruption frost lays over an image, from the package imagecorruptions."""

from __future__ import annotations

import importlib.util
import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int, UInt8
from PIL import Image
from torch import Tensor
from torch.nn import functional

from data_prep.corruptions.levels import Pixels
from data_prep.corruptions.random import Streams
from data_prep.errors import PrerequisiteError

PACKAGE = "imagecorruptions"
FILES = ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg")
MARGIN = 1.1
"""Smallest size of a picture relative to the image, so that there is room to crop."""


@dataclass(frozen=True)
class Pictures:
    """The scaled pictures to crop from.

    canvas: uint8 (5, Y, X, 3), each picture in the top left corner. room: int64 (5, 2), its (height, width).
    """

    canvas: UInt8[Tensor, "5 y x 3"]
    room: Int[Tensor, "5 2"]

    def crop(self, height: int, width: int, streams: Streams) -> Pixels:
        """Crop a random part of a random picture for each image."""
        which = streams.integers(low=0, high=len(self.canvas))
        slack = self.room[which] - torch.tensor([height, width], device=which.device)
        top, left = streams.integers(2, low=0, high=slack).unbind(1)
        windows = self.canvas.unfold(1, height, 1).unfold(2, width, 1)
        return windows[which, top, left].permute(0, 2, 3, 1)


@lru_cache(maxsize=8)
def frost_pictures(height: int, width: int, scale: float, device: torch.device) -> Pictures:
    """Load the pictures and scale them by ``scale``, or by more if they would be too small for the image.

    Factors below 1 interpolate linearly between the nearest pixels, larger factors cubically (a = −¾). Results are
    rounded to 8 bits.
    Raises: PrerequisiteError if the package with the pictures is not installed.
    """
    scaled = [_scale(_load(name), height, width, scale) for name in FILES]
    room = torch.tensor([picture.shape[:2] for picture in scaled])
    canvas = torch.zeros(len(scaled), *room.amax(dim=0).tolist(), 3, dtype=torch.uint8)
    for place, picture in zip(canvas, scaled, strict=True):
        place[: picture.shape[0], : picture.shape[1]] = picture
    return Pictures(canvas=canvas.to(device), room=room.to(device))


def _load(name: str) -> UInt8[Tensor, "y x 3"]:
    """Read one picture without importing the package, which fails with a current NumPy."""
    spec = importlib.util.find_spec(PACKAGE)
    folders = spec.submodule_search_locations if spec is not None else None
    path = Path(folders[0]) / "frost" / name if folders else None
    if path is None or not path.is_file():
        raise PrerequisiteError(
            f"frost needs the pictures in the package {PACKAGE}, which are not there; pip install --no-deps {PACKAGE}, "
            "or leave frost out, --corruptions standard,-frost"
        )
    with Image.open(path) as picture:
        return torch.from_numpy(np.array(picture.convert("RGB")))


def _scale(picture: UInt8[Tensor, "y x 3"], height: int, width: int, scale: float) -> UInt8[Tensor, "h w 3"]:
    factor = max(scale, MARGIN * max(height / picture.shape[0], width / picture.shape[1]))
    values = picture.permute(2, 0, 1)[None].to(torch.float32)
    if factor < 1:
        values = functional.interpolate(values, scale_factor=factor, mode="bilinear", recompute_scale_factor=False)
    else:
        size = [math.ceil(side * factor) for side in picture.shape[:2]]
        values = functional.interpolate(values, size=size, mode="bicubic")
    return values.round_().clamp_(0, 255).to(torch.uint8)[0].permute(1, 2, 0)
