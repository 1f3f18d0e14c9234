"""The perturbed images of one cell: made once, seen alike by every model and every λ."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from data_prep import ImageSet, corrupt
from data_prep.archives_c import ArchiveC, find_archive_c
from data_prep.archives_p import FOLDERS_P, SOURCES_P, ArchiveP, find_archive_p
from data_prep.corruptions import parameters, sequences
from data_prep.disk import allocate_array
from data_prep.errors import PrerequisiteError
from data_prep.pixel_rows import PixelRows
from data_prep.sources import how_to_get
from robustness.suite import Suite

_IN_MEMORY_BYTES = 8 << 20
_BATCH, _FEW = 256, 32
Archive = ArchiveC | ArchiveP


@dataclass(frozen=True, kw_only=True)
class Perturbation:
    """What is done to the images.

    Args:
        name: ``clean`` or a corruption.
        severity: 0 for clean, otherwise the level, from 1.
        source: ``official`` (read from a -C archive), ``generated`` (the archive's parameters, made here) or
            ``synthetic`` (noise levels of this project's own grid).
        profile: parameter table of a generated corruption; empty for clean and official images.
        archive: fingerprint of official images, which tells copies of an archive apart; empty for all others.
    """

    name: str
    severity: int
    source: str
    profile: str = ""
    archive: str = ""
    frames: ClassVar[int] = 1
    """That a model is asked for, of every image, or about as many."""

    @property
    def is_clean(self) -> bool:
        """Whether the images are left as they are."""
        return self.severity == 0

    def identity(self) -> dict[str, Any]:
        """Everything that decides the perturbed images, given the clean ones and the seed; JSON values."""
        fields = dataclasses.asdict(self)
        if not self.archive:
            del fields["archive"]  # newer than the first outcomes, whose keys stay the same
        if self.profile:
            fields["parameters"] = parameters(self.name, self.severity, self.profile)
        return fields


@dataclass(frozen=True, kw_only=True)
class SequencePerturbation(Perturbation):
    """A perturbation sequence, of ``severity`` for its difficulty, which makes several frames of every image."""

    frames: ClassVar[int] = sequences.FRAMES

    @property
    def is_noise(self) -> bool:
        """Whether every frame is compared with the first."""
        return self.name.endswith("noise")

    def identity(self) -> dict[str, Any]:
        """As of other perturbations."""
        return {**super().identity(), "sequence": True}


@dataclass(frozen=True)
class PerturbedImages:
    """Pixels (N, H, W, 3), of sequences (N, frames, H, W, 3), and labels int64 (N,) after a perturbation.

    They are in the order of the clean images, uint8, or float32 in [0, 1]. Take slices of them: they may lie in a file,
    or be decoded when asked for.
    """

    pixels: PixelRows
    labels: NDArray[np.int64]


def find_official(suite: Suite, images: ImageSet, data_dir: Path) -> Archive | None:
    """The official archive of the suite in ``data_dir``; None if it names none or it is not there.

    Raises:
        InputError: a file of it is missing or damaged, or it does not belong to the clean images: one table never
            mixes sources.
        PrerequisiteError: it is not there and its corruptions cannot be generated.
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
    """The official -P archive of the suite; raises as :func:`find_official`."""
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
    """Corrupt one image by everything that will be generated, so that what is missing shows before the work.

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
) -> PerturbedImages:
    """Apply ``perturbation`` to ``images`` on ``device``, in batches; past 8 MiB the result lies in a file.

    An image's result depends on (seed, corruption, severity, its index, its pixels) only.

    Models wait for their images: on the CPU a thread that makes the next ones meanwhile has nothing to win, as both
    want the same cores. Making them took 5 % of the processor time of a run of one small SDNet-18 at one λ (32×32), and
    that share falls with every further model and λ. On a GPU nothing overlaps, either, and nothing was measured.

    Args:
        perturbation: what to do.
        images: the clean images.
        seed: of the corruption's randomness.
        archive: the official archive, for official images.
        device: where to compute.
        scratch: folder for a result too large for memory.
        batch_size: images that are corrupted at a time, 256 at most.

    Raises:
        InputError: the archive is damaged.
        PrerequisiteError: the disk of ``scratch`` has too little space.
    """
    if perturbation.is_clean:
        return PerturbedImages(images.pixels, images.labels)
    if perturbation.source == "official":
        assert archive is not None
        return PerturbedImages(archive.match(images, perturbation.name, perturbation.severity), images.labels)
    if isinstance(perturbation, SequencePerturbation):
        return PerturbedImages(_make_frames(perturbation, images, seed, scratch), images.labels)
    result = _make_room(images.pixels.shape, scratch)
    step = min(batch_size, _BATCH)
    for start in range(0, len(images), step):
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
    """An array of pixels, past 8 MiB in a file."""
    if np.prod(shape, dtype=np.int64) <= _IN_MEMORY_BYTES:
        return np.empty(shape, np.uint8)
    return allocate_array(scratch / "perturbed.npy", np.uint8, shape, "--out (or TMPDIR)")


def _make_frames(perturbation: SequencePerturbation, images: ImageSet, seed: int, scratch: Path) -> NDArray[np.uint8]:
    """The sequence of every image, (N, frames, H, W, 3)."""
    difficulty = perturbation.severity if perturbation.name in sequences.NOISES else 1
    result: NDArray[np.uint8] | None = None
    for start in range(0, len(images), _FEW):
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
