"""The shape of the images that a recorded program takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data_prep.errors import InputError
from robustness.measure.loaders.loaded import Wanted


def check_input_shape(path: Path, shape: tuple[Any, ...], wanted: Wanted) -> int | None:
    """Check the shape of a recorded program's input; return the number of images per call, None for any.

    Args:
        path: path of the program.
        shape: (N, C, H, W) of its input; entries that are not whole numbers are free.
        wanted: the data set's requirements.

    Raises:
        InputError: the program does not take images of three channels, or not of this size.
    """
    if len(shape) != 4 or (isinstance(shape[1], int) and shape[1] != 3):
        raise InputError(f"{path} takes inputs of shape {shape}: expected images (N, 3, H, W) in [0, 1]")
    size = wanted.image_size
    if size and any(isinstance(own, int) and own != other for own, other in zip(shape[2:], size, strict=True)):
        raise InputError(
            f"{path} was recorded for images of {shape[2]} × {shape[3]} pixels and these have {size[0]} × {size[1]}: "
            "enlarge them for it with --input-size, or export it with a free size"
        )
    return shape[0] if isinstance(shape[0], int) else None
