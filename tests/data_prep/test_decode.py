from __future__ import annotations

import io

import numpy as np
import pytest
from hostile import make_png
from PIL import Image
from torchvision.transforms import v2

from data_prep.decode import Geometry, decode_image
from data_prep.errors import InputError


def encode(pixels: np.ndarray, format_name: str = "PNG", mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, format_name)
    return buffer.getvalue()


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * width).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("format_name", ["PNG", "BMP", "PPM"])
def test_lossless_formats_come_back_exactly(format_name: str) -> None:
    pixels = picture(5, 9)
    assert np.array_equal(decode_image(encode(pixels, format_name)), pixels)


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_other_colour_modes_become_rgb(mode: str) -> None:
    decoded = decode_image(encode(picture(8, 8), "JPEG", mode))
    assert decoded.shape == (8, 8, 3)
    assert decoded.dtype == np.uint8


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA"])
def test_pngs_of_8_bits_and_fewer_come_back_exactly(mode: str) -> None:
    image = Image.fromarray(picture(8, 8)).convert(mode)
    assert np.array_equal(decode_image(encode(picture(8, 8), mode=mode)), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("kind", ["PNG", "PGM"])
def test_grey_images_of_more_than_8_bits_are_refused(kind: str) -> None:
    """Converted to RGB they would be nearly white, whatever they show."""
    values = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    buffer = io.BytesIO()
    if kind == "PGM":
        buffer.write(b"P5 8 8 65535\n" + values.astype(">u2").tobytes())
    else:
        Image.fromarray(values).save(buffer, "PNG")
    with pytest.raises(InputError, match=r"expected 8 bits per channel, got the mode I.*; convert it first"):
        decode_image(buffer.getvalue())


def test_images_of_floats_are_refused() -> None:
    """By their mode, or by a Pillow that does not know them."""
    with pytest.raises(InputError, match=r"expected 8 bits per channel, got the mode F|expected a whole"):
        decode_image(b"Pf 8 8 -1.0\n" + np.zeros(64, "<f4").tobytes())


@pytest.mark.parametrize(("height", "width"), [(31, 47), (50, 33), (40, 40), (32, 45), (97, 61)])
def test_resize_and_crop_agree_with_torchvision(height: int, width: int) -> None:
    pixels = picture(height, width)
    reference = v2.Compose([v2.Resize(32), v2.CenterCrop(27)])(Image.fromarray(pixels))
    ours = decode_image(encode(pixels), Geometry(resize=32, crop=27))
    assert np.array_equal(ours, np.asarray(reference))


def test_resize_alone_keeps_the_aspect() -> None:
    assert decode_image(encode(picture(30, 47)), Geometry(resize=20)).shape == (20, 31, 3)


def test_crop_of_a_small_image_is_refused() -> None:
    with pytest.raises(InputError, match=r"at least 9 pixels a side to crop, got \(12, 8\); add --resize"):
        decode_image(encode(picture(8, 12)), Geometry(crop=9))


@pytest.mark.parametrize("sides", [{"resize": 0}, {"crop": 5000}, {"resize": 8, "crop": 9}])
def test_impossible_geometry_is_refused(sides: dict[str, int]) -> None:
    with pytest.raises(InputError, match="expected"):
        Geometry(**sides)


@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "BMP", "WEBP"])
def test_truncated_images_are_refused(format_name: str) -> None:
    data = encode(picture(32, 32), format_name)
    with pytest.raises(InputError, match="expected a whole image file"):
        decode_image(data[: len(data) // 2])


def test_damaged_checksum_is_refused() -> None:
    data = bytearray(encode(picture(32, 32)))
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(InputError, match="expected a whole image file"):
        decode_image(bytes(data))


@pytest.mark.parametrize("side", [8_500, 12_000, 50_000])
def test_decompression_bombs_are_refused_before_they_are_decoded(side: int) -> None:
    with pytest.raises(InputError, match="pixels"):
        decode_image(make_png(side))


def test_resize_of_a_sliver_is_refused() -> None:
    with pytest.raises(InputError, match="after the resize"):
        decode_image(encode(picture(1, 800)), Geometry(resize=300))


@pytest.mark.parametrize(
    ("data", "got"),
    [
        (b"\0\0\0\x18ftypheic" + bytes(40), "a HEIC picture"),
        (b"\0\0\0\x18ftypavif" + bytes(40), "an AVIF picture"),
        (b"<!doctype html><p>Not found", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1", "a pointer of Git LFS"),
        (b"GIF89a" + bytes(20), "one that is damaged or of another format"),
        (b"no picture", "one that is damaged or of another format"),
        (b"", "an empty one"),
    ],
)
def test_other_files_are_named_and_no_address_in_memory(data: bytes, got: str) -> None:
    with pytest.raises(InputError, match=f"expected a whole image file, got {got}") as caught:
        decode_image(data)
    assert "0x" not in str(caught.value)


@pytest.mark.parametrize("format_name", ["GIF", "TIFF", "PNG", "WEBP"])
def test_several_pictures_in_one_file_are_refused(format_name: str) -> None:
    """Nobody says which one is meant; of one picture there is no doubt."""
    buffer, first, second = io.BytesIO(), Image.new("RGB", (8, 8)), Image.new("RGB", (8, 8), (9, 9, 9))
    first.save(buffer, format_name, save_all=True, append_images=[second])
    with pytest.raises(InputError, match="expected one picture, got several in one file"):
        decode_image(buffer.getvalue())
    buffer = io.BytesIO()
    first.save(buffer, format_name, save_all=True)
    assert decode_image(buffer.getvalue()).shape == (8, 8, 3)


def test_a_border_is_cut_off_before_everything_else() -> None:
    inner = picture(20, 30)
    framed = np.pad(inner, ((2, 2), (2, 2), (0, 0)))
    expected = decode_image(encode(inner), Geometry(resize=10, crop=8))
    assert np.array_equal(decode_image(encode(framed), Geometry(resize=10, crop=8, border=2)), expected)
    with pytest.raises(InputError, match="expected a picture inside a border of 2 pixels"):
        decode_image(encode(picture(4, 9)), Geometry(border=2))
