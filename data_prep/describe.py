"""Describe the data at a path: layout, data set, sizes, classes, corruptions and number of images."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.archives_c import CORRUPTIONS_3DCC, kind_of_archive_c, open_archive_c
from data_prep.arrays import map_array
from data_prep.cifar import RELEASES
from data_prep.cifar_c import LABELS_FILE
from data_prep.class_lists import imagenet_wnids
from data_prep.corruptions import N_SEVERITIES, corruption_names, level_folder
from data_prep.errors import InputError
from data_prep.files import digest_of, is_hidden
from data_prep.generate import read_manifest
from data_prep.given_arrays import npz_splits
from data_prep.imagenet_c import folders_in
from data_prep.planning import plan_tree
from data_prep.shifts import SHIFTS
from data_prep.store import read_record
from data_prep.subsets import objectnet_groups, read_wnids

_NUMBERS = frozenset(map(str, range(1000)))
_CIFAR_FILES = {r"cifar10\.1_v[46]_data\.npy": "cifar10.1", r"cifar102_(test|train)\.npz": "cifar10.2"}
_SHOWN = 6


@dataclass(frozen=True, kw_only=True)
class Description:
    """The data found at a path; fields that do not apply are empty.

    kind: the layout, in words. path: as given. data_set: the data set, as far as the layout identifies it.
    images: the number of images per split, or per severity of a corruption; None if they were not counted.
    sizes: the number of images of each "height x width"; large archives are sampled with one image per corruption.
    classes: their names, in label order if the order is known. corruptions: their names. severities: the levels.
    hash: SHA-256 (hex) of the content that ``hash_of`` names. use: the command or call that reads it. notes: sentences.
    """

    kind: str
    path: str = ""
    data_set: str = ""
    images: dict[str, int | None] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    corruptions: tuple[str, ...] = ()
    severities: tuple[int, ...] = ()
    hash: str = ""
    hash_of: str = ""
    use: str = ""
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Convert every field to JSON values."""
        return asdict(self)

    def lines(self) -> Iterator[str]:
        """Yield the description as lines of text; long lists are shortened."""
        yield f"{self.path}: {self.kind}"
        facts = {
            "data set": self.data_set,
            "images": ", ".join(
                f"{name} {'not counted' if n is None else f'{n:,}'}" for name, n in self.images.items()
            ),
            "sizes": _shorten([f"{size} ({count:,})" for size, count in self.sizes.items()]),
            "classes": f"{len(self.classes):,}: {_shorten(list(self.classes))}" if self.classes else "",
            "corruptions": f"{len(self.corruptions)}: {', '.join(self.corruptions)}" if self.corruptions else "",
            "severities": ", ".join(map(str, self.severities)),
            "SHA-256": f"{self.hash} ({self.hash_of})" if self.hash else "",
            "use": self.use,
        }
        yield from (f"  {name + ':':12} {text}" for name, text in facts.items() if text)
        yield from (f"  note: {note}" for note in self.notes)


def describe(path: str | Path) -> Description:
    """Describe the data at ``path``, in any layout that this package reads.

    Image files are counted and their headers read, but they are not decoded; nothing is unpickled.
    Raises: InputError for a path that does not exist, and for content without a known layout, listing the files.
    """
    found = Path(path).expanduser()
    if not found.exists():
        raise InputError(f"expected a folder or file, got {path}, which is not there; check the path")
    looks = (
        _describe_stored,
        _describe_release,
        _describe_shift,
        _describe_archive_c,
        _describe_array,
        _describe_videos,
    )
    description = next(filter(None, (look(found) for look in looks)), None)
    return replace(description or _describe_pictures(found), path=str(path))


def _describe_stored(path: Path) -> Description | None:
    record = read_record(path) if path.is_dir() else None
    if record is None:
        return None
    height, width = record.image_size
    return Description(
        kind="imported data set",
        data_set=record.title,
        images=dict(record.counts),
        sizes={f"{height} x {width}": sum(record.counts.values())},
        classes=record.classes,
        hash=hashlib.sha256(repr(sorted(record.fingerprints.items())).encode()).hexdigest(),
        hash_of="fingerprints of its splits",
        use=f"load_images({record.name!r}, data_dir={str(path.resolve().parent)!r})",
    )


