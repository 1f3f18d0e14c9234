"""Pictures of one's own: folders, archives, arrays, straight into an ``ImageSet``."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hostile import make_png
from PIL import Image

from data_prep import corrupt, load_images, own_pictures, planning
from data_prep.corruptions.engine import SMALLEST_SIDE
from data_prep.errors import InputError
from data_prep.importing import import_tree

Pack = Callable[[Path, str], Path]


def save(path: Path, *, size: tuple[int, int] = (40, 36), mode: str = "RGB", seed: int = 0) -> np.ndarray:
    """Save random pixels, (width, height) in size, and return them as RGB."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels).convert(mode)
    image.save(path)
    return np.asarray(image.convert("RGB"))


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """``class/file``, two classes, of one size."""
    for index, name in enumerate(["dog/b.png", "dog/a.png", "cat/a.png"]):
        save(tmp_path / "pets" / name, seed=index)
    return tmp_path / "pets"


def test_a_folder_of_classes_is_a_set(pets: Path) -> None:
    images = load_images(pets)
    assert (images.name, images.title, images.split, images.classes) == ("pets", "pets", "test", ("cat", "dog"))
    assert images.labels.tolist() == [0, 1, 1]
    assert images.indices.tolist() == [0, 1, 2]
    assert images.files is not None
    assert images.files.tolist() == ["a.png", "a.png", "b.png"]
    paths = [pets / "cat/a.png", pets / "dog/a.png", pets / "dog/b.png"]
    assert np.array_equal(images.pixels, [np.asarray(Image.open(path)) for path in paths])
    assert images.notes == ()
    assert load_images(str(pets)).fingerprint == images.fingerprint
    with pytest.raises(InputError, match=r"expected no split of .*pets, which is <class>/<file>, got 'val'"):
        load_images(pets, "val")


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz", ".tar.xz"])
def test_an_archive_is_what_its_folder_is(pets: Path, pack: Pack, suffix: str) -> None:
    archive = load_images(pack(pets, suffix))
    assert (archive.name, archive.fingerprint) == ("pets", load_images(pets).fingerprint)


def test_the_split_is_that_for_testing_unless_another_is_named(tmp_path: Path) -> None:
    for split, seed in (("train", 1), ("Valid", 2), ("odd", 3)):
        save(tmp_path / "set" / split / "cat" / "1.png", seed=seed)
    save(tmp_path / "set" / "train" / "ant" / "1.png")
    assert load_images(tmp_path / "set").split == "Valid"
    assert load_images(tmp_path / "set").labels.tolist() == [1]  # the label that it has in every split
    assert load_images(tmp_path / "set", "train").labels.tolist() == [0, 1]
    assert load_images(tmp_path / "set", "odd").labels.tolist() == [1]
    with pytest.raises(InputError, match=r"expected a split of .*set \(Valid, odd, train\), got 'test'"):
        load_images(tmp_path / "set", "test")


def test_folders_around_the_classes_are_no_split_unless_they_are_called_one(tmp_path: Path) -> None:
    save(tmp_path / "a" / "download" / "pets" / "cat" / "1.png")
    assert load_images(tmp_path / "a").split == "test"
    save(tmp_path / "b" / "plants" / "rose" / "1.png")
    save(tmp_path / "b" / "animals" / "cat" / "1.png")
    with pytest.raises(InputError, match=r"expected folders of splits .*, got animals, plants; name the requested one"):
        load_images(tmp_path / "b")
    assert load_images(tmp_path / "b", "plants").classes == ("cat", "rose")
    save(tmp_path / "c" / "train" / "1.png")
    save(tmp_path / "c" / "test" / "1.png")
    with pytest.raises(InputError, match="expected a folder for every class, got images directly in test, train"):
        load_images(tmp_path / "c")


def test_the_given_order_of_classes_is_that_of_the_labels(pets: Path, tmp_path: Path) -> None:
    listed = tmp_path / "classes.txt"
    listed.write_bytes("\ufeffdog\r\n\r\nno such pet\r\ncat\r\n".encode())
    for classes in (listed, str(listed), ["dog", "no such pet", "cat"]):
        images = load_images(pets, classes=classes)
        assert images.classes == ("dog", "no such pet", "cat")
        assert images.labels.tolist() == [2, 0, 0]
        assert images.notes == ("1 of the 3 classes have no picture here",)
    with pytest.raises(InputError, match=r"expected class folders such as dog in .*, got cat; rename"):
        load_images(pets, classes=["dog"])
    with pytest.raises(InputError, match=r"expected every class once in the classes, got 'dog' twice"):
        load_images(pets, classes=["dog", "cat", "dog"])
    with pytest.raises(InputError, match=r"expected a file of class names, got .*nowhere, which is not there"):
        load_images(pets, classes=tmp_path / "nowhere")


