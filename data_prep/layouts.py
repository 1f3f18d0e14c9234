"""Layouts of image trees: folders of splits and classes, or of classes alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from data_prep.errors import InputError, check_choice

SPLIT_NAMES = ("test", "val", "validation", "valid", "testing", "dev", "eval", "train", "training")
"""Names of splits, in the order of preference for a measurement."""
WHOLE = "test"
"""Name of the only split of a tree without splits."""

ANNOTATIONS = "val_annotations.txt"
"""File name of the list of classes in the official Tiny ImageNet."""

Key = tuple[str, str, str]


@dataclass(frozen=True)
class Layout:
    """The positions of split, class and file in the path of a picture.

    root: folders around the tree. has_splits: whether the first folder inside names a split.
    keys: the key of each picture by its path, if a list gives them; pictures outside the list have no label.
    """

    root: tuple[str, ...]
    has_splits: bool
    keys: Mapping[str, Key] | None = None

    @property
    def depth(self) -> int:
        """Number of folders around a picture."""
        return len(self.root) + 1 + self.has_splits

    def key_of(self, path: str) -> Key:
        """Parse the path of a picture into (split, class, file name)."""
        if self.keys is not None:
            return self.keys.get(path, ("", "", path))
        parts = PurePosixPath(path).parts
        return (parts[-3] if self.has_splits else WHOLE, parts[-2], parts[-1])

    def class_of(self, path: str, *, is_folder: bool) -> tuple[str, str] | None:
        """Find the (split, class) of the class folder that ``path`` is or lies in; None outside class folders."""
        parts = PurePosixPath(path).parts
        folders = parts if is_folder else parts[:-1]
        if self.keys is not None or folders[: len(self.root)] != self.root or len(folders) < self.depth:
            return None
        return (folders[self.depth - 2] if self.has_splits else WHOLE, folders[self.depth - 1])


def find_layout(paths: Iterable[str], where: str, split: str | None = None) -> Layout:
    """Infer the layout of a tree from the paths of all its pictures.

    Below the folders that all pictures share, two levels of folders are splits and classes if the outer folder has the
    name of a split, or if several outer folders contain classes of the same names. A single outer folder with another
    name just surrounds the classes.

    where: the name of the folder or archive, for messages. split: the requested split, whatever its name.
    Raises: InputError for a tree without pictures, with pictures at several depths, with pictures outside class
        folders, or with several outer folders that are not clearly splits.
    """
    layout: tuple[tuple[str, ...], ...] = ()
    root: tuple[str, ...] | None = None
    classes: dict[str, set[str]] = {}
    for path in paths:
        folders = PurePosixPath(path).parts[:-1]
        above = folders[:-2]
        if not folders or root not in (None, above) or (layout and len(layout[0]) != len(folders)):
            raise InputError(
                f"{where}: expected every image at <class>/<file> or <split>/<class>/<file>, got {path}; "
                "rearrange the tree"
            )
        root, layout = above, layout or (folders,)
        if len(folders) > 1:
            classes.setdefault(folders[-2], set()).add(folders[-1])
        else:
            classes.setdefault("", set()).add(folders[-1])
    if root is None:
        raise InputError(
            f"expected images at <class>/<file> or <split>/<class>/<file> in {where}, got none; "
            "point at the folder that holds the folders of the classes or splits"
        )
    if len(layout[0]) == 1:
        if all(map(is_split, classes[""])):
            got = f"images directly in {', '.join(sorted(classes['']))}"
            raise InputError(f"{where}: expected a folder for every class, got {got}; put each class into its own")
        return Layout((), has_splits=False)
    if _are_splits(classes, split):
        return Layout(root, has_splits=True)
    if len(classes) == 1:
        return Layout((*root, *classes), has_splits=False)
    got = ", ".join(sorted(classes)[:3])
    raise InputError(
        f"{where}: expected folders of splits ({', '.join(SPLIT_NAMES)}) above the folders of the classes, got {got}; "
        "name the requested one as the split, or point at one of them"
    )


def read_annotations(paths: Iterable[str], annotations: str, where: str) -> Layout:
    """Read the layout of Tiny ImageNet: ``train/<class>/images/<file>``, and ``val/images/<file>`` with a class list.

    The pictures of ``test``, whose classes are unknown, get no key. Class folders in ``val`` are also accepted.

    annotations: the text of ``val_annotations.txt``: file and class, separated by a tab, on every line.
    Raises: InputError for a picture of ``val`` that is missing from the list.
    """
    class_of = dict(line.split("\t")[:2] for line in annotations.splitlines() if line.count("\t"))
    keys: dict[str, Key] = {}
    for path in paths:
        *folders, file = PurePosixPath(path).parts
        if folders and folders[-1] == "images":
            del folders[-1]
        if not folders or folders[-1] == "test":
            continue
        if folders[-1] == "val":
            if file not in class_of:
                raise InputError(f"{where}: expected {file} in {ANNOTATIONS}, got no class for it; unpack it again")
            keys[path] = ("val", class_of[file], file)
        elif len(folders) > 1:
            keys[path] = (folders[-2], folders[-1], file)
    return Layout((), has_splits=True, keys=keys)


def is_split(name: str) -> bool:
    """Tell whether a folder of this name counts as a split."""
    return name.lower() in SPLIT_NAMES


def _are_splits(classes: dict[str, set[str]], split: str | None) -> bool:
    if split in classes or any(map(is_split, classes)):
        return True
    return len(classes) > 1 and bool(set.intersection(*classes.values()))


def choose_split(counts: dict[str, int], split: str | None, title: str) -> str:
    """Choose the split to measure on: the requested split, otherwise the first of ``SPLIT_NAMES``, or the only split.

    Raises: InputError, listing the splits, if the requested split is missing or the choice is ambiguous.
    """
    if split is None:
        known = sorted(filter(is_split, counts), key=lambda name: SPLIT_NAMES.index(name.lower()))
        if not known and len(counts) > 1:
            raise InputError(f"expected a split of {title} to be named ({', '.join(counts)}), got none; choose one")
        return known[0] if known else next(iter(counts))
    check_choice(split, counts, f"a split of {title}")
    return split
