"""Published perturbation sequences: CIFAR-10-P as arrays, ImageNet-P as videos.

CIFAR-10-P: ``<perturbation>.npy``, uint8 (10000, frames, 32, 32, 3), in the order of the clean test set. ImageNet-P:
``<perturbation>/<wnid>/<file>.mp4``, 224 × 224. The second and third difficulty of a noise are called ``<name>_2`` and
``<name>_3``; the difficulties of other perturbations use the same files and differ in how frames are compared.

Source: Hendrycks & Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations",
ICLR 2019, and the scripts in their repository.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_prep.arrays import map_array
from data_prep.errors import InputError, PrerequisiteError
from data_prep.files import digest_of, is_hidden
from data_prep.imageset import ImageSet
from data_prep.pixel_rows import ChosenRows, FileRows, name_files

FOLDERS_P = {"cifar10p": "CIFAR-10-P", "cifar100p": "CIFAR-100-P", "imagenetp": "ImageNet-P"}
"""The folder that each archive unpacks to."""
SOURCES_P = {
    "cifar10p": "https://github.com/hendrycks/robustness",
    "cifar100p": "https://github.com/hendrycks/robustness",
    "imagenetp": "https://zenodo.org/record/3565846",
}
"""The address of each archive or of its generator."""


@dataclass(frozen=True)
class CifarP:
    """An unpacked CIFAR-10-P or CIFAR-100-P."""

    folder: Path
    _hashes: dict[str, str] = field(init=False, repr=False, compare=False, default_factory=dict)

    def fingerprint(self, name: str, difficulty: int) -> str:
        """Compute the SHA-256 of the file of a perturbation. Raises: as ``match``."""
        path = self._path(name, difficulty)
        if path.name not in self._hashes:
            self._hashes[path.name] = digest_of(path, "sha256")
        return self._hashes[path.name]

    def match(self, images: ImageSet, name: str, difficulty: int) -> ChosenRows:
        """Select the sequences of the images by their indices: uint8 (N, frames, H, W, 3).

        Raises: InputError, by name, for a file that is missing, has another layout, or does not fit the images in
            number or size.
        """
        path = self._path(name, difficulty)
        frames = map_array(path)
        expected = images.pixels.shape[1:]
        if frames.dtype != np.uint8 or frames.ndim != 5 or frames.shape[2:] != expected or frames.shape[1] < 2:
            raise InputError(
                f"expected uint8 (N, frames, {', '.join(map(str, expected))}) in {path}, got {frames.dtype} "
                f"{frames.shape}; get it again"
            )
        if images.indices[-1] >= len(frames):
            raise InputError(
                f"expected a sequence for every image of {images.title} in {path}, got {len(frames)}; get it again"
            )
        return ChosenRows(frames, images.indices)

    def _path(self, name: str, difficulty: int) -> Path:
        path = self.folder / f"{_name_level(name, difficulty)}.npy"
        if not path.is_file():
            raise InputError(f"expected a file {path.name} in {self.folder}, got none; get the archive again")
        return path


@dataclass(frozen=True)
class ImageNetP:
    """An unpacked ImageNet-P. Videos are listed by name and opened only when their frames are read."""

    folder: Path

    def fingerprint(self, name: str, difficulty: int) -> str:
        """Compute the SHA-256 of the names and sizes of the videos. Raises: InputError for a missing folder."""
        videos = sorted(path for path in self._level(name, difficulty).glob("*/*.mp4") if not is_hidden(path.name))
        found = [(path.parent.name, path.name, path.stat().st_size) for path in videos]
        return hashlib.sha256(repr(found).encode()).hexdigest()

    def match(self, images: ImageSet, name: str, difficulty: int) -> VideoRows:
        """Find the video of every image by its WNID and name; frames are read on demand, uint8 (N, frames, H, W, 3).

        Raises: InputError for images without file names and, by name, for a folder or video that is missing;
            PrerequisiteError without OpenCV, which reads videos.
        """
        names = tuple(str(Path(file).with_suffix(".mp4")) for file in name_files(images, self.folder))
        level = self._level(name, difficulty)
        if missing := [video for video in names if not (level / video).is_file()]:
            raise InputError(
                f"expected a video {missing[0]} in {level} for every clean image, got none for {len(missing):,} of "
                f"{len(names):,}; unpack the archive again, or import the images that it was made from"
            )
        try:
            import cv2  # noqa: F401
        except ImportError as error:
            raise PrerequisiteError(
                f"{self.folder} holds videos, which need the package opencv-python-headless; pip install "
                "opencv-python-headless"
            ) from error
        height, width = images.pixels.shape[1:3]
        return VideoRows(level, names, (height, width))

    def _level(self, name: str, difficulty: int) -> Path:
        level = self.folder / _name_level(name, difficulty)
        if not level.is_dir():
            raise InputError(f"expected a folder {level.name} in {self.folder}, got none; unpack its archive")
        return level


ArchiveP = CifarP | ImageNetP
"""Published perturbation sequences."""


class VideoRows(FileRows):
    """Videos with equal numbers of frames, decoded by several threads; ``image_size`` is the size of every frame."""

    def __getitem__(self, rows: slice) -> NDArray[np.uint8]:
        """Decode the frames of a slice: uint8 (n, frames, H, W, 3), RGB.

        Raises: InputError, by name, for a damaged video and for a video with another size or number of frames.
        """
        with ThreadPoolExecutor() as pool:
            videos = list(pool.map(self._decode, self.names[rows]))
        for name, video in zip(self.names[rows], videos, strict=True):
            if video.shape != videos[0].shape:
                got = f"{len(video)} and {len(videos[0])} frames in {name} and {self.names[rows][0]}"
                raise InputError(f"expected as many frames in every video of {self.folder}, got {got}; unpack it again")
        return np.stack(videos)

    def _decode(self, name: str) -> NDArray[np.uint8]:
        import cv2

        capture = cv2.VideoCapture(str(self.folder / name))
        frames = []
        while (found := capture.read())[0]:
            frames.append(cv2.cvtColor(found[1], cv2.COLOR_BGR2RGB))
        capture.release()
        if len(frames) < 2 or frames[0].shape[:2] != self.image_size:
            got = f"{len(frames)} frames" + (f" of {frames[0].shape[1]} x {frames[0].shape[0]}" if frames else "")
            height, width = self.image_size
            raise InputError(f"expected frames of {width} x {height} in {self.folder / name}, got {got}; get it again")
        return np.stack(frames).astype(np.uint8)


def find_archive_p(name: str, data_dir: str | Path) -> ArchiveP | None:
    """Find the unpacked folder of a key of ``FOLDERS_P`` in ``data_dir``; None if there is none."""
    folder = Path(data_dir) / FOLDERS_P[name]
    if not folder.is_dir():
        return None
    return CifarP(folder) if name.startswith("cifar") else ImageNetP(folder)


def _name_level(name: str, difficulty: int) -> str:
    return f"{name}_{difficulty}" if difficulty > 1 and name.endswith("noise") else name
