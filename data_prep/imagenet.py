"""The classes of ImageNet (ILSVRC 2012): their WordNet identifiers, in the order of the class indices."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

IMPORT_OPTIONS = ("--resize", "256", "--crop", "224")
"""The test-time preparation of ImageNet, for ``python -m data_prep import``."""


@cache
def imagenet_wnids() -> tuple[str, ...]:
    """Read the 1000 WNIDs in sorted order, ``"n01440764"`` (tench) first, as in torchvision's and timm's models.

    Source: Russakovsky et al., "ImageNet Large Scale Visual Recognition Challenge", IJCV 2015.
    """
    return tuple((files("data_prep") / "imagenet_wnids.txt").read_text(encoding="ascii").split())
