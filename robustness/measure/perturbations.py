"""The perturbed images of one cell: made once, and the same for every model at every λ."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from data_prep import ImageSet, corrupt
from data_prep.archives_c import ArchiveC, find_archive_c
from data_prep.archives_p import FOLDERS_P, SOURCES_P, ArchiveP, find_archive_p
from data_prep.arrays import allocate_array
from data_prep.corruptions import parameters, sequences
from data_prep.errors import PrerequisiteError
from data_prep.pixel_rows import PixelRows
from data_prep.sources import how_to_get
from robustness.suite import Suite
from robustness.which_lam import WhichLam

_IN_MEMORY_BYTES = 8 << 20
_BATCH, _FEW = 256, 32
Archive = ArchiveC | ArchiveP


@dataclass(frozen=True, kw_only=True)
class Perturbation:
    """A perturbation of the images: a corruption at a severity, or none.

    Args:
        name: ``clean`` or a corruption.
        severity: 0 for clean, otherwise the level, from 1.
        source: ``official`` (read from a -C archive), ``generated`` (the archive's parameters, made here) or
            ``synthetic`` (noise levels of this project's own grid).
        profile: parameter table of a generated corruption; empty for clean and official images.
        archive: fingerprint of official images, which distinguishes copies of an archive; empty for other images.
    """

    name: str
    severity: int
    source: str
    profile: str = ""
    archive: str = ""
    frames: ClassVar[int] = 1
    """Frames per image that a model evaluates, exactly or approximately."""
    crafted_for: ClassVar[None] = None
    """None, because the images are the same for all models and λs."""

    @property
    def is_clean(self) -> bool:
        """True if the images stay unchanged."""
        return self.severity == 0

    def identity(self) -> dict[str, Any]:
        """Return everything that decides the perturbed images, given the clean images and the seed, as JSON values."""
        fields = dataclasses.asdict(self)
        if not self.archive:
            del fields["archive"]  # newer than the first outcomes, whose keys must stay the same
        if self.profile:
            fields["parameters"] = parameters(self.name, self.severity, self.profile)
        return fields

    def identify_probes(self, lam: WhichLam) -> dict[str, Any]:  # noqa: ARG002
        """Return nothing: only attacks have trust probes."""
        return {}

    def to_row(self, lam: WhichLam) -> dict[str, Any]:
        """Return the columns in tables of a cell at ``lam``; clean images at a policy exist only for its attacks."""
        threat = {"threat": "adaptive"} if lam.policy else {}
        return {"source": self.source, "perturbation": self.name, "severity": self.severity, **threat}


@dataclass(frozen=True, kw_only=True)
class SequencePerturbation(Perturbation):
    """A perturbation sequence with several frames of every image; ``severity`` is its difficulty."""

    frames: ClassVar[int] = sequences.FRAMES

    @property
    def is_noise(self) -> bool:
        """True if every frame is compared with the first."""
        return self.name.endswith("noise")

    def identity(self) -> dict[str, Any]:
        """Return the identity as other perturbations do."""
        return {**super().identity(), "sequence": True}

    def to_row(self, lam: WhichLam) -> dict[str, Any]:
        """Return the columns as other perturbations do."""
        return {**super().to_row(lam), "sequence": True}


@dataclass(frozen=True)
class PerturbedImages:
    """Pixels (N, H, W, 3), for sequences (N, frames, H, W, 3), and labels int64 (N,) after a perturbation.

    They are in the order of the clean images, uint8, or float32 in [0, 1]. Take slices: the pixels may lie in a file,
    or be decoded on access.
    """

    pixels: PixelRows
    labels: NDArray[np.int64]


def find_official(suite: Suite, images: ImageSet, data_dir: Path) -> Archive | None:
    """Find the official archive of the suite in ``data_dir``; None if the suite names none or it is not there.

    Raises:
        InputError: a file of the archive is missing or damaged, or the archive does not belong to the clean images: one
            table never mixes sources.
        PrerequisiteError: the archive is missing and its corruptions cannot be generated.
    """
    if suite.sequences:
        return _find_sequences(suite, images, data_dir)
    archive = find_archive_c(suite.archive, data_dir) if suite.archive else None
    if archive is None and set(suite.corruptions) & set(suite.only_official):
        raise PrerequisiteError(
            f"expected the official files of {suite.archive} in {data_dir}, got none, and its corruptions are not "
            f"generated here; {how_to_get(suite.archive, data_dir)}"
        )
    if archive is not None:
        for corruption in suite.corruptions:
            for severity in suite.levels(corruption):
                archive.match(images, corruption, severity)
    return archive


def _find_sequences(suite: Suite, images: ImageSet, data_dir: Path) -> ArchiveP | None:
    """Find the official -P archive of the suite; raise as :func:`find_official`."""
    archive = find_archive_p(suite.archive, data_dir) if suite.archive in FOLDERS_P else None
    if archive is None and suite.archive == "imagenetp":
        raise PrerequisiteError(
            f"expected {FOLDERS_P[suite.archive]} in {data_dir}, got none, and it is not made here, as its frames were "
            f"cut out of larger pictures; unpack the archives of {SOURCES_P[suite.archive]} there"
        )
    if archive is not None:
        for name in suite.sequences:
            archive.match(images, name, suite.difficulty)
    return archive


def check_generated(suite: Suite, images: ImageSet, corruptions: Iterable[str], is_official: bool) -> None:
    """Corrupt one image with every requested corruption, so that missing files are found before the work starts.

    Raises:
        PrerequisiteError: a corruption needs pictures that are not installed.
        InputError: the images are too small for a corruption.
    """
    for name in suite.sequences if not is_official else ():
        sequences.perturb(images.pixels[:1], name, difficulty=1)
    for corruption in corruptions:
        corrupt(images.pixels[:1], corruption, severity=suite.levels(corruption)[0], profile=suite.profile)


def perturb(
    perturbation: Perturbation,
    images: ImageSet,
    *,
    seed: int,
    archive: Archive | None,
    device: torch.device,
    scratch: Path,
    batch_size: int = _BATCH,
    check: Callable[[], None] = lambda: None,
) -> PerturbedImages:
    """Apply ``perturbation`` to ``images`` on ``device``, in batches; past 8 MiB the result lies in a file.

    An image's result depends only on (seed, corruption, severity, its index, its pixels).

    Args:
        perturbation: the perturbation to apply.
        images: the clean images.
        seed: seed of the corruption.
        archive: the official archive, for official images.
        device: device to compute on.
        scratch: folder for a result too large for memory.
        batch_size: images to corrupt at a time, 256 at most.
        check: called before every batch; it raises an error to stop.

    Raises:
        InputError: the archive is damaged.
        PrerequisiteError: the disk of ``scratch`` is too small.
    """
    if perturbation.is_clean:
        return PerturbedImages(images.pixels, images.labels)
    if perturbation.source == "official":
        assert archive is not None
        return PerturbedImages(archive.match(images, perturbation.name, perturbation.severity), images.labels)
    if perturbation.frames > 1:
        return PerturbedImages(_make_frames(perturbation, images, seed, scratch, check), images.labels)
    result = _make_room(images.pixels.shape, scratch)
    step = min(batch_size, _BATCH)
    for start in range(0, len(images), step):
        check()
        batch = slice(start, start + step)
        corrupted = corrupt(
            torch.from_numpy(np.array(images.pixels[batch])).to(device),
            perturbation.name,
            severity=perturbation.severity,
            profile=perturbation.profile,
            seed=seed,
            indices=images.indices[batch],
        )
        result[batch] = corrupted.cpu().numpy()
    return PerturbedImages(result, images.labels)


def _make_room(shape: tuple[int, ...], scratch: Path) -> NDArray[np.uint8]:
    """Allocate an array of pixels, in a file if it exceeds 8 MiB."""
    if np.prod(shape, dtype=np.int64) <= _IN_MEMORY_BYTES:
        return np.empty(shape, np.uint8)
    return allocate_array(scratch / "perturbed.npy", np.uint8, shape, "--out (or TMPDIR)")


def _make_frames(
    perturbation: Perturbation, images: ImageSet, seed: int, scratch: Path, check: Callable[[], None]
) -> NDArray[np.uint8]:
    """Make the sequence of every image, (N, frames, H, W, 3)."""
    difficulty = perturbation.severity if perturbation.name in sequences.NOISES else 1
    result: NDArray[np.uint8] | None = None
    for start in range(0, len(images), _FEW):
        check()
        batch = slice(start, start + _FEW)
        indices = images.indices[batch]
        made = sequences.perturb(
            images.pixels[batch], perturbation.name, difficulty=difficulty, seed=seed, indices=indices
        )
        if result is None:
            result = _make_room((len(images), *made.shape[1:]), scratch)
        result[batch] = made
    assert result is not None
    return result
