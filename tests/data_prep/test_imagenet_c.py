from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_prep import ImageSet, load_images
from data_prep.__main__ import main
from data_prep.archives_c import find_archive_c
from data_prep.class_lists import imagenet_wnids
from data_prep.corruptions import corruption_names
from data_prep.errors import EXIT_BAD_INPUT, EXIT_DONE, InputError
from data_prep.imagenet_c import ImageNetC

SIDE = 40
FILES = {"n02123045": ["b.JPEG", "a.JPEG"], "n01443537": ["a.JPEG"]}


def colour(corruption: str, severity: int, wnid: str, file: str) -> tuple[int, int, int]:
    """Return the value of every pixel of a file; no two files are alike."""
    return len(corruption) * 10, severity * 40, (list(FILES).index(wnid) + 1) * 60 + FILES[wnid].index(file) * 20


@pytest.fixture
def archive(tmp_path: Path) -> ImageNetC:
    """A small ImageNet-C of two corruptions, two classes and three files, one name in both classes."""
    for corruption in ("fog", "snow"):
        for severity in range(1, 6):
            for wnid, names in FILES.items():
                folder = tmp_path / "ImageNet-C" / corruption / str(severity) / wnid
                folder.mkdir(parents=True)
                for name in names:
                    Image.new("RGB", (SIDE, SIDE), colour(corruption, severity, wnid, name)).save(folder / name)
    return ImageNetC(tmp_path / "ImageNet-C")


@pytest.fixture
def clean() -> ImageSet:
    """The clean images in an order that neither the folders nor the files have."""
    wnids = imagenet_wnids()
    keys = [("n02123045", "a.JPEG"), ("n01443537", "a.JPEG"), ("n02123045", "b.JPEG")]
    labels = [wnids.index(wnid) for wnid, _ in keys]
    images = load_images((np.full((3, SIDE, SIDE, 3), 255, np.uint8), labels), classes=wnids)
    return replace(images, files=np.array([file for _, file in keys]))


def test_images_are_matched_by_wnid_and_name(archive: ImageNetC, clean: ImageSet) -> None:
    """Trap 7: labels by WNID, never by the order of folders."""
    assert clean.files is not None
    for corruption, severity in (("fog", 1), ("snow", 5)):
        rows = archive.match(clean, corruption, severity)
        assert len(rows) == 3
        for start in range(3):
            (pixels,) = rows[start : start + 1]
            expected = colour(corruption, severity, clean.classes[clean.labels[start]], clean.files[start])
            np.testing.assert_allclose(pixels.astype(int), np.broadcast_to(expected, (SIDE, SIDE, 3)), atol=4)
        np.testing.assert_array_equal(rows[0:3], np.concatenate([rows[0:1], rows[1:3]]))
        assert rows[0:3].dtype == np.uint8
    some = archive.match(clean.subset(1), "fog", 2)
    whole = archive.match(clean, "fog", 2)
    chosen = clean.subset(1).indices.item()
    np.testing.assert_array_equal(some[0:1], whole[chosen : chosen + 1])


def test_a_fingerprint_tells_levels_apart_by_names_and_sizes(archive: ImageNetC, tmp_path: Path) -> None:
    copy = ImageNetC(Path(shutil.copytree(archive.folder, tmp_path / "copy")))
    assert copy.fingerprint("fog", 1) == archive.fingerprint("fog", 1)
    file = copy.folder / "fog" / "1" / "n01443537" / "a.JPEG"
    file.write_bytes(file.read_bytes() + b"x")
    assert copy.fingerprint("fog", 1) != archive.fingerprint("fog", 1)
    assert copy.fingerprint("fog", 2) == archive.fingerprint("fog", 2)


def test_hidden_files_change_neither_fingerprint_nor_count(archive: ImageNetC, clean: ImageSet) -> None:
    """Systems leave them in every folder that somebody looks at."""
    expected = [archive.fingerprint("fog", severity) for severity in range(1, 6)]
    for name in (".DS_Store", "._a.JPEG", "Thumbs.db", "desktop.ini"):
        (archive.folder / "fog" / "1" / "n01443537" / name).write_bytes(b"x")
    (archive.folder / "fog" / "1" / "__MACOSX").mkdir()
    (archive.folder / ".Trashes" / "1").mkdir(parents=True)
    assert [archive.fingerprint("fog", severity) for severity in range(1, 6)] == expected
    assert archive.count("fog") == 3
    assert archive.corruptions() == ("fog", "snow")
    assert len(archive.match(clean, "fog", 1)) == 3