def _describe_release(path: Path) -> Description | None:
    for release in RELEASES.values():
        if path.name in (release.archive, release.folder):
            is_archive = path.is_file()
            return Description(
                kind="official release, as an archive" if is_archive else "official release, unpacked",
                data_set=release.name,
                images=dict(release.counts),
                sizes={"32 x 32": sum(release.counts.values())},
                **_hash_of(path),
                use=f"load_images({release.name!r}, data_dir={str(path.resolve().parent)!r})",
            )
    return None


def _describe_shift(path: Path) -> Description | None:
    name = _name_of_shift(path)
    if name is None:
        return None
    info = SHIFTS[name]
    if path.is_file():
        description = _describe_array(path) or Description(kind="")
        description = replace(description, **_hash_of(path))
    else:
        description = _describe_pictures(path)
    count = sum(filter(None, description.images.values()))
    part = () if count == info.count or name == "objectnet" else (f"{info.title} has {info.count:,} images",)
    return replace(
        description,
        kind="natural shift, in its official layout",
        data_set=f"{info.title}, for models of {info.clean}: {info.protocol}",
        use=f"read_shift({name!r}, path={str(path)!r})",
        notes=(*description.notes, *part),
    )


def _name_of_shift(path: Path) -> str | None:
    """Recognize a shifted set by its folder names, if no other set has them, or by its file names."""
    if path.is_file():
        return next((name for pattern, name in _CIFAR_FILES.items() if re.fullmatch(pattern, path.name)), None)
    folders = set(folders_in(path))
    if folders == _NUMBERS:
        return "imagenetv2"
    if len(folders & set(objectnet_groups())) > len(objectnet_groups()) // 2:
        return "objectnet"
    known = {"imageneta": read_wnids("imagenet_a"), "imagenetr": read_wnids("imagenet_r")}
    for name, wnids in known.items():
        if folders == set(wnids):
            return name
    is_sketch = path.name in SHIFTS["imagenetsketch"].places and folders == set(imagenet_wnids())
    return "imagenetsketch" if is_sketch else None


def _describe_archive_c(path: Path) -> Description | None:
    kind = kind_of_archive_c(path) if path.is_dir() else None
    if kind is None:
        return None
    archive = open_archive_c(path)
    names = archive.corruptions()
    images: dict[str, int | None] = {}
    sizes: Counter[str] = Counter()
    notes: list[str] = []
    for name in names:
        try:
            images[name] = archive.count(name)
            height, width = archive.size_of(name)
            sizes[f"{height} x {width}"] += 1
        except InputError as error:
            images[name] = None
            notes.append(str(error))
    classes = folders_in(path / names[0] / level_folder(names[0], 1)) if kind == "files" else ()
    if is_generated := (path / "manifest.json").is_file():
        manifest = read_manifest(path)
        notes.append(f"generated here from {manifest.title}" if manifest else "generated here")
    if missing := sorted(set(corruption_names()).difference(names)):
        is_3d = set(names) <= set(CORRUPTIONS_3DCC)
        notes += [] if is_3d else [f"missing standard corruptions: {', '.join(missing)}"]
    layout = {
        "npy": "<corruption>.npy",
        "npz": "<corruption>.npz",
        "files": "<corruption>/<severity>/<class>/<file>",
    }[kind]
    return Description(
        kind=f"{'generated' if is_generated else '-C'} archive, {layout}",
        data_set=_guess_clean(names, classes, images, sizes),
        images=images,
        sizes=dict(sizes),
        classes=classes,
        corruptions=names,
        severities=tuple(range(1, N_SEVERITIES + 1)),
        **_hash_of(path),
        use=f'archive = "{path}" in a suite whose data are its clean images',
        notes=tuple(notes),
    )


def _guess_clean(
    names: tuple[str, ...], classes: tuple[str, ...], images: dict[str, int | None], sizes: Counter[str]
) -> str:
    """Name the clean set of an archive if classes, counts and size fit only one known set."""
    only = next(iter(sizes)) if len(sizes) == 1 else ""
    counts = set(images.values())
    if classes and set(classes) <= set(imagenet_wnids()):
        of_all = len(classes) == len(imagenet_wnids())
        if names and set(names) <= set(CORRUPTIONS_3DCC):
            return "ImageNet-3DCC"
        if of_all:
            return "ImageNet-C" if only == "224 x 224" else f"ImageNet at {only or 'several sizes'}"
        return "Tiny ImageNet-C" if (len(classes), only) == (200, "64 x 64") else f"{len(classes)} classes of ImageNet"
    return "CIFAR-10-C or CIFAR-100-C" if (only, counts) == ("32 x 32", {10_000}) else ""