def test_the_fingerprint_covers_pixels_labels_and_classes(pets: Path) -> None:
    before = load_images(pets).fingerprint
    assert load_images(pets, classes=["cat", "dog", "fox"]).fingerprint != before
    assert load_images(pets, classes=["dog", "cat"]).fingerprint != before
    save(pets / "cat" / "a.png", seed=9)
    assert load_images(pets).fingerprint != before


@pytest.mark.parametrize("suffix", ["bmp", "gif", "tif", "TIFF", "ppm", "pgm", "jfif", "jpe", "webp"])
def test_pictures_of_every_suffix_are_read(tmp_path: Path, suffix: str) -> None:
    buffer = io.BytesIO()
    kind = {"tif": "TIFF", "jfif": "JPEG", "jpe": "JPEG", "pgm": "PPM"}.get(suffix, suffix.upper())
    grey = Image.fromarray(np.arange(1600, dtype=np.uint8).reshape(40, 40))
    grey.save(buffer, kind, **({"lossless": True} if kind == "WEBP" else {}))
    path = tmp_path / "x" / "cat" / f"1.{suffix}"
    path.parent.mkdir(parents=True)
    path.write_bytes(buffer.getvalue())
    (pixels,) = load_images(tmp_path / "x").pixels
    tolerance = 12 if kind == "JPEG" else 0
    np.testing.assert_allclose(pixels.astype(int), np.asarray(grey)[..., None].repeat(3, -1), atol=tolerance)


def test_pictures_of_small_sizes_get_their_median_short_side(tmp_path: Path) -> None:
    for index, size in enumerate([(50, 40), (40, 44), (36, 90), (60, 60), (400, 300)]):
        save(tmp_path / "x" / "cat" / f"{index}.png", size=size)
    images = load_images(tmp_path / "x")
    assert images.pixels.shape == (5, 40, 40, 3)  # short sides 40, 40, 36, 60, 300
    (note,) = images.notes
    assert note == (
        "the pictures have 5 sizes, from 44 x 40 to 300 x 400: each was resized to a short side of 40 pixels and its "
        "centre of 40 x 40 kept; --resize and --crop choose otherwise"
    )
    assert load_images(tmp_path / "x", resize=64).pixels.shape == (5, 64, 64, 3)
    assert load_images(tmp_path / "x", resize=64, crop=48).pixels.shape == (5, 48, 48, 3)
    assert load_images(tmp_path / "x", resize=64, crop=48).notes == ()
    with pytest.raises(
        InputError, match=r"cat/0\.png: expected at least 41 pixels a side to crop, got .*; add --resize"
    ):
        load_images(tmp_path / "x", crop=41)


def test_large_pictures_are_prepared_as_those_of_imagenet(tmp_path: Path) -> None:
    for index, size in enumerate([(300, 224), (100, 120), (500, 375)]):
        save(tmp_path / "x" / "cat" / f"{index}.png", size=size)
    images = load_images(tmp_path / "x")
    expected = Image.open(tmp_path / "x" / "cat" / "2.png").resize((341, 256), Image.Resampling.BILINEAR)
    left = round((341 - 224) / 2)
    assert np.array_equal(images.pixels[2], np.asarray(expected.crop((left, 16, left + 224, 240))))
    assert "short side of 256 pixels and its centre of 224 x 224 kept" in images.notes[0]


def test_pictures_that_corruptions_cannot_take_are_announced(tmp_path: Path) -> None:
    save(tmp_path / "x" / "7" / "1.png", size=(28, 28), mode="L")
    (note,) = load_images(tmp_path / "x").notes
    assert note.endswith("28 x 28 pixels and corruptions need 32 x 32 at least: --resize 32 enlarges them")
    with pytest.raises(InputError, match=r"at least 32 × 32, got 28 × 28; enlarge them first: --resize 32"):
        corrupt(load_images(tmp_path / "x").pixels, "contrast", severity=1, profile="cifar")
    enlarged = load_images(tmp_path / "x", resize=32)
    assert corrupt(enlarged.pixels, "contrast", severity=1, profile="cifar").shape == (1, 32, 32, 3)
    assert enlarged.notes == ()
    assert planning.SMALLEST_SIDE == SMALLEST_SIDE


def test_pixels_are_taken_as_stored_and_turned_pictures_are_announced(pets: Path) -> None:
    """As torchvision and timm read them, with which most models were trained."""
    exif = Image.Exif()
    exif[274] = 6
    pixels = np.arange(36 * 40 * 3, dtype=np.uint8).reshape(36, 40, 3)
    Image.fromarray(pixels).save(pets / "cat" / "a.png", exif=exif)
    images = load_images(pets)
    assert np.array_equal(images.pixels[0], pixels)
    assert len(images.notes) == 1
    assert "1 picture, such as cat/a.png, would be turned by an EXIF orientation" in images.notes[0]


