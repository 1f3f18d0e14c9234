"""Natural shifts: small sets in the official layouts, whose colours say which class they are of."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_prep import ImageSet
from data_prep.class_lists import imagenet_wnids
from data_prep.decode import Geometry
from data_prep.errors import InputError, PrerequisiteError
from data_prep.shifts import CIFAR10_CLASSES, SHIFTS, find_shifts, list_shifts, read_shift
from data_prep.subsets import ClassSubset, group_subset, imagenet_subset, objectnet_groups, read_wnids, whole_subset

SMALL = Geometry(resize=8, crop=8)
WNIDS = imagenet_wnids()


def write_classes(folder: Path, classes: Iterable[tuple[str, int]], *, size: int = 8, border: int = 0) -> Path:
    """A picture for each (folder, class of ImageNet): its colour is the number of the class."""
    for name, index in classes:
        (folder / name).mkdir(parents=True)
        inner = Image.new("RGB", (size, size), (index // 256, index % 256, 7))
        framed = Image.new("RGB", (size + 2 * border, size + 2 * border), (255, 0, 0))
        framed.paste(inner, (border, border))
        framed.save(folder / name / f"{len(name)}.png")
    (folder / "README.txt").write_text("as in the official archives")
    return folder


def shown(images: ImageSet) -> list[int]:
    """The class that each image shows."""
    assert (images.pixels == images.pixels[:, :1, :1]).all()
    return (images.pixels[:, 0, 0, 0].astype(int) * 256 + images.pixels[:, 0, 0, 1]).tolist()


def test_folders_of_imagenet_v2_are_numbers_and_do_not_sort_as_text(tmp_path: Path) -> None:
    path = write_classes(tmp_path / SHIFTS["imagenetv2"].places[0], ((str(index), index) for index in range(1000)))
    shift = read_shift("imagenetv2", tmp_path, geometry=SMALL)
    assert shift.images.labels.tolist() == shown(shift.images)
    assert shift.images.labels[:4].tolist() == [0, 1, 10, 100]
    assert shift.images.classes == WNIDS
    assert shift.subset.is_whole
    assert shift.images.notes[-1].startswith("ImageNet-V2 has 10,000 images, and 1,000 are here")
    some = read_shift("imagenetv2", path=path, geometry=SMALL, n=20, seed=1).images
    assert some.fingerprint == shift.images.subset(20, seed=1).fingerprint
    (path / "999").rename(path / "1000")
    with pytest.raises(
        InputError, match=r"expected pictures in the folder of every class in .*, got none in 1 of 1,000"
    ):
        read_shift("imagenetv2", tmp_path, geometry=SMALL)


@pytest.mark.parametrize(("name", "listed"), [("imageneta", "imagenet_a"), ("imagenetr", "imagenet_r")])
def test_imagenet_a_and_r_have_200_classes_by_wnid(tmp_path: Path, name: str, listed: str) -> None:
    wnids = read_wnids(listed)
    write_classes(tmp_path / SHIFTS[name].places[0], ((wnid, WNIDS.index(wnid)) for wnid in wnids))
    assert find_shifts(tmp_path) == {name: tmp_path / SHIFTS[name].places[0]}
    shift = read_shift(name, tmp_path, geometry=SMALL)
    assert shift.images.labels.tolist() == shown(shift.images)
    assert len(shift.subset) == 200
    assert set(shift.images.labels.tolist()) == set(np.flatnonzero(shift.subset.mask).tolist())
    other = tmp_path / SHIFTS[name].places[0] / "n01440764"  # a tench is in ImageNet-R only
    if name == "imageneta":
        (tmp_path / SHIFTS[name].places[0] / wnids[0]).rename(other)
        with pytest.raises(InputError, match=rf"got none in 1 of 200, such as {wnids[0]}"):
            read_shift(name, tmp_path, geometry=SMALL)
        write_classes(tmp_path / "more", [(wnids[0], 1)])
        (tmp_path / "more" / wnids[0]).rename(tmp_path / SHIFTS[name].places[0] / wnids[0])
        with pytest.raises(InputError, match=r"expected class folders such as .*, got n01440764"):
            read_shift(name, tmp_path, geometry=SMALL)


def test_the_lists_are_those_of_the_papers() -> None:
    """A few classes by name, and the numbers of classes that the papers state."""
    a, r = imagenet_subset("imagenet_a"), imagenet_subset("imagenet_r")
    assert np.flatnonzero(a.mask)[:8].tolist() == [6, 11, 13, 15, 17, 22, 23, 27]  # the first of the authors' indices
    assert np.flatnonzero(r.mask)[:6].tolist() == [1, 2, 4, 6, 8, 9]
    assert (len(a), len(r)) == (200, 200)
    groups = objectnet_groups()
    assert (len(groups), sum(map(len, groups.values()))) == (113, 125)
    objectnet = imagenet_subset("objectnet")
    assert (len(objectnet), int(objectnet.mask.sum())) == (113, 125)
    clocks = [WNIDS.index("n02708093"), WNIDS.index("n03196217")]  # analog and digital clock
    assert objectnet.representative[clocks].tolist() == [min(clocks)] * 2


def test_objectnet_folders_are_objects_and_its_frames_are_cut_off(tmp_path: Path) -> None:
    groups = objectnet_groups()
    subset = imagenet_subset("objectnet")
    classes = [(folder, WNIDS.index(wnids[-1])) for folder, wnids in groups.items()]
    write_classes(tmp_path / "objectnet-1.0" / "images", [*classes, ("battery", 999), ("air_freshener", 999)], border=2)
    shift = read_shift("objectnet", tmp_path, geometry=SMALL)
    assert len(shift.images) == 113
    assert shift.images.labels.tolist() == subset.representative[shown(shift.images)].tolist()
    assert len(set(shift.images.labels.tolist())) == 113


def test_sketches_have_all_classes(tmp_path: Path) -> None:
    write_classes(tmp_path / "sketch", ((wnid, index) for index, wnid in enumerate(WNIDS)))
    shift = read_shift("imagenetsketch", tmp_path, geometry=SMALL)
    assert shift.images.labels.tolist() == shown(shift.images)


def test_a_class_counts_under_its_representative() -> None:
    subset = group_subset({"clock": ("b", "d"), "cat": ("c",)}, "abcd")
    assert subset.representative.tolist() == [-1, 1, 2, 1]
    clean = ImageSet("x", "x", "val", np.zeros((4, 1, 1, 3), np.uint8), np.arange(4), tuple("abcd"), np.arange(4))
    kept = subset.restrict(clean)
    assert (kept.labels.tolist(), kept.indices.tolist()) == ([1, 2, 1], [1, 2, 3])
    assert subset.restrict(clean, n=2, seed=0).indices.tolist() == subset.restrict(clean).subset(2, 0).indices.tolist()
    assert whole_subset(4).restrict(clean) is clean
    with pytest.raises(InputError, match="expected images of 3 classes, got x with 4"):
        whole_subset(3).restrict(clean)
    with pytest.raises(InputError, match="expected classes that represent themselves"):
        ClassSubset(np.array([1, 2, 0]))
    with pytest.raises(InputError, match="expected every class of b once among 4 classes, got z"):
        group_subset({"a": ("a",), "b": ("z",)}, "abcd")


def write_cifar(folder: Path, n: int = 20) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    pixels, labels = rng.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8), rng.integers(0, 10, n, dtype=np.int32)
    np.save(folder / "cifar10.1_v6_data.npy", pixels)
    np.save(folder / "cifar10.1_v6_labels.npy", labels)
    np.savez(folder / "cifar102_test.npz", images=pixels, labels=labels, label_names=np.array(CIFAR10_CLASSES))
    return pixels, labels


@pytest.mark.parametrize("name", ["cifar10.1", "cifar10.2"])
def test_the_new_test_sets_of_cifar_are_read(tmp_path: Path, name: str) -> None:
    pixels, labels = write_cifar(tmp_path)
    shift = read_shift(name, tmp_path)
    assert np.array_equal(shift.images.pixels, pixels)
    assert shift.images.labels.tolist() == labels.tolist()
    assert shift.images.classes == CIFAR10_CLASSES
    assert set(find_shifts(tmp_path)) == {"cifar10.1", "cifar10.2"} == set(list_shifts(CIFAR10_CLASSES))
    assert "imagenetr" in list_shifts(imagenet_wnids())
    assert list_shifts(("cat", "dog")) == []
    assert len(read_shift(name, tmp_path, n=5).images) == 5


def test_files_of_cifar_that_are_not_as_published_are_refused(tmp_path: Path) -> None:
    pixels, labels = write_cifar(tmp_path)
    np.savez(tmp_path / "cifar102_test.npz", images=pixels, labels=labels, label_names=np.array(CIFAR10_CLASSES[::-1]))
    with pytest.raises(InputError, match=r"expected the classes of CIFAR-10 in .*, got truck, ship, horse, …"):
        read_shift("cifar10.2", tmp_path)
    np.savez(tmp_path / "cifar102_test.npz", images=pixels, labels=labels, label_names=np.array([open] * 10))
    assert len(read_shift("cifar10.2", tmp_path).images) == 20  # names that would have to be unpickled are left alone
    np.save(tmp_path / "cifar10.1_v6_labels.npy", labels[:-1])
    with pytest.raises(InputError, match=r"cifar10\.1_v6_data\.npy: expected labels as whole numbers \(20,\)"):
        read_shift("cifar10.1", tmp_path)
    np.save(tmp_path / "cifar10.1_v6_data.npy", pixels[:, :30])
    with pytest.raises(InputError, match=r"expected uint8 \(N, 32, 32, 3\) in .*, got uint8 \(20, 30, 32, 3\)"):
        read_shift("cifar10.1", tmp_path)


def test_what_is_not_there_is_said_with_the_way_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(
        PrerequisiteError, match=r"expected ImageNet-R in .*imagenet-r.*; unpack imagenet-r\.tar of https"
    ):
        read_shift("imagenetr", tmp_path)
    with pytest.raises(InputError, match=r"expected a shifted set \(imagenetv2, .*\), got 'imagenet-x'"):
        read_shift("imagenet-x", tmp_path)