def _describe_array(path: Path) -> Description | None:
    suffix = path.suffix.lower()
    if not path.is_file() or suffix not in (".npy", ".npz"):
        return None
    facts = _hash_of(path)
    if suffix == ".npz":
        splits = npz_splits(path)
        images: dict[str, int | None] = {split: shape[0] for split, (_, shape) in splits.items()}
        sizes = Counter({f"{shape[1]} x {shape[2]}": shape[0] for _, shape in splits.values() if len(shape) > 2})
        kind, use = "images and labels in a .npz", f"load_images({str(path)!r})"
        return Description(kind=kind, images=images, sizes=dict(sizes), use=use, **facts)
    array = map_array(path)
    kind = f"an array, {array.dtype} {array.shape}"
    if array.dtype == np.uint8 and array.ndim == 5:
        kind = f"perturbation sequences, {len(array):,} of {array.shape[1]} frames"
    elif array.dtype == np.uint8 and array.ndim == 4 and not len(array) % N_SEVERITIES and path.name != LABELS_FILE:
        kind += f"; with a {LABELS_FILE} next to it, a corruption of the -C archive in its folder"
    facts |= {"sizes": {f"{array.shape[-3]} x {array.shape[-2]}": len(array)}} if array.ndim in (4, 5) else {}
    return Description(kind=kind, images={"": len(array)} if array.ndim else {}, **facts)


def _describe_videos(path: Path) -> Description | None:
    videos = sorted(path.glob("[!.]*/*/*.mp4")) if path.is_dir() else []
    if not videos:
        return None
    images: Counter[str] = Counter(video.parts[-3] for video in videos)
    return Description(
        kind="perturbation sequences, <perturbation>/<class>/<file>.mp4",
        images=dict(images),
        classes=tuple(sorted({video.parts[-2] for video in videos})),
        corruptions=tuple(images),
        **_hash_of(path),
    )


def _describe_pictures(path: Path) -> Description:
    if path.is_dir() and (inside := [entry for entry in sorted(path.iterdir()) if entry.is_dir()]):
        archives = [entry.name for entry in inside if kind_of_archive_c(entry) is not None]
        if archives:
            return Description(
                kind=f"folder of {len(archives)} -C archives: {', '.join(archives)}",
                use=f"python -m data_prep describe {path / archives[0]}",
            )
    plan = plan_tree(path, adapt=True)
    layout = "<split>/<class>/<file>" if plan.layout.has_splits else "<class>/<file>"
    where = "" if path.is_dir() else " in an archive"
    classes, notes = plan.classes, plan.notes
    is_imagenet = set(classes) <= set(imagenet_wnids())
    if is_imagenet and len(classes) < len(imagenet_wnids()):
        notes = (*notes, 'the classes are WNIDs: give classes="imagenet" for a model of the 1000 classes')
    return Description(
        kind=f"pictures, {layout}{where}",
        data_set=f"{len(classes)} classes of ImageNet" if is_imagenet else "",
        images=dict(plan.counts),
        sizes={f"{height} x {width}": count for (height, width), count in plan.sizes.most_common()},
        classes=classes,
        **_hash_of(path),
        use=f"load_images({str(path)!r})",
        notes=notes,
    )


def _hash_of(path: Path) -> dict[str, Any]:
    """Compute the SHA-256 of a file, or of the names and sizes of all files of a folder that are not hidden."""
    if path.is_file():
        return {"hash": digest_of(path, "sha256"), "hash_of": "the file"}
    found = []
    for folder, folders, names in os.walk(path):
        folders[:] = [name for name in folders if not is_hidden(name)]
        relative = Path(folder).relative_to(path)
        found += [(str(relative / name), Path(folder, name).stat().st_size) for name in names if not is_hidden(name)]
    digest = hashlib.sha256(repr(sorted(found)).encode()).hexdigest()
    return {"hash": digest, "hash_of": "names and sizes of its files"}


def _shorten(names: list[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f", … {more:,} more" if more > 0 else "")
