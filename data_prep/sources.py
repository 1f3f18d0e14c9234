"""Find and load images: a data set by its name, pictures in a folder or an archive, arrays."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from data_prep.archives_c import FOLDERS, PUBLISHED
from data_prep.cifar import RELEASES, find_release, load_release
from data_prep.class_lists import read_classes
from data_prep.decode import IMAGE_SUFFIXES, Geometry
from data_prep.errors import InputError, PrerequisiteError, UsageError
from data_prep.given_arrays import from_arrays, from_pairs, read_npz
from data_prep.imageset import ImageSet
from data_prep.layouts import choose_split
from data_prep.own_pictures import read_pictures
from data_prep.planning import LARGE_CROP, LARGE_RESIZE
from data_prep.shapes import SPLIT_SIZES, make_shapes
from data_prep.store import RECORD_NAME, read_record, read_split

Given = str | Path | ImageSet | tuple[Any, Any] | Iterable[Any]
"""Sources that ``load_images`` accepts."""


def load_images(
    source: Given,
    split: str | None = None,
    data_dir: str | Path = "data",
    *,
    resize: int | None = None,
    crop: int | None = None,
    classes: str | Path | Sequence[str] | None = None,
    n: int | None = None,
    seed: int = 0,
    progress: bool = False,
) -> ImageSet:
    """Load one split of a data set, or the user's own images.

    Args:
        source: one of

            - a name: ``"shapes"`` is drawn on the fly; ``"cifar10"`` and ``"cifar100"`` are read from the official
              files in ``data_dir``, otherwise from an import of that name; any other name is an import, and
              ``"imagenet"`` is an import with the official class indices;
            - a folder of pictures, ``<class>/<file>`` or ``<split>/<class>/<file>``, or a ``.zip``, ``.tar``,
              ``.tar.gz`` or ``.tar.xz`` of one; or the folder of an import;
            - a ``.npz`` of images and labels;
            - arrays or tensors ``(images, labels)``; a list, a torch ``Dataset`` or ``DataLoader``, or anything else
              that yields pairs;
            - an :class:`ImageSet`, which is returned.

            A name takes precedence over a folder of the same name; write ``./cifar10`` for the folder.
        split: ``"train"``, ``"test"`` or another split of the source, such as ``"val"``; None for the test split,
            otherwise a validation split, otherwise the only split.
        data_dir: the folder of the data sets.
        resize: short side in pixels to which pictures from a folder or archive are scaled; pictures of several sizes
            have a default.
        crop: side in pixels of the central square that they are then cropped to.
        classes: the class folders of a folder or archive in label order, or the class names of arrays; or a text file
            with one name per line.
        n: size of a random subset, as :meth:`ImageSet.subset` draws it; only this subset of a folder or archive is
            decoded. None for all images.
        seed: seed of the subset.
        progress: show a progress bar.

    Returns:
        The images; an import is memory-mapped. ``notes`` holds sentences on how the images were read.

    Raises:
        InputError: an unknown name or split (the message lists the known ones), damaged files, or options that do not
            apply to the source.
        PrerequisiteError: a known data set is missing; the message has the commands that get it.
    """
    given = read_classes(classes)
    path = _find_path(source, Path(data_dir))
    if path is not None and not _is_npz(path) and not (path / RECORD_NAME).is_file():
        geometry = Geometry(resize=resize, crop=crop)
        options = {"n": n, "seed": seed, "progress": progress}
        return read_pictures(path, split, geometry=geometry, classes=given, **options)  # type: ignore[arg-type]
    if resize is not None or crop is not None:
        raise InputError(
            "expected --resize and --crop with a folder or an archive of pictures, got them with images that have "
            "their size already; leave them out, or import the pictures at another size"
        )
    if isinstance(source, str | Path):
        images = _load_stored(source, path, split, Path(data_dir), given)
    elif isinstance(source, ImageSet):
        images = source
        if split not in (None, source.split) or given not in (None, source.classes):
            raise InputError(
                f"expected an image set as it is, got another split or other classes for {source.title} "
                f"{source.split}; leave them out"
            )
    else:
        if split is not None:
            raise InputError(f"expected no split with arrays, got {split!r}; give the arrays of that split")
        is_pair = isinstance(source, tuple) and len(source) == 2  # lists hold pairs
        images = from_arrays(*source, classes=given) if is_pair else from_pairs(source, classes=given)
    return images if n is None else images.subset(n, seed)


def _load_stored(
    source: str | Path, path: Path | None, split: str | None, root: Path, classes: tuple[str, ...] | None
) -> ImageSet:
    """Load images that are already arrays: a data set by its name, the folder of an import, or a ``.npz``."""
    if path is not None and _is_npz(path):
        return read_npz(path, split, classes=classes)
    if path is not None:
        root, name = path.resolve().parent, path.resolve().name
        record = read_record(path)
        counts = dict(record.counts) if record is not None else {}
    else:
        name = str(source)
        counts = split_sizes(name, root)
    split = choose_split(counts, split, name)
    if path is not None:
        images = read_split(path, split)
    elif name == "shapes":
        images = make_shapes(split)
    elif (release := find_release(name, root)) is not None:
        images = load_release(name, split, release)
    else:
        images = read_split(root / name, split)
    if classes not in (None, images.classes):
        raise InputError(
            f"expected the classes of {images.title} in their own order, got another list; leave it out, or import the "
            "pictures with it"
        )
    return images


def _find_path(source: object, root: Path) -> Path | None:
    """Find the folder or file that ``source`` refers to; None for a name or anything other than text."""
    if isinstance(source, Path):
        if not source.exists():
            raise InputError(
                f"expected a folder, an archive or a .npz, got {source}, which is not there; check the path"
            )
        return source
    if not isinstance(source, str) or source in ("", "shapes", "imagenet", *RELEASES, *FOLDERS, *imported_names(root)):
        return None
    path = Path(source).expanduser()
    return path if path.exists() else None


def _is_npz(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() == ".npz"


def split_sizes(name: str, data_dir: str | Path = "data") -> dict[str, int]:
    """Look up the number of images in each split of a data set.

    Raises:
        InputError: as in :func:`load_images`.
        PrerequisiteError: as in :func:`load_images`.
    """
    root = Path(data_dir)
    if name == "shapes":
        return dict(SPLIT_SIZES)
    if find_release(name, root) is not None:
        return dict(RELEASES[name].counts)
    if name in imported_names(root) and (record := read_record(root / name)) is not None:
        return dict(record.counts)
    raise _absence(name, root)


def imported_names(data_dir: Path) -> tuple[str, ...]:
    """List the imported data sets in a folder, sorted."""
    return tuple(sorted(path.parent.name for path in data_dir.glob("*/dataset.json")))


def unimported_trees(data_dir: Path) -> tuple[str, ...]:
    """List the subfolders with an image tree that has not been imported yet, sorted."""
    folders = sorted(path for path in data_dir.glob("[!.]*") if path.is_dir() and not (path / "dataset.json").is_file())
    return tuple(folder.name for folder in folders if _holds_tree(folder))


def command_line(*words: str | Path, data_dir: Path) -> str:
    """Format a command of ``python -m data_prep`` on ``data_dir`` as a user would type it."""
    where = () if data_dir == Path("data") else ("--data-dir", str(data_dir))
    return shlex.join(["python", "-m", "data_prep", *map(str, words), *where])


def import_command(path: str | Path, name: str, data_dir: Path) -> str:
    """Format the command that imports the tree at ``path`` as ``name``."""
    options = ("--resize", str(LARGE_RESIZE), "--crop", str(LARGE_CROP)) if name == "imagenet" else ()
    return command_line("import", path, "--name", name, *options, data_dir=data_dir)


def how_to_get(name: str, data_dir: Path) -> str:
    """Explain how to get an official data set or archive that is missing."""
    if name in PUBLISHED and (get := PUBLISHED[name].get):
        return f"get it: {get.format(folder=data_dir / FOLDERS[name])}"
    if name == "imagenet":
        return f"get it: download the images from https://image-net.org, then {import_command('PATH', name, data_dir)}"
    return f"get it: {command_line('download', name, data_dir=data_dir)}"


def _holds_tree(folder: Path) -> bool:
    return any(path.suffix.lower() in IMAGE_SUFFIXES for path in folder.glob("[!.]*/*/*"))


def _absence(name: str, root: Path) -> UsageError:
    if name in FOLDERS:
        return InputError(f"expected a set of clean images, got the -C archive {name}; read it with find_archive_c")
    if name in unimported_trees(root):
        command = import_command(root / name, name, root)
        return PrerequisiteError(
            f"expected {name} as imported arrays, got a tree of images in {root / name}; run: {command}"
        )
    if name == "imagenet":
        return PrerequisiteError(
            f"expected imagenet in {root}, found none of it; "
            f"with its images as a tree <split>/<wnid>/<file> at PATH, run: {import_command('PATH', name, root)}"
        )
    if name in RELEASES:
        download = command_line("download", name, data_dir=root)
        bring = import_command("PATH", name, root)
        return PrerequisiteError(
            f"expected {name} in {root}, found none of it; "
            f"run: {download} (or, with its images as a tree or an archive at PATH: {bring})"
        )
    known = ", ".join(dict.fromkeys(("shapes", *RELEASES, "imagenet", *imported_names(root))))
    bring = import_command("PATH", "NAME", root)
    return InputError(
        f"expected a data set ({known}) or the path of a folder or archive of pictures, got {name!r}; check it, or, "
        f"to add images of your own, run: {bring}"
    )
