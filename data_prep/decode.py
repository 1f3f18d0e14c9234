"""Turn the bytes of an image file into pixels."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data_prep.errors import InputError

IMAGE_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "PPM")
MAX_PIXELS = 64_000_000
MAX_SIDE = 4096


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """How images are brought to one size: the test-time preparation of ImageNet is resize 256, crop 224.

    resize: pixels that the short side gets, bilinear with antialiasing; None leaves the size.
    crop: side of the centre square that is kept, in pixels; None keeps everything.

    Raises: InputError for a side below 1 or above ``MAX_SIDE`` and for a crop larger than the resize.
    """

    resize: int | None = None
    crop: int | None = None

    def __post_init__(self) -> None:
        for flag, value in (("--resize", self.resize), ("--crop", self.crop)):
            if value is not None and not 1 <= value <= MAX_SIDE:
                raise InputError(f"expected {flag} between 1 and {MAX_SIDE} pixels, got {value}")
        if self.resize is not None and self.crop is not None and self.crop > self.resize:
            raise InputError(f"expected a --crop of at most the --resize of {self.resize}, got {self.crop}")

    def apply(self, image: Image.Image) -> Image.Image:
        """Resize, then crop, with the roundings of torchvision's ``Resize`` and ``CenterCrop``."""
        short = min(image.size)
        if self.resize is not None and self.resize != short:
            width, height = (self.resize * side // short for side in image.size)
            if max(width, height) * self.resize > MAX_PIXELS:
                raise InputError(f"expected at most {MAX_PIXELS:,} pixels after the resize, got {width} x {height}")
            image = image.resize((width, height), Image.Resampling.BILINEAR)
        if self.crop is not None:
            if self.crop > min(image.size):
                raise InputError(f"expected at least {self.crop} pixels a side to crop, got {image.size}; add --resize")
            left, top = (round((side - self.crop) / 2) for side in image.size)
            image = image.crop((left, top, left + self.crop, top + self.crop))
        return image


AS_IS = Geometry()


def decode_image(data: bytes, geometry: Geometry = AS_IS) -> NDArray[np.uint8]:
    """Decode an image file to RGB.

    data: the bytes of a JPEG, PNG, BMP, WebP or PPM file; the format is found in the bytes.
    geometry: the resize and crop that follow.
    Returns: uint8 (H, W, 3).
    Raises: InputError for a file that is damaged, of another format, above ``MAX_PIXELS`` or too small for the crop,
        and for a grey one of more than 8 bits.
    """
    try:
        with Image.open(io.BytesIO(data), formats=IMAGE_FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise InputError(f"expected at most {MAX_PIXELS:,} pixels, got {image.width} x {image.height}")
            if image.mode == "F" or image.mode.startswith("I"):  # converted, it would be clipped at 255
                raise InputError(f"expected 8 bits per channel, got the mode {image.mode}; convert it first")
            return np.asarray(geometry.apply(image.convert("RGB")), dtype=np.uint8)
    except InputError:
        raise
    except Exception as error:  # a damaged file raises a variety of errors
        reason = str(error) or type(error).__name__
        raise InputError(f"expected a whole image file, got: {reason}; replace or remove it") from error
