from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from data_prep import load_images
from data_prep.decode import Geometry
from data_prep.errors import InputError, PrerequisiteError
from data_prep.files import digest_of, locked
from data_prep.importing import import_tree
from data_prep.store import read_record

Pack = Callable[[Path, str], Path]
MakeTree = Callable[..., Path]


def files_in(folder: Path) -> set[str]:
    """Names of the files below a folder, other than locks."""
    return {path.name for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"}


def test_every_image_lies_where_its_label_says(tree: Path, tmp_path: Path) -> None:
    record = import_tree(tree, name="toy", note="copy", data_dir=tmp_path / "data")
    assert record.classes == ("apple", "cat")
    assert record.counts == {"test": 4, "train": 6}
    assert record.title == "toy (copy)"
    for split, count in (("train", 3), ("test", 2)):
        images = load_images("toy", split, tmp_path / "data")
        assert images.title == "toy (copy)"
        assert images.labels.tolist() == [0] * count + [1] * count
        assert images.pixels.shape == (2 * count, 6, 8, 3)
        paths = [tree / split / name / f"{number}.png" for name in images.classes for number in range(count)]
        assert images.files is not None
        assert images.files.tolist() == [path.name for path in paths]
        assert images.subset(2).files.tolist() == images.files[images.subset(2).indices].tolist()
        assert np.array_equal(images.pixels, [np.asarray(Image.open(path)) for path in paths])
        assert images.fingerprint == record.fingerprints[split]


def test_the_images_are_mapped_and_not_copied(tree: Path, tmp_path: Path) -> None:
    import_tree(tree, name="toy", data_dir=tmp_path)
    pixels = load_images("toy", "test", tmp_path).pixels
    assert isinstance(pixels, np.memmap)
    assert not pixels.flags.writeable


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".tar.xz", ".zip"])
def test_archives_and_folders_give_the_same_set(tree: Path, pack: Pack, tmp_path: Path, suffix: str) -> None:
    from_folder = import_tree(tree, name="folder", data_dir=tmp_path)
    archive = pack(tree, suffix)
    from_archive = import_tree(archive, name="archive", data_dir=tmp_path)
    assert from_archive.fingerprints == from_folder.fingerprints
    assert (from_archive.source, from_archive.source_sha256) == (archive.name, digest_of(archive, "sha256"))
    assert (from_folder.source, from_folder.source_sha256) == ("tree", None)


def test_a_class_that_one_split_lacks_keeps_its_label(tree: Path, tmp_path: Path) -> None:
    for path in (tree / "test" / "apple").iterdir():
        path.unlink()
    import_tree(tree, name="toy", data_dir=tmp_path)
    images = load_images("toy", "test", tmp_path)
    assert images.labels.tolist() == [1, 1]
    assert images.classes == ("apple", "cat")


def test_labels_of_imagenet_are_the_official_class_indices(tree: Path, tmp_path: Path) -> None:
    """Also where only some of the classes are there."""
    with pytest.raises(
        InputError, match=r"expected class folders such as n01440764 in .*, got apple, cat; rename them"
    ):
        import_tree(tree, name="imagenet", data_dir=tmp_path / "data")
    for split in ("train", "test"):
        (tree / split / "apple").rename(tree / split / "n01443537")  # goldfish
        (tree / split / "cat").rename(tree / split / "n02123045")  # tabby
    import_tree(tree, name="imagenet", data_dir=tmp_path / "data")
    images = load_images("imagenet", "test", tmp_path / "data")
    assert images.labels.tolist() == [1, 1, 281, 281]
    assert len(images.classes) == 1000
    assert list(images.classes) == sorted(images.classes)


def test_an_import_without_file_names_can_still_be_read(tree: Path, tmp_path: Path) -> None:
    import_tree(tree, name="toy", data_dir=tmp_path)
    (tmp_path / "toy" / "test.files.npy").unlink()
    assert load_images("toy", "test", tmp_path).files is None
    assert load_images("toy", "train", tmp_path).files is not None


def test_unequal_sizes_need_flags(tree: Path, tmp_path: Path) -> None:
    Image.new("RGB", (10, 7)).save(tree / "train" / "cat" / "1.png")
    with pytest.raises(InputError, match=r"6 x 8 like the first, got train/cat/1\.png with 7 x 10; add --resize"):
        import_tree(tree, name="toy", data_dir=tmp_path / "data")
    assert not (tmp_path / "data" / "toy").exists()
    record = import_tree(tree, name="toy", data_dir=tmp_path / "data", geometry=Geometry(resize=6, crop=5))
    assert (record.image_size, record.resize, record.crop) == ((5, 5), 6, 5)


def test_a_damaged_image_is_named_and_nothing_stays(tree: Path, tmp_path: Path) -> None:
    path = tree / "train" / "cat" / "1.png"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(InputError, match=r"train/cat/1\.png: expected a whole image file"):
        import_tree(tree, name="toy", data_dir=tmp_path / "data")
    assert files_in(tmp_path / "data") == set()


def test_an_image_packed_twice_is_refused(tree: Path, pack: Pack, tmp_path: Path) -> None:
    archive = pack(tree, ".tar")
    with tarfile.open(archive, "a") as tar:
        tar.add(tree / "train" / "cat" / "1.png", arcname="train/cat/1.png")
    with pytest.raises(InputError, match=r"expected every image once, got train/cat/1\.png twice"):
        import_tree(archive, name="toy", data_dir=tmp_path)