def test_nothing_is_decoded_before_it_is_asked_for(archive: ImageNetC, clean: ImageSet) -> None:
    damaged = archive.folder / "fog" / "3" / "n01443537" / "a.JPEG"
    damaged.write_bytes(damaged.read_bytes()[:-200])
    rows = archive.match(clean, "fog", 3)
    assert rows[0:1].shape == (1, SIDE, SIDE, 3)
    with pytest.raises(InputError, match=r"fog/3/n01443537/a\.JPEG: expected a whole image file"):
        rows[0:3]
    Image.new("RGB", (SIDE, SIDE + 1)).save(damaged)
    with pytest.raises(InputError, match=r"expected 40 x 40 like the clean images, got .*a\.JPEG with 41 x 40"):
        rows[1:2]


@pytest.mark.parametrize(
    ("removed", "message"),
    [
        ("fog", r"expected a folder fog in .*ImageNet-C, got only snow"),
        ("fog/4", r"expected a folder 4 in .*fog, got only 1, 2, 3, 5"),
        ("fog/4/n02123045", r"expected a file n02123045/a\.JPEG in .*fog/4 .*, got none for 2 of 3"),
        ("fog/4/n01443537/a.JPEG", r"expected a file n01443537/a\.JPEG in .*fog/4 .*, got none for 1 of 3"),
    ],
)
def test_what_is_missing_is_named(archive: ImageNetC, clean: ImageSet, removed: str, message: str) -> None:
    path = archive.folder / removed
    path.unlink() if path.is_file() else shutil.rmtree(path)
    with pytest.raises(InputError, match=message):
        archive.match(clean, "fog", 4)
    archive.match(clean, "snow", 4)


def test_images_without_names_cannot_be_matched(archive: ImageNetC, clean: ImageSet) -> None:
    with pytest.raises(InputError, match=r"expected images with file names .*, got arrays without any; import it"):
        archive.match(replace(clean, files=None), "fog", 1)


@pytest.mark.parametrize(("corruption", "severity"), [("../ImageNet-C/fog", 1), ("fog", 0), ("fog", 6), ("", 1)])
def test_other_corruptions_and_severities_are_refused(
    archive: ImageNetC, clean: ImageSet, corruption, severity
) -> None:
    with pytest.raises(InputError, match=r"expected a (folder|severity from 1 to 5)"):
        archive.match(clean, corruption, severity)


def test_it_is_found_counted_listed_and_verified(archive: ImageNetC, capsys: pytest.CaptureFixture[str]) -> None:
    data_dir = str(archive.folder.parent)
    assert find_archive_c("imagenetc", data_dir) == archive
    assert archive.corruptions() == ("fog", "snow")
    assert archive.count("fog") == 3
    assert main(["verify", "imagenetc", "--data-dir", data_dir]) == EXIT_BAD_INPUT
    assert "got none of brightness, contrast" in capsys.readouterr().err
    for name in corruption_names("all"):
        if name not in archive.corruptions():
            (archive.folder / name).symlink_to(archive.folder / "fog")
    assert main(["verify", "imagenetc", "--data-dir", data_dir]) == EXIT_DONE
    assert "imagenetc zoom_blur: 5 x 3 images" in capsys.readouterr().out
    main(["list", "--data-dir", data_dir])
    assert "19 corruptions" in capsys.readouterr().out
    with pytest.raises(InputError, match=r"expected a folder fog in .*, got no folder at all; unpack its archive"):
        ImageNetC(archive.folder / "fog" / "1" / "n02123045").count("fog")
    for severity in range(1, 6):
        shutil.rmtree(archive.folder / "fog" / str(severity))
        (archive.folder / "fog" / str(severity) / "n02123045").mkdir(parents=True)
    with pytest.raises(InputError, match=r"expected <wnid>/<file> in .*fog/1, got no file at all"):
        archive.count("fog")
    (archive.folder / "snow" / "5" / "n02123045" / "b.JPEG").unlink()
    with pytest.raises(InputError, match=r"the same files in .*snow/1 and .*snow/5, got n02123045/b\.JPEG in one only"):
        archive.count("snow")
