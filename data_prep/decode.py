"""Decode the bytes of an image file to pixels."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from data_prep.errors import InputError

IMAGE_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "PPM", "GIF", "TIFF")
IMAGE_SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .jfif .png .bmp .dib .webp .ppm .pgm .pbm .pnm .gif .tif .tiff".split()  # noqa: SIM905
)
MAX_PIXELS = 64_000_000
MAX_SIDE = 4096
_TIFF_BITS_PER_SAMPLE, _EXIF_ORIENTATION = 258, 274
_PPM_HEADER = re.compile(rb"P[2356]((?:\s|#[^\n]*\n)+\d+){2}(?:\s|#[^\n]*\n)+(?P<most>\d{1,9})")
_PNG_DEPTH_AT = 24
_OF_SEVERAL = ("PNG", "WEBP", "GIF", "TIFF")
"""Formats that may hold several pictures without a main one. (In a phone's JPEG the first picture is the main one.)"""
_OTHERS = {
    rb"....ftyp(heic|heix|mif1|hevc)": "a HEIC picture",
    rb"....ftypavi[fs]": "an AVIF picture",
    rb"\x00\x00\x00\x0cjP  |\xff\x4f\xff\x51": "a JPEG 2000 picture",
    rb"8BPS": "a Photoshop file",
    rb"%PDF": "a PDF",
    rb"\s*<(!DOCTYPE html|html)": "a web page",
    rb"\s*(<\?xml[^>]*>\s*)?<svg": "an SVG drawing",
    rb"version https://git-lfs": "a pointer of Git LFS instead of the file",
}


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """The resize and crop that bring images to one size. ImageNet's test-time preparation is resize 256, crop 224.

    resize: length of the short side after resizing, in pixels, bilinear with antialiasing; None leaves the size.
    crop: side of the centre square that is kept, in pixels; None keeps everything.
    border: width in pixels of a frame that is not part of the picture and is cut off on every side first.

    Raises: InputError for a side below 1 or above ``MAX_SIDE`` and for a crop larger than the resize.
    """

    resize: int | None = None
    crop: int | None = None
    border: int = 0

    def __post_init__(self) -> None:
        for flag, value in (("--resize", self.resize), ("--crop", self.crop)):
            if value is not None and not 1 <= value <= MAX_SIDE:
                raise InputError(f"expected {flag} between 1 and {MAX_SIDE} pixels, got {value}; give another length")
        if self.resize is not None and self.crop is not None and self.crop > self.resize:
            raise InputError(
                f"expected a --crop of at most the --resize of {self.resize}, got {self.crop}; crop less or resize to "
                "more"
            )

    def resized(self, size: tuple[int, int]) -> tuple[int, int]:
        """Compute the (width, height) of an image of ``size`` between resize and crop. Raises: as ``apply``."""
        size = (size[0] - 2 * self.border, size[1] - 2 * self.border)
        short = min(size)
        if short < 1:
            raise InputError(f"expected a picture inside a border of {self.border} pixels, got none; replace it")
        if self.resize is not None and self.resize != short:
            width, height = (self.resize * side // short for side in size)
            if max(width, height) * self.resize > MAX_PIXELS:
                raise InputError(
                    f"expected at most {MAX_PIXELS:,} pixels after the resize, got {width} x {height}; give a smaller "
                    "--resize"
                )
            size = (width, height)
        if self.crop is not None and self.crop > min(size):
            raise InputError(f"expected at least {self.crop} pixels a side to crop, got {size}; add --resize")
        return size

    def size_of(self, size: tuple[int, int]) -> tuple[int, int]:
        """Compute the (width, height) of an image of ``size`` after ``apply``. Raises: as ``apply``."""
        resized = self.resized(size)
        return resized if self.crop is None else (self.crop, self.crop)

    def apply(self, image: Image.Image) -> Image.Image:
        """Resize, then crop, rounding as torchvision's ``Resize`` and ``CenterCrop`` do."""
        size = self.resized(image.size)
        if self.border:
            right, bottom = image.width - self.border, image.height - self.border
            image = image.crop((self.border, self.border, right, bottom))
        if size != image.size:
            image = image.resize(size, Image.Resampling.BILINEAR)
        if self.crop is not None:
            left, top = (round((side - self.crop) / 2) for side in size)
            image = image.crop((left, top, left + self.crop, top + self.crop))
        return image


AS_IS = Geometry()


def decode_image(data: bytes, geometry: Geometry = AS_IS) -> NDArray[np.uint8]:
    """Decode an image file to RGB: grey values become three equal ones, transparency is dropped.

    data: the bytes of a JPEG, PNG, BMP, WebP, PPM, GIF or TIFF file; the format is recognized from the bytes.
    geometry: the resize and crop to apply after decoding.
    Returns: uint8 (H, W, 3).
    Raises: InputError for a file that is damaged, has another format, holds several pictures, exceeds ``MAX_PIXELS``,
        is too small for the crop, or has more than 8 bits per channel according to its header.
    """
    with _opened(io.BytesIO(data)) as image:
        return np.asarray(geometry.apply(image.convert("RGB")), dtype=np.uint8)


def read_header(file: IO[bytes]) -> tuple[tuple[int, int], bool]:
    """Read from a header the (width, height) of a picture, and whether its EXIF orientation turns or mirrors it.

    Pixels are decoded as they are stored, as torchvision and timm do. Raises: as ``decode_image`` for errors in the
    header.
    """
    with _opened(file) as image:
        turned = False
        if "exif" in image.info:
            with suppress(Exception):  # damaged EXIF turns nothing
                turned = image.getexif().get(_EXIF_ORIENTATION, 1) in range(2, 9)
        return image.size, turned


@contextmanager
def _opened(file: IO[bytes]) -> Iterator[Image.Image]:
    """Open a picture after checking in its header that 8-bit RGB can hold all of it."""
    try:
        with Image.open(file, formats=IMAGE_FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise InputError(
                    f"expected at most {MAX_PIXELS:,} pixels, got {image.width} x {image.height}; make it smaller or "
                    "remove it"
                )
            if image.mode == "F" or image.mode.startswith("I"):  # converted, it would be clipped at 255
                raise InputError(f"expected 8 bits per channel, got the mode {image.mode}; convert it first")
            if (bits := _depth(file, image)) > 8:  # Pillow would silently keep only the upper 8
                raise InputError(f"expected 8 bits per channel, got {bits}; convert it first")
            if image.format in _OF_SEVERAL and getattr(image, "is_animated", False):
                raise InputError("expected one picture, got several in one file; save the one that is meant")
            yield image
    except InputError:
        raise
    except UnidentifiedImageError as error:  # Pillow's message is a memory address
        raise InputError(f"expected a whole image file, got {_guess(file)}; replace or remove it") from error
    except Exception as error:  # a damaged file raises a variety of errors
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise InputError(f"expected a whole image file, got: {reason}; replace or remove it") from error


def _depth(file: IO[bytes], image: Image.Image) -> int:
    """Read the bits per channel from the header; 8 for formats that never have more."""
    if image.format == "TIFF":
        bits = image.tag_v2.get(_TIFF_BITS_PER_SAMPLE, 8)  # type: ignore[attr-defined]
        return max(bits) if isinstance(bits, tuple) else int(bits)
    head = _head(file)
    if image.format == "PNG":
        return head[_PNG_DEPTH_AT]
    if image.format == "PPM" and (header := _PPM_HEADER.match(head)):
        return int(header["most"]).bit_length()
    return 8


def _head(file: IO[bytes]) -> bytes:
    """Read the first bytes again and restore the position in the file."""
    place = file.tell()
    file.seek(0)
    head = file.read(4096)
    file.seek(place)
    return head


def _guess(file: IO[bytes]) -> str:
    head = _head(file)
    for pattern, title in _OTHERS.items():
        if re.match(pattern, head, re.DOTALL | re.IGNORECASE):
            return title
    readable = "JPEG, PNG, BMP, WebP, PPM, GIF and TIFF are read"
    return f"one that is damaged or of another format ({readable})" if head else "an empty one"
