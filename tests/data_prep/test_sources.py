from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from data_prep import cifar, load_images, sources
from data_prep.errors import InputError, PrerequisiteError
from data_prep.importing import import_tree


@pytest.fixture
def toy(tree: Path, tmp_path: Path) -> Path:
    """A data folder with an imported data set."""
    import_tree(tree, name="toy", data_dir=tmp_path / "data")
    return tmp_path / "data"


def test_an_unknown_name_lists_what_there_is(toy: Path) -> None:
    with pytest.raises(
        InputError,
        match=r"\(shapes, cifar10, cifar100, imagenet, toy\) or the path of a folder .*, got 'cifar'; check it",
    ):
        load_images("cifar", "test", toy)


@pytest.mark.parametrize(("name", "splits"), [("toy", "test, train"), ("shapes", "train, test")])
def test_an_unknown_split_lists_what_there_is(toy: Path, name: str, splits: str) -> None:
    with pytest.raises(InputError, match=rf"expected a split of {name} \({splits}\), got 'val'"):
        load_images(name, "val", toy)


def test_missing_official_data_says_how_to_get_it(toy: Path) -> None:
    with pytest.raises(PrerequisiteError) as caught:
        load_images("cifar100", "test", toy)
    assert f"python -m data_prep download cifar100 --data-dir {toy}" in str(caught.value)
    assert f"python -m data_prep import PATH --name cifar100 --data-dir {toy}" in str(caught.value)


def test_commands_leave_the_default_folder_out() -> None:
    assert sources.command_line("list", data_dir=Path("data")) == "python -m data_prep list"
    assert sources.command_line("list", data_dir=Path("my data")) == "python -m data_prep list --data-dir 'my data'"


def test_a_tree_that_nobody_imported_says_so(make_tree: Callable[..., Path], tmp_path: Path) -> None:
    make_tree("data/mine")
    with pytest.raises(
        PrerequisiteError, match=r"run: python -m data_prep import .*data/mine --name mine --data-dir .*data"
    ):
        load_images("mine", "test", tmp_path / "data")
    import_tree(tmp_path / "data" / "mine", name="mine", data_dir=tmp_path / "data")
    assert len(load_images("mine", "test", tmp_path / "data")) == 4


def test_a_corrupted_archive_is_no_set_of_clean_images(toy: Path) -> None:
    with pytest.raises(InputError, match="got the -C archive cifar10c"):
        load_images("cifar10c", "test", toy)


@pytest.mark.parametrize("name", ["../data/toy", "toy/", ""])
def test_names_lead_nowhere_within_the_data_folder(toy: Path, name: str) -> None:
    with pytest.raises(InputError, match="expected a data set"):
        load_images(name, "test", toy)


def test_official_files_win_over_an_import(tree: Path, tmp_path: Path) -> None:
    import_tree(tree, name="cifar10", data_dir=tmp_path)
    assert load_images("cifar10", "test", tmp_path).title == "cifar10"
    (tmp_path / cifar.RELEASES["cifar10"].archive).write_bytes(b"")
    with pytest.raises(InputError, match="expected MD5"):
        load_images("cifar10", "test", tmp_path)


@pytest.mark.parametrize("file", ["test.pixels.npy", "test.labels.npy"])
def test_truncated_and_missing_arrays_are_named(toy: Path, file: str) -> None:
    path = toy / "toy" / file
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match=f"expected a whole array in .*{file}"):
        load_images("toy", "test", toy)
    path.unlink()
    with pytest.raises(InputError, match=f"expected an array in .*{file}, got no such file"):
        load_images("toy", "test", toy)


def test_arrays_of_another_shape_or_kind_are_refused(toy: Path) -> None:
    path = toy / "toy" / "test.pixels.npy"
    np.save(path, np.zeros((3, 6, 8, 3), np.uint8))
    with pytest.raises(InputError, match=r"expected shape \(4, 6, 8, 3\) in .*, got \(3, 6, 8, 3\)"):
        load_images("toy", "test", toy)
    np.save(path, np.array([None]), allow_pickle=True)
    with pytest.raises(InputError, match="expected a whole array"):
        load_images("toy", "test", toy)


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"schema_version": 1}', '{"schema_version": 1, "classes": 1, "image_size": 2}']
)
def test_a_damaged_record_is_refused(toy: Path, text: str) -> None:
    (toy / "toy" / "dataset.json").write_text(text)
    with pytest.raises(InputError, match=r"expected a data set record in .*dataset\.json"):
        load_images("toy", "test", toy)


def test_a_record_of_another_version_is_refused(toy: Path) -> None:
    path = toy / "toy" / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": 2}))
    with pytest.raises(InputError, match="expected schema version 1"):
        load_images("toy", "test", toy)
