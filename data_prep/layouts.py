"""How the pictures of a tree lie: in folders of splits and classes, or of classes alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from data_prep.errors import InputError

SPLIT_NAMES = ("test", "val", "validation", "valid", "testing", "dev", "eval", "train", "training")
"""What splits are called, in the order in which one is chosen for a measurement."""
WHOLE = "test"
"""What the only split of a tree without splits is called."""

ANNOTATIONS = "val_annotations.txt"
"""The list of classes in the official Tiny ImageNet."""

Key = tuple[str, str, str]


@dataclass(frozen=True)
class Layout:
    """Where the parts of a file's name stand.

    root: folders around the tree. has_splits: whether the first folder inside is that of a split.
    keys: what each picture is, by its name, where a list says it; those that are not in it have no label.
    """

    root: tuple[str, ...]
    has_splits: bool
    keys: Mapping[str, Key] | None = None

    @property
    def depth(self) -> int:
        """How many folders a picture lies in."""
        return len(self.root) + 1 + self.has_splits

    def key_of(self, path: str) -> Key:
        """Read (split, class, file name) off the name of a picture."""
        if self.keys is not None:
            return self.keys.get(path, ("", "", path))
        parts = PurePosixPath(path).parts
        return (parts[-3] if self.has_splits else WHOLE, parts[-2], parts[-1])

    def class_of(self, path: str, *, is_folder: bool) -> tuple[str, str] | None:
        """Tell the (split, class) of the folder that ``path`` is, or lies in; None for what lies elsewhere."""
        parts = PurePosixPath(path).parts
        folders = parts if is_folder else parts[:-1]
        if self.keys is not None or folders[: len(self.root)] != self.root or len(folders) < self.depth:
            return None
        return (folders[self.depth - 2] if self.has_splits else WHOLE, folders[self.depth - 1])


def find_layout(paths: Iterable[str], where: str, split: str | None = None) -> Layout:
    """Find out how pictures lie from all of their names.

    Two folders below what surrounds all of them are a split and a class if the outer one has the name of a split, or
    where there are several with classes of the same names; a single one of another name surrounds the classes.

    where: the name of the folder or archive, for messages. split: the split that is wanted, whatever it is called.
    Raises: InputError for no pictures, pictures at several depths, pictures without a class folder, and several outer
        folders that are neither clearly splits nor one.
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
        f"{where}: expected folders of splits ({', '.join(SPLIT_NAMES)}) above those of the classes, got {got}; "
        "name the wanted one as the split, or point at one of them"
    )


def read_annotations(paths: Iterable[str], annotations: str, where: str) -> Layout:
    """Lay out Tiny ImageNet: ``train/<class>/images/<file>``, and ``val/images/<file>`` with a list of the classes.

    Pictures whose class nothing tells, those of ``test``, get no key. Folders of classes in ``val`` count, too.

    annotations: the text of ``val_annotations.txt``: file and class, separated by tabs, on every line.
    Raises: InputError for a picture of ``val`` that is not in the list.
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
    """Tell whether a folder of this name is taken for a split."""
    return name.lower() in SPLIT_NAMES


def _are_splits(classes: dict[str, set[str]], split: str | None) -> bool:
    if split in classes or any(map(is_split, classes)):
        return True
    return len(classes) > 1 and bool(set.intersection(*classes.values()))


def choose_split(counts: dict[str, int], split: str | None, title: str) -> str:
    """Choose the split to measure on: the one asked for, else the first of ``SPLIT_NAMES``, else the only one.

    Raises: InputError, with what there is, for a split that is not there and where nothing tells which one is meant.
    """
    if split is None:
        known = sorted(filter(is_split, counts), key=lambda name: SPLIT_NAMES.index(name.lower()))
        if not known and len(counts) > 1:
            raise InputError(f"expected a split of {title} to be named ({', '.join(counts)}), got none; choose one")
        return known[0] if known else next(iter(counts))
    if split not in counts:
        raise InputError(f"expected a split of {title} ({', '.join(counts)}), got {split!r}")
    return split
