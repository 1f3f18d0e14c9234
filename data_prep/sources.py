"""Find and load an image data set by its name."""

from __future__ import annotations

import shlex
from pathlib import Path

from data_prep.archives_c import FOLDERS
from data_prep.cifar import RELEASES, find_release, load_release
from data_prep.errors import InputError, PrerequisiteError, UsageError
from data_prep.imagenet import IMPORT_OPTIONS
from data_prep.imageset import ImageSet
from data_prep.shapes import SPLIT_SIZES, make_shapes
from data_prep.store import read_record, read_split
from data_prep.trees import IMAGE_SUFFIXES


def load_images(name: str, split: str, data_dir: str | Path = "data") -> ImageSet:
    """Load one split of a data set.

    name: ``"shapes"`` is drawn on the spot; ``"cifar10"`` and ``"cifar100"`` are read from the official files in
        ``data_dir``, or else from an import of that name; any other name is an import, ``"imagenet"`` one with the
        official class indices.
    split: ``"train"``, ``"test"``, or what else an import has, such as ``"val"``.
    data_dir: the folder of the data sets.
    Returns: the whole split; an import is memory-mapped.
    Raises: InputError, with what there is, for an unknown name or split, and for damaged files; PrerequisiteError, with
        the commands that get it, for a known data set that is not there.
    """
    counts = split_sizes(name, data_dir)
    if split not in counts:
        raise InputError(f"expected a split of {name} ({', '.join(counts)}), got {split!r}")
    if name == "shapes":
        return make_shapes(split)
    root = Path(data_dir)
    if (release := find_release(name, root)) is not None:
        return load_release(name, split, release)
    return read_split(root / name, split)


def split_sizes(name: str, data_dir: str | Path = "data") -> dict[str, int]:
    """Look up the splits of a data set and how many images each has.

    Raises: as ``load_images``.
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
    """List the folders in a folder that hold an image tree which nobody has imported yet, sorted."""
    folders = sorted(path for path in data_dir.glob("[!.]*") if path.is_dir() and not (path / "dataset.json").is_file())
    return tuple(folder.name for folder in folders if _holds_tree(folder))


def command_line(*words: str | Path, data_dir: Path) -> str:
    """Write a command of ``python -m data_prep`` that works on ``data_dir`` the way a user would type it."""
    where = () if data_dir == Path("data") else ("--data-dir", str(data_dir))
    return shlex.join(["python", "-m", "data_prep", *map(str, words), *where])


def import_command(path: str | Path, name: str, data_dir: Path) -> str:
    """Write the command that imports the tree at ``path`` as ``name``."""
    options = IMPORT_OPTIONS if name == "imagenet" else ()
    return command_line("import", path, "--name", name, *options, data_dir=data_dir)


def how_to_get(name: str, data_dir: Path) -> str:
    """Say how to get an official data set or archive that is not there."""
    if name == "imagenetc":
        folder = data_dir / FOLDERS[name]
        return f"get it: unpack the archives of https://zenodo.org/records/2235448 into {folder}"
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
            f"expected imagenet in {root}, got nothing of it; "
            f"with its images as a tree <split>/<wnid>/<file> at PATH, run: {import_command('PATH', name, root)}"
        )
    if name in RELEASES:
        download = command_line("download", name, data_dir=root)
        bring = import_command("PATH", name, root)
        return PrerequisiteError(
            f"expected {name} in {root}, got nothing of it; "
            f"run: {download} (or, with its images as a tree or an archive at PATH: {bring})"
        )
    known = ", ".join(dict.fromkeys(("shapes", *RELEASES, "imagenet", *imported_names(root))))
    bring = import_command("PATH", "NAME", root)
    return InputError(f"expected a data set ({known}), got {name!r}; to add images of your own, run: {bring}")
