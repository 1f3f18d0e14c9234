"""``python -m data_prep describe``: every known layout, by a small one."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_prep.__main__ import main
from data_prep.archives_c import CORRUPTIONS_3DCC
from data_prep.corruptions import level_folder
from data_prep.describe import describe
from data_prep.errors import EXIT_BAD_INPUT, EXIT_DONE, InputError
from data_prep.importing import import_tree
from data_prep.store import read_record
from data_prep.subsets import objectnet_groups, read_wnids

RNG = np.random.default_rng(0)


def save(path: Path, size: tuple[int, int] = (40, 36)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(path)


def test_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, size in (("dog/1.png", (40, 36)), ("dog/2.png", (40, 36)), ("cat/1.png", (50, 60))):
        save(tmp_path / "pets" / name, size)
    (tmp_path / "pets" / "list.txt").write_text("x")
    found = describe(tmp_path / "pets")
    assert (found.kind, found.images, found.classes) == ("pictures, <class>/<file>", {"test": 3}, ("cat", "dog"))
    assert found.sizes == {"36 x 40": 2, "60 x 50": 1}
    assert len(found.notes) == 2  # what was passed over, and how sizes would be made equal
    assert (found.hash_of, len(found.hash)) == ("names and sizes of its files", 64)
    (tmp_path / "pets" / ".DS_Store").write_text("x")
    assert describe(tmp_path / "pets").hash == found.hash
    assert main(["describe", str(tmp_path / "pets"), "--json"]) == EXIT_DONE
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(found.as_json()))
    assert main(["describe", str(tmp_path / "pets")]) == EXIT_DONE
    out = capsys.readouterr().out
    assert "classes:     2: cat, dog" in out
    assert "sizes:       36 x 40 (2), 60 x 50 (1)" in out


def test_splits_archives_and_imports(tmp_path: Path, pack) -> None:
    for split in ("train", "val"):
        save(tmp_path / "set" / split / "n01440764" / "1.png")
    packed = pack(tmp_path / "set", ".zip")
    found = describe(packed)
    assert (found.kind, found.images) == ("pictures, <split>/<class>/<file> in an archive", {"train": 1, "val": 1})
    assert found.hash == hashlib.sha256(packed.read_bytes()).hexdigest()
    assert 'give classes="imagenet"' in found.notes[-1]
    import_tree(tmp_path / "set", name="mine", note="copy", data_dir=tmp_path / "data")
    found = describe(tmp_path / "data" / "mine")
    record = read_record(tmp_path / "data" / "mine")
    assert record is not None
    assert (found.kind, found.data_set, found.images) == ("imported data set", "mine (copy)", record.counts)
    assert found.sizes == {"36 x 40": 2}


def test_archives_of_arrays(tmp_path: Path) -> None:
    folder = tmp_path / "CIFAR-10-C"
    folder.mkdir()
    np.save(folder / "labels.npy", np.zeros(4, np.uint8))
    for name in ("fog", "frost"):
        np.save(folder / f"{name}.npy", RNG.integers(0, 256, (20, 32, 32, 3), dtype=np.uint8))
    found = describe(folder)
    assert found.kind == "-C archive, <corruption>.npy"
    assert (found.corruptions, found.severities) == (("fog", "frost"), (1, 2, 3, 4, 5))
    assert (found.images, found.sizes) == ({"fog": 4, "frost": 4}, {"32 x 32": 2})
    assert found.notes[0].startswith("missing standard corruptions: brightness, contrast")
    (folder / "fog.npy").write_bytes(b"x")
    found = describe(folder)
    assert found.images == {"fog": None, "frost": 4}
    assert "expected a whole array in" in found.notes[0]
    assert describe(folder / "frost.npy").kind.startswith(
        "an array, uint8 (20, 32, 32, 3); with a labels.npy next to it"
    )


def test_archives_of_npz_files_and_folders_of_them(tmp_path: Path) -> None:
    folder = tmp_path / "MedMNIST-C" / "bloodmnist"
    folder.mkdir(parents=True)
    np.savez(folder / "pixelate.npz", test_images=np.zeros((10, 33, 34, 3), np.uint8), test_labels=np.zeros((10, 1)))
    found = describe(folder)
    assert (found.kind, found.images, found.sizes) == ("-C archive, <corruption>.npz", {"pixelate": 2}, {"33 x 34": 1})
    assert describe(folder.parent).kind == "folder of 1 -C archives: bloodmnist"


@pytest.mark.parametrize(
    ("corruptions", "classes", "side", "data_set"),
    [
        (("fog",), read_wnids("imagenet_a"), 64, "Tiny ImageNet-C"),
        (("fog",), ("n01440764",), 64, "1 classes of ImageNet"),
        (CORRUPTIONS_3DCC, ("n01440764",), 40, "ImageNet-3DCC"),
        (("fog",), ("cat",), 40, ""),
        (("perlin_noise",), ("n01440764",), 40, "1 classes of ImageNet"),
    ],
)
def test_archives_of_image_files(
    tmp_path: Path, corruptions: tuple[str, ...], classes: tuple[str, ...], side: int, data_set: str
) -> None:
    Image.new("RGB", (side, side)).save(tmp_path / "x.png")
    for corruption in corruptions:
        for severity in range(1, 6):
            for name in classes:
                path = tmp_path / "C" / corruption / level_folder(corruption, severity) / name
                path.mkdir(parents=True)
                (path / "1.png").hardlink_to(tmp_path / "x.png")
    found = describe(tmp_path / "C")
    assert found.kind == "-C archive, <corruption>/<severity>/<class>/<file>"
    assert (found.data_set, found.corruptions) == (data_set, tuple(sorted(corruptions)))
    assert found.images == {corruption: len(classes) for corruption in sorted(corruptions)}
    assert found.sizes == {f"{side} x {side}": len(corruptions)}
    assert found.classes == classes


def test_shifted_sets_are_known_by_their_classes(tmp_path: Path) -> None:
    for wnid in read_wnids("imagenet_r"):
        save(tmp_path / "renditions" / wnid / "1.png", (8, 8))
    found = describe(tmp_path / "renditions")
    assert found.kind == "natural shift, in its official layout"
    assert found.data_set.startswith("ImageNet-R, for models of imagenet: the largest of the logits of its 200 classes")
    assert (found.images, found.notes[-1]) == ({"test": 200}, "ImageNet-R has 30,000 images")
    for folder in objectnet_groups():
        save(tmp_path / "objects" / folder / "1.png", (8, 8))
    assert describe(tmp_path / "objects").data_set.startswith("ObjectNet")
    for number in range(1000):
        (tmp_path / "v2" / str(number)).mkdir(parents=True)
        (tmp_path / "v2" / str(number) / "1.png").hardlink_to(tmp_path / "objects" / folder / "1.png")
    assert describe(tmp_path / "v2").data_set.startswith("ImageNet-V2")
    np.savez(tmp_path / "cifar102_test.npz", images=np.zeros((7, 32, 32, 3), np.uint8), labels=np.zeros(7, int))
    found = describe(tmp_path / "cifar102_test.npz")
    assert (found.data_set[:10], found.images, found.sizes) == ("CIFAR-10.2", {"test": 7}, {"32 x 32": 7})


def test_sequences(tmp_path: Path) -> None:
    np.save(tmp_path / "gaussian_noise.npy", np.zeros((3, 31, 32, 32, 3), np.uint8))
    found = describe(tmp_path / "gaussian_noise.npy")
    assert (found.kind, found.sizes) == ("perturbation sequences, 3 of 31 frames", {"32 x 32": 3})
    (tmp_path / "P" / "tilt" / "n01440764").mkdir(parents=True)
    (tmp_path / "P" / "tilt" / "n01440764" / "1.mp4").write_bytes(b"x")
    found = describe(tmp_path / "P")
    assert (found.kind[:22], found.images, found.corruptions) == ("perturbation sequences", {"tilt": 1}, ("tilt",))


def test_what_cannot_be_described_is_said_in_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match=r"expected a folder or file, got .*nowhere, which is not there"):
        describe(tmp_path / "nowhere")
    (tmp_path / "x.npz").write_bytes(b"x")
    assert main(["describe", str(tmp_path / "x.npz")]) == EXIT_BAD_INPUT
    assert "expected a whole .npz of plain arrays" in capsys.readouterr().err
    np.save(tmp_path / "x.npy", np.array([open]), allow_pickle=True)
    with pytest.raises(InputError, match="expected a whole array"):
        describe(tmp_path / "x.npy")
