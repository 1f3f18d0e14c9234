"""The classes of a model that count on a data set that lacks some of them or merges several into one."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

from data_prep.class_lists import imagenet_wnids
from data_prep.errors import InputError
from data_prep.imageset import ImageSet, draw_rows


@dataclass(frozen=True, eq=False)
class ClassSubset:
    """The classes of a model that count.

    representative: int64 (C,), for every class of the model the class that represents it: itself, another class if the
        data set merges the two, or −1 if the class does not count.

    The prediction is the largest logit among the classes that count, and is correct if its representative is the label.
    Raises: InputError for numbers that are not classes, or that have another representative themselves.
    """

    representative: NDArray[np.int64]

    def __post_init__(self) -> None:
        counted = self.representative[self.representative >= 0]
        fits = self.representative.dtype == np.int64 and self.representative.ndim == 1 and len(counted)
        if not fits or counted.max() >= len(self.representative) or (self.representative[counted] != counted).any():
            raise InputError(
                f"expected classes that represent themselves, got {self.representative}; name them by number"
            )

    @cached_property
    def mask(self) -> NDArray[np.bool_]:
        """The classes that count: bool (C,)."""
        return self.representative >= 0

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of ``representative``."""
        return hashlib.sha256(np.ascontiguousarray(self.representative, dtype="<i8").data).hexdigest()

    @property
    def is_whole(self) -> bool:
        """True if every class counts and represents itself."""
        return bool((self.representative == np.arange(len(self.representative))).all())

    def __len__(self) -> int:
        """Return the number of classes that the data set distinguishes."""
        return len(np.unique(self.representative[self.mask]))

    def restrict(self, images: ImageSet, n: int | None = None, seed: int = 0) -> ImageSet:
        """Keep the images whose classes count, labelled by their representatives, such as clean images to compare with.

        n, seed: draw a random subset of these images, as in ``ImageSet.subset``.
        Raises: InputError for images with classes other than the model's, and if no image is left.
        """
        if len(images.classes) != len(self.representative):
            expected, got = len(self.representative), len(images.classes)
            raise InputError(f"expected images of {expected} classes, got {images.title} with {got}; choose others")
        rows = np.flatnonzero(self.mask[images.labels])
        if not len(rows):
            raise InputError(
                f"expected images of the {len(self)} classes in {images.title}, got none; take more of them"
            )
        if n is not None:
            rows = rows[draw_rows(len(rows), n, seed)]
        kept = images if len(rows) == len(images) else images.take(rows)
        return kept if self.is_whole else replace(kept, labels=self.representative[kept.labels])


def whole_subset(count: int) -> ClassSubset:
    """Make the subset in which all ``count`` classes count."""
    return ClassSubset(np.arange(count))


def group_subset(groups: Mapping[str, Sequence[str]], classes: Sequence[str]) -> ClassSubset:
    """Make the subset of the classes in some groups, each of which is one class of the data set.

    Raises: InputError for a name that is not in ``classes``, or is in two groups.
    """
    label_of = {name: label for label, name in enumerate(classes)}
    representative = np.full(len(classes), -1)
    for group, names in groups.items():
        for name in names:
            if name not in label_of or representative[label_of[name]] >= 0:
                raise InputError(
                    f"expected every class of {group} once among {len(classes)} classes, got {name}; give the classes "
                    "of ImageNet"
                )
            representative[label_of[name]] = min(label_of[other] for other in names if other in label_of)
    return ClassSubset(representative)


@cache
def read_wnids(name: str) -> tuple[str, ...]:
    """Read the WNIDs of ``"imagenet_a"`` or ``"imagenet_r"``. Source: class_subsets/README.md."""
    return tuple(_read(name).split())


@cache
def objectnet_groups() -> dict[str, tuple[str, ...]]:
    """Read the WNIDs of each of the 113 folders of ObjectNet with classes in ImageNet. Source: as ``read_wnids``."""
    rows = (line.split() for line in _read("objectnet").splitlines())
    return {folder: tuple(wnids) for folder, *wnids in rows}


def imagenet_subset(name: str) -> ClassSubset:
    """Make the subset of ImageNet's classes that are in ``"imagenet_a"``, ``"imagenet_r"`` or ``"objectnet"``."""
    groups = objectnet_groups() if name == "objectnet" else {wnid: (wnid,) for wnid in read_wnids(name)}
    return group_subset(groups, imagenet_wnids())


def _read(name: str) -> str:
    return (files("data_prep") / "class_subsets" / f"{name}.txt").read_text(encoding="ascii")