@pytest.mark.parametrize("twin", ["CAT", "\uff43at"])
def test_classes_that_look_alike_are_announced(pets: Path, twin: str) -> None:
    save(pets / twin / "a.png")
    images = load_images(pets)
    assert len(images.classes) == 3
    assert images.notes[-1].endswith("are two classes, and differ only in case or in the coding of a letter")


def test_a_class_that_yields_nothing_is_refused_by_name(pets: Path, pack: Pack) -> None:
    """Labels of the classes behind it would move by one."""
    (pets / "bird").mkdir()
    with pytest.raises(
        InputError, match=r"pets: expected pictures in every class, got an empty folder in bird; convert"
    ):
        load_images(pets)
    for suffix in ("heic", "heic", "avif"):
        (pets / "bird" / f"{len(list((pets / 'bird').iterdir()))}.{suffix}").write_bytes(b"x")
    (pets / "bird" / "link.jpg").symlink_to("nowhere")
    message = r"expected pictures in every class, got only 2 \.heic, 1 \.avif, 1 \.jpg \(a link to nothing\) in bird"
    with pytest.raises(InputError, match=message):
        load_images(pets)
    with pytest.raises(InputError, match=message):
        import_tree(pets, name="pets", data_dir=pets.parent / "data")
    (pets / "bird" / "link.jpg").unlink()
    with pytest.raises(InputError, match=r"got only 2 \.heic, 1 \.avif in bird"):
        load_images(pack(pets, ".zip"))
    images = load_images(pets, classes=["cat", "dog"])  # the list says that it is no class
    assert images.notes == ("skipped 3 files without an image suffix: 2 .heic, 1 .avif",)


def test_a_class_without_pictures_in_one_split_is_refused_where_it_holds_other_files(tmp_path: Path) -> None:
    save(tmp_path / "x" / "train" / "cat" / "1.png")
    save(tmp_path / "x" / "test" / "dog" / "1.png")
    (tmp_path / "x" / "test" / "cat").mkdir()  # none there, and the label is known from the other split
    assert load_images(tmp_path / "x").labels.tolist() == [1]
    (tmp_path / "x" / "test" / "cat" / "1.heic").write_bytes(b"x")
    with pytest.raises(InputError, match=r"got only 1 \.heic in test/cat"):
        load_images(tmp_path / "x")
    (tmp_path / "only" / "cat").mkdir(parents=True)
    (tmp_path / "only" / "cat" / "1.txt").write_text("")
    with pytest.raises(InputError, match=r"expected pictures \(.*\) in .*only, got only 1 \.txt; convert them"):
        load_images(tmp_path / "only")


def test_files_that_are_no_pictures_are_counted_and_hidden_ones_are_not(pets: Path) -> None:
    expected = load_images(pets).fingerprint
    for name in ("README", "cat/list.txt", "notes/x.TXT", "dog/._a.png", ".cache/1.png", "dog/Thumbs.db", ".DS_Store"):
        path = pets / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("x")
    with pytest.raises(InputError, match=r"got only 1 \.txt in notes; convert them, or move the folder away"):
        load_images(pets)
    (pets / "notes" / "x.TXT").rename(pets / "x.TXT")
    (pets / "notes").rmdir()
    images = load_images(pets)
    assert images.notes == ("skipped 3 files without an image suffix: 2 .txt, 1 without a suffix",)
    assert images.fingerprint == expected


def png_of_16_bits(colour: int) -> bytes:
    """A PNG of 2 × 2, 16 bits per channel: Pillow writes none."""
    channels = {2: 3, 4: 2, 6: 4}[colour]
    rows = (b"\0" + np.full((2, channels), 4095, ">u2").tobytes()) * 2
    return make_png(2, bits=16, colour=colour, rows=rows)


def tiff_of_16_bits() -> bytes:
    """A TIFF of 2 × 2, RGB of 16 bits."""
    tags = [(256, 3, 1, 2), (257, 3, 1, 2), (258, 3, 3, 122), (259, 3, 1, 1), (262, 3, 1, 2), (273, 4, 1, 128)]
    tags += [(277, 3, 1, 3), (278, 3, 1, 2), (279, 4, 1, 24)]
    ifd = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4)
    return b"II*\0\x08\0\0\0" + ifd + struct.pack("<3H", 16, 16, 16) + np.full(12, 4095, "<u2").tobytes()


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("rgb.png", png_of_16_bits(2)),
        ("la.png", png_of_16_bits(4)),
        ("rgba.png", png_of_16_bits(6)),
        ("rgb.ppm", b"P6 2 2 65535\n" + np.full(12, 4095, ">u2").tobytes()),
        ("commented.ppm", b"P6\n# 8 bits, honestly\n2 2\n# 255\n65535\n" + np.full(12, 4095, ">u2").tobytes()),
        ("plain.ppm", b"P3 2 2 4095\n" + b"4095 " * 12),
        ("rgb.tif", tiff_of_16_bits()),
    ],
)
def test_colour_of_more_than_8_bits_is_refused_by_its_header(tmp_path: Path, name: str, data: bytes) -> None:
    """Pillow keeps the upper 8 bits: 4095 would become 15, and nothing would say so."""
    path = tmp_path / "x" / "cat" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    with Image.open(path) as image:
        assert image.convert("RGB").getpixel((1, 1)) in [(15, 15, 15), (16, 16, 16), (255, 255, 255)]
    with pytest.raises(InputError, match=rf"cat/{name}: expected 8 bits per channel, got 1[26]; convert it first"):
        load_images(tmp_path / "x")


