"""Natural shifts: photographs, sketches and renditions of the classes of ImageNet and CIFAR-10 that others collected.

Each set is read in its official layout. Its labels are classes of a model of the clean set; a subset of these classes
counts, and the clean accuracy to compare with is measured on the same subset.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.arrays import map_array
from data_prep.class_lists import imagenet_wnids
from data_prep.decode import Geometry
from data_prep.errors import InputError, PrerequisiteError, check_choice, place_named
from data_prep.given_arrays import from_arrays, read_npz
from data_prep.imageset import ImageSet
from data_prep.own_pictures import read_pictures
from data_prep.planning import LARGE_CROP, LARGE_GEOMETRY, LARGE_RESIZE
from data_prep.store import read_record
from data_prep.subsets import ClassSubset, imagenet_subset, objectnet_groups, read_wnids, whole_subset

CIFAR10_CLASSES = tuple("airplane automobile bird cat deer dog frog horse ship truck".split())  # noqa: SIM905
OBJECTNET_BORDER = 2
"""Width in pixels of the border around ObjectNet's images: a red frame of one pixel and the edge of its resize."""
ALL_CLASSES = "all classes count"
SUBSET = "the largest of the logits of its {count} classes counts, as in the paper's evaluation"
OBJECTNET = (
    "the largest of the logits of the 125 ImageNet classes that its 113 objects are counts, and is right if it is one "
    "of the object's (Taori et al., NeurIPS 2020)"
)


@dataclass(frozen=True, kw_only=True)
class ShiftInfo:
    """The description of a shifted set.

    title: its name in tables. clean: the data set of the models that are measured on it. places: its possible paths in
    the data directory. count: number of measured images in the whole set. get: how to obtain it.
    protocol: how predictions are made and judged, in a sentence. source: the paper.
    """

    title: str
    clean: str
    places: tuple[str, ...]
    count: int
    get: str
    protocol: str
    source: str


SHIFTS = {
    "imagenetv2": ShiftInfo(
        title="ImageNet-V2",
        clean="imagenet",
        places=("imagenetv2-matched-frequency-format-val", "imagenetv2-matched-frequency", "imagenetv2"),
        count=10_000,
        get="unpack imagenetv2-matched-frequency.tar.gz of https://github.com/modestyachts/ImageNetV2",
        protocol=ALL_CLASSES,
        source="Recht et al., Do ImageNet Classifiers Generalize to ImageNet?, ICML 2019",
    ),
    "imageneta": ShiftInfo(
        title="ImageNet-A",
        clean="imagenet",
        places=("imagenet-a",),
        count=7_500,
        get="unpack imagenet-a.tar of https://github.com/hendrycks/natural-adv-examples",
        protocol=SUBSET.format(count=200),
        source="Hendrycks et al., Natural Adversarial Examples, CVPR 2021",
    ),
    "imagenetr": ShiftInfo(
        title="ImageNet-R",
        clean="imagenet",
        places=("imagenet-r",),
        count=30_000,
        get="unpack imagenet-r.tar of https://github.com/hendrycks/imagenet-r",
        protocol=SUBSET.format(count=200),
        source="Hendrycks et al., The Many Faces of Robustness, ICCV 2021",
    ),
    "imagenetsketch": ShiftInfo(
        title="ImageNet-Sketch",
        clean="imagenet",
        places=("sketch", "imagenet-sketch"),
        count=50_889,
        get="unpack the archive of https://github.com/HaohanWang/ImageNet-Sketch",
        protocol=ALL_CLASSES,
        source="Wang et al., Learning Robust Global Representations by Penalizing Local Predictive Power, NeurIPS 2019",
    ),
    "objectnet": ShiftInfo(
        title="ObjectNet",
        clean="imagenet",
        places=("objectnet-1.0/images", "objectnet-1.0", "objectnet"),
        count=18_574,
        get="unpack objectnet-1.0.zip of https://objectnet.dev",
        protocol=OBJECTNET,
        source="Barbu et al., ObjectNet, NeurIPS 2019",
    ),
    "cifar10.1": ShiftInfo(
        title="CIFAR-10.1",
        clean="cifar10",
        places=(
            "cifar10.1_v6_data.npy",
            "CIFAR-10.1/cifar10.1_v6_data.npy",
            "CIFAR-10.1/datasets/cifar10.1_v6_data.npy",
        ),
        count=2_000,
        get="put cifar10.1_v6_data.npy and cifar10.1_v6_labels.npy of https://github.com/modestyachts/CIFAR-10.1",
        protocol=ALL_CLASSES,
        source="Recht et al., Do CIFAR-10 Classifiers Generalize to CIFAR-10?, 2018",
    ),
    "cifar10.2": ShiftInfo(
        title="CIFAR-10.2",
        clean="cifar10",
        places=("cifar102_test.npz", "CIFAR-10.2/cifar102_test.npz", "cifar-10.2/cifar102_test.npz"),
        count=2_000,
        get="put cifar102_test.npz of https://github.com/modestyachts/cifar-10.2",
        protocol=ALL_CLASSES,
        source="Lu et al., Harder or Different?, ICML workshop 2020",
    ),
}
"""The shifted sets by name."""