def test_a_tree_without_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"or <split>/<class>/<file> in empty, got none"):
        import_tree(tmp_path / "empty", name="toy", data_dir=tmp_path)


@pytest.mark.parametrize("name", ["../toy", "a/b", "", ".hidden", "a b", "x" * 65])
def test_names_that_could_escape_are_refused(tree: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="expected a name of at most 64 letters"):
        import_tree(tree, name=name, data_dir=tmp_path / "data")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("name", ["shapes", "cifar10c", "CIFAR-10-C", "ImageNet-C-generated", "cifar-100-python"])
def test_names_of_other_sources_are_refused(tree: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="expected a name other than"):
        import_tree(tree, name=name, data_dir=tmp_path)


def test_a_split_that_is_no_file_name_is_refused(tree: Path, tmp_path: Path) -> None:
    (tree / "train").rename(tree / "my train")
    with pytest.raises(InputError, match="got 'my train'"):
        import_tree(tree, name="toy", data_dir=tmp_path)


def test_classes_and_notes_that_no_record_can_hold_are_refused(tree: Path, pack: Pack, tmp_path: Path) -> None:
    (tree / "train" / "cat").rename(tree / "train" / os.fsdecode(b"caf\xe9"))
    for source in (tree, pack(tree, ".tar")):
        with pytest.raises(InputError, match=r"expected UTF-8 text, got caf\\udce9; give it another name"):
            import_tree(source, name="toy", data_dir=tmp_path / "data")
    with pytest.raises(InputError, match=r"expected UTF-8 text, got JPEG\\udce9"):
        import_tree(tree, name="toy", note=os.fsdecode(b"JPEG\xe9"), data_dir=tmp_path / "data")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("record", [None, "{", '{"schema_version": 0}'])
def test_a_second_import_needs_replace_and_drops_old_splits(
    make_tree: MakeTree, tmp_path: Path, record: str | None
) -> None:
    """Also where the record of the first one is damaged or of another version."""
    import_tree(make_tree("old", train=1, test=1), name="toy", data_dir=tmp_path)
    if record is not None:
        (tmp_path / "toy" / "dataset.json").write_text(record)
        with pytest.raises(InputError, match="import the data set again with --replace"):
            load_images("toy", "test", tmp_path)
    new = make_tree("new", test=2)
    with pytest.raises(InputError, match="add --replace"):
        import_tree(new, name="toy", data_dir=tmp_path)
    import_tree(new, name="toy", data_dir=tmp_path, replace=True)
    assert files_in(tmp_path / "toy") == {"dataset.json", "test.pixels.npy", "test.labels.npy", "test.files.npy"}
    assert len(load_images("toy", "test", tmp_path)) == 4


def test_a_failed_replacement_leaves_the_old_set(make_tree: MakeTree, tmp_path: Path) -> None:
    old = import_tree(make_tree("old"), name="toy", data_dir=tmp_path)
    bad = make_tree("bad")
    (bad / "train" / "cat" / "0.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"train/cat/0\.png"):
        import_tree(bad, name="toy", data_dir=tmp_path, replace=True)
    assert load_images("toy", "train", tmp_path).fingerprint == old.fingerprints["train"]


def test_a_small_disk_is_noticed_before_anything_is_decoded(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10 * 6 * 8 * 3 - 1))
    with pytest.raises(PrerequisiteError, match="free some space or choose another --data-dir"):
        import_tree(tree, name="toy", data_dir=tmp_path / "data")
    assert files_in(tmp_path / "data") == set()


def test_a_killed_import_leaves_no_data_set_and_can_be_run_again(make_tree: MakeTree, tmp_path: Path) -> None:
    tree = make_tree(train=1500, size=(32, 32))
    command = [sys.executable, "-m", "data_prep", "import", str(tree), "--name", "toy", "--data-dir", str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    started = tmp_path / "toy" / ".importing" / "train.pixels.npy"
    while not started.exists():
        assert process.poll() is None, "the import ended before it could be killed"
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert read_record(tmp_path / "toy") is None
    assert not list((tmp_path / "toy").glob("*.npy"))
    import_tree(tree, name="toy", data_dir=tmp_path)
    assert files_in(tmp_path / "toy") == {"dataset.json", "train.pixels.npy", "train.labels.npy", "train.files.npy"}


def test_the_real_archive(shared_data: Path, tmp_path: Path) -> None:
    record = import_tree(
        shared_data / "imagenet-sample.tar", name="imagenet", data_dir=tmp_path, geometry=Geometry(resize=32, crop=32)
    )
    assert (record.counts, len(record.classes), record.classes[0]) == ({"val": 1000}, 1000, "n01440764")
    images = load_images("imagenet", "val", tmp_path)
    assert images.labels.tolist() == list(range(1000))
    assert images.files is not None
    assert images.files[1] == "n01443537_goldfish.JPEG"


def test_a_second_import_of_a_name_keeps_out_of_the_first(tree: Path, tmp_path: Path) -> None:
    """It cleared the folder that the first was writing to, whose labels then went to the pixels of the second."""
    with locked(tmp_path / ".toy.lock"), pytest.raises(InputError, match=r"another import is writing to .*; wait"):
        import_tree(tree, name="toy", data_dir=tmp_path)
    assert import_tree(tree, name="toy", data_dir=tmp_path).counts == {"test": 4, "train": 6}