def test_a_subset_is_that_of_the_whole(pets: Path, pack: Pack) -> None:
    whole = load_images(pets)
    for source in (pets, pack(pets, ".tar")):
        some = load_images(source, n=2, seed=3)
        assert some.fingerprint == whole.subset(2, seed=3).fingerprint
        assert some.files is not None
        assert some.files.tolist() == whole.subset(2, seed=3).files.tolist()  # type: ignore[union-attr]


def test_many_pictures_lie_in_a_file(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = load_images(pets)
    monkeypatch.setattr(own_pictures, "IN_MEMORY_BYTES", 100)
    images = load_images(pets)
    assert isinstance(images.pixels, np.memmap)
    assert images.fingerprint == expected.fingerprint


def test_an_import_is_found_by_its_folder_and_by_its_name(pets: Path, tmp_path: Path) -> None:
    record = import_tree(pets, name="mine", data_dir=tmp_path / "data")
    assert record.counts == {"test": 3}
    assert load_images(tmp_path / "data" / "mine").fingerprint == record.fingerprints["test"]
    assert load_images("mine", data_dir=tmp_path / "data").fingerprint == record.fingerprints["test"]
    with pytest.raises(InputError, match="expected --resize and --crop with a folder or an archive of pictures"):
        load_images("mine", data_dir=tmp_path / "data", resize=4)
    with pytest.raises(InputError, match="expected the classes of mine in their own order"):
        load_images("mine", data_dir=tmp_path / "data", classes=["dog", "cat"])


def test_a_path_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"expected a folder, an archive or a \.npz, got .*nowhere, which is not there"
    ):
        load_images(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"or the path of a folder or archive of pictures, got '.*nowhere'"):
        load_images(str(tmp_path / "nowhere"))


def test_tiny_imagenet_is_read_as_it_unpacks(tmp_path: Path, pack: Pack) -> None:
    """Pictures of val lie in one folder, and a list has their classes; the pictures of test have none."""
    root = tmp_path / "tiny-imagenet-200"
    names = [
        "val/images/val_0",
        "val/images/val_1",
        "train/n1/images/n1_0",
        "train/n2/images/n2_0",
        "test/images/test_0",
    ]
    for seed, name in enumerate(names):
        save(root / f"{name}.JPEG", seed=seed)
    (root / "train" / "n1" / "n1_boxes.txt").write_text("n1_0.JPEG\t0\t0\t9\t9\n")
    (root / "val" / "val_annotations.txt").write_text("val_0.JPEG\tn2\t0\t0\t9\t9\nval_1.JPEG\tn1\t0\t0\t9\t9\n")
    for source in (root, pack(root, ".zip")):
        images = load_images(source, "val")
        assert images.classes == ("n1", "n2")
        assert images.files is not None
        assert list(zip(images.files.tolist(), images.labels.tolist(), strict=True)) == [
            ("val_1.JPEG", 0),
            ("val_0.JPEG", 1),
        ]
        assert images.notes[1] == "skipped 1 pictures of unknown class, such as test/images/test_0.JPEG"
        assert load_images(source, "train").labels.tolist() == [0, 1]
    record = import_tree(root, name="tiny", data_dir=tmp_path / "data")
    assert record.counts == {"train": 2, "val": 2}
    (tmp_path / "x" / "test").mkdir(parents=True)
    (root / "test" / "images").rename(tmp_path / "x" / "test" / "images")
    (tmp_path / "x" / "val_annotations.txt").write_text("")
    with pytest.raises(InputError, match=r"expected pictures with classes in .*x, got none that val_annotations"):
        load_images(tmp_path / "x")
    (root / "val" / "val_annotations.txt").write_text("val_0.JPEG\tn2\t0\t0\t9\t9\n")
    with pytest.raises(InputError, match=r"expected val_1\.JPEG in val_annotations\.txt, got no class for it"):
        load_images(root, "val")