@dataclass(frozen=True, eq=False)
class Shift:
    """A shifted set, ready to be measured.

    name: a key of ``SHIFTS``. info: its description.
    images: the images; labels are positions in the classes of the clean set, replaced by ``subset.representative``.
    subset: which of these classes count; ``subset.restrict`` gives the clean images to compare with.
    """

    name: str
    info: ShiftInfo
    images: ImageSet
    subset: ClassSubset


def list_shifts(classes: tuple[str, ...]) -> list[str]:
    """List the shifted sets that images of these classes can be compared with."""
    clean = {imagenet_wnids(): "imagenet", CIFAR10_CLASSES: "cifar10"}.get(classes)
    return [name for name, info in SHIFTS.items() if info.clean == clean]


def find_shifts(data_dir: str | Path) -> dict[str, Path]:
    """Find the paths of the shifted sets in ``data_dir``."""
    root = Path(data_dir)
    found = {}
    for name, info in SHIFTS.items():
        place = next((root / place for place in info.places if (root / place).exists()), None)
        if place is not None:
            found[name] = place
    return found


def geometry_beside(clean: ImageSet, data_dir: str | Path = "data") -> Geometry:
    """Find the resize and crop that prepare photographs in the same way as the clean images.

    An import has both in its record; otherwise the crop is the clean images' side S, and the resize is 256/224 of S.
    """
    record = read_record(Path(data_dir) / clean.name)
    if record is not None and record.crop is not None:
        return Geometry(resize=record.resize, crop=record.crop)
    side = min(clean.pixels.shape[1:3])
    return Geometry(resize=round(side * LARGE_RESIZE / LARGE_CROP), crop=side)


def read_shift(
    name: str,
    data_dir: str | Path = "data",
    *,
    path: str | Path | None = None,
    geometry: Geometry = LARGE_GEOMETRY,
    n: int | None = None,
    seed: int = 0,
    progress: bool = False,
) -> Shift:
    """Read a shifted set in its official layout.

    Args:
        name: a key of :data:`SHIFTS`.
        data_dir: the folder to search.
        path: the folder, archive or file itself.
        geometry: resize and crop of photographs, the same as for the clean images; by default 256 and 224.
        n: size of a random subset, the same as :meth:`ImageSet.subset` draws; None for all images.
        seed: seed of the subset.
        progress: show a progress bar.

    Raises:
        PrerequisiteError: the set is missing; the message says how to get it.
        InputError: an unknown name, missing or foreign classes, damaged files.
    """
    check_choice(name, SHIFTS, "a shifted set")
    info = SHIFTS[name]
    found = Path(path) if path is not None else find_shifts(data_dir).get(name)
    if found is None or not found.exists():
        where = found if found is not None else f"{Path(data_dir)} ({', '.join(info.places)})"
        raise PrerequisiteError(f"expected {info.title} in {where}, found none of it; {info.get} there")
    if info.clean == "cifar10":
        images, subset = _READ_CIFAR[name](found), whole_subset(len(CIFAR10_CLASSES))
        images = images if n is None else images.subset(n, seed)
    else:
        images, subset = _read_imagenet(name, found, geometry, n=n, seed=seed, progress=progress)
    notes = images.notes
    if n is None and len(images) != info.count:
        here = f"{len(images):,} are here: it is another release or a part"
        notes = (*notes, f"{info.title} has {info.count:,} images, and {here}")
    return Shift(name, info, replace(images, name=name, title=info.title, split="test", notes=notes), subset)


