"""The user's own pictures, read directly from a folder or an archive of image files, without an import."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Collection
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data_prep.decode import AS_IS, Geometry
from data_prep.errors import InputError
from data_prep.files import check_space
from data_prep.imageset import ImageSet, draw_rows
from data_prep.layouts import choose_split
from data_prep.planning import decode_tree, plan_tree

IN_MEMORY_BYTES = 1 << 28


def read_pictures(
    source: Path,
    split: str | None = None,
    *,
    geometry: Geometry = AS_IS,
    classes: tuple[str, ...] | None = None,
    only: Collection[str] | None = None,
    whole: bool = False,
    n: int | None = None,
    seed: int = 0,
    progress: bool = False,
) -> ImageSet:
    """Read the pictures of a folder, or of a .tar, .tar.gz, .tar.xz or .zip of one, into one array.

    Pictures of several sizes are brought to one size: the short side is resized to S pixels, then the central S × S is
    cut out. S is the resize of ``geometry``, or by default the median of the short sides; if the median is 224 or more,
    pictures are prepared like ImageNet's, resize 256 and crop 224.

    source: ``<class>/<file>``, whose split is called ``"test"``, or ``<split>/<class>/<file>``.
    split: None for the test split, otherwise a validation split, otherwise the only split.
    geometry: resize and crop. classes: the class folders in label order, sorted if left out.
    only, whole: as in ``plan_tree``: the class folders to read, and whether all classes must have pictures.
    n, seed: decode only a random subset, the same as ``ImageSet.subset`` draws.
    Returns: the images, by class and file name; ``notes`` says which files were skipped and how sizes were made equal.
        Beyond 256 MiB the pixels are in a temporary file that is deleted with them.
    Raises: as ``plan_tree``; InputError for a missing split and for a damaged picture.
    """
    with warnings.catch_warnings(action="error", category=Image.DecompressionBombWarning):
        plan = plan_tree(
            source, geometry, classes=classes, split=split, only=only, whole=whole, adapt=True, progress=progress
        )
        if not plan.layout.has_splits and split is not None and split not in plan.counts:
            raise InputError(
                f"expected no split of {source}, which is <class>/<file>, got {split!r}; leave the split out, or put "
                "the class folders into one of that name"
            )
        split = choose_split(plan.counts, split, str(source))
        count = plan.counts[split]
        rows = np.arange(count) if n is None else draw_rows(count, n, seed)
        place = {row: index for index, row in enumerate(rows.tolist())}
        wanted = {key: place[row] for key, row in plan.rows.items() if key[0] == split and row in place}
        pixels = allocate((len(rows), *plan.image_size, 3))
        decode_tree(source, plan, {split: pixels}, wanted, progress=progress)
    title = source.resolve().name if source.is_dir() else source.name.partition(".")[0]
    return ImageSet(
        name=title,
        title=title,
        split=split,
        pixels=pixels,
        labels=plan.labels[split][rows],
        classes=plan.classes,
        indices=rows,
        files=plan.files[split][rows],
        notes=plan.notes,
        hashes_classes=True,
    )


def allocate(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Allocate an array for pixels: in memory, or beyond 256 MiB in a temporary file that is deleted with the array.

    Raises: PrerequisiteError when its disk has too little space.
    """
    n_bytes = int(np.prod(shape, dtype=np.int64))
    if n_bytes <= IN_MEMORY_BYTES:
        return np.zeros(shape, np.uint8)
    check_space(Path(tempfile.gettempdir()), n_bytes, "TMPDIR, or fewer pictures with --n")
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, np.uint8, "w+", shape=shape)
