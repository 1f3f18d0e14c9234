"""Load an image data set by its name."""

from __future__ import annotations

from pathlib import Path

from data_prep.errors import PrerequisiteError
from data_prep.imageset import ImageSet
from data_prep.store import read_record, read_split


def load_images(name: str, *, split: str, data_dir: str | Path = "data") -> ImageSet:
    """Load one split of a data set.

    name: an imported data set. split: ``"train"``, ``"test"`` or what else it has.
    data_dir: the folder of the data sets.
    Raises: InputError for an unknown split, PrerequisiteError for data that is not there.
    """
    folder = Path(data_dir) / name
    record = read_record(folder)
    if record is None:
        raise PrerequisiteError(
            f"expected the data set {name} in {folder}, got none; "
            f"run: python -m data_prep import PATH --name {name} --data-dir {data_dir}"
        )
    return read_split(folder, record, split)