def _read_imagenet(name: str, path: Path, geometry: Geometry, **options: Any) -> tuple[ImageSet, ClassSubset]:
    """Read pictures from class folders, with the ``options`` of ``read_pictures``, and label them as in ImageNet."""
    wnids, only = imagenet_wnids(), None
    wnid_of, subset = _find_folders(name, path)
    if name == "objectnet":
        geometry, only = replace(geometry, border=OBJECTNET_BORDER), frozenset(wnid_of)
    images = read_pictures(path, geometry=geometry, classes=tuple(wnid_of), only=only, whole=True, **options)
    labels = subset.representative[[wnids.index(wnid) for wnid in wnid_of.values()]]
    return replace(images, labels=labels[images.labels], classes=wnids), subset


def _find_folders(name: str, path: Path) -> tuple[dict[str, str], ClassSubset]:
    """Find a WNID for each class folder of a set, and the classes that count."""
    wnids = imagenet_wnids()
    if name == "objectnet":
        return {folder: group[0] for folder, group in objectnet_groups().items()}, imagenet_subset("objectnet")
    if name in ("imageneta", "imagenetr"):
        listed = f"imagenet_{name[-1]}"
        return {wnid: wnid for wnid in read_wnids(listed)}, imagenet_subset(listed)
    is_numbered = name == "imagenetv2" and not _has_wnids(path)  # 0 to 999, which must not be sorted as text
    return dict(zip(map(str, range(len(wnids))) if is_numbered else wnids, wnids)), whole_subset(len(wnids))


def _has_wnids(path: Path) -> bool:
    return path.is_dir() and any(path.glob("n[0-9]*"))


def _read_cifar10_1(path: Path) -> ImageSet:
    labels = path.with_name(path.name.replace("_data", "_labels"))
    return _as_cifar(map_array(path), map_array(labels), path)


def _read_cifar10_2(path: Path) -> ImageSet:
    images = read_npz(path)
    names = _read_names(path)
    if names is not None and names != CIFAR10_CLASSES:
        raise InputError(f"expected the classes of CIFAR-10 in {path}, got {', '.join(names[:3])}, …; fetch it again")
    return _as_cifar(images.pixels, images.labels, path)


def _read_names(path: Path) -> tuple[str, ...] | None:
    """Read the names of the labels, where the file has them as plain text."""
    with np.load(path, allow_pickle=False) as arrays:
        try:
            return tuple(map(str, arrays["label_names"]))
        except (KeyError, ValueError):
            return None


def _as_cifar(pixels: np.ndarray, labels: np.ndarray, path: Path) -> ImageSet:
    if pixels.dtype != np.uint8 or pixels.shape[1:] != (32, 32, 3):
        raise InputError(f"expected uint8 (N, 32, 32, 3) in {path}, got {pixels.dtype} {pixels.shape}; fetch it again")
    with place_named(path):
        return from_arrays(pixels, labels, classes=CIFAR10_CLASSES)


_READ_CIFAR: dict[str, Callable[[Path], ImageSet]] = {"cifar10.1": _read_cifar10_1, "cifar10.2": _read_cifar10_2}
