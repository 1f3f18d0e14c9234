"""The argument and the result of a loader, and the setting in which it runs foreign code."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from data_prep.errors import InputError, PrerequisiteError
from robustness.measure.world import World


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The data set's requirements for a model.

    Args:
        num_classes: number of classes K.
        classes: their names in the order of the labels; empty if unknown.
        image_size: height and width of the images; None if unknown.
        enlarge_to: short side in pixels to which every image is enlarged for a foreign model, after any corruption;
            None keeps the size. Networks of this project take images as they are.
    """

    num_classes: int
    classes: tuple[str, ...] = ()
    image_size: tuple[int, int] | None = None
    enlarge_to: int | None = None

    @property
    def shown_size(self) -> tuple[int, int] | None:
        """Height and width of the images that a foreign model is shown; None if unknown."""
        if self.image_size is None or self.enlarge_to is None:
            return self.image_size
        return find_enlarged(self.image_size, self.enlarge_to)


def find_enlarged(size: tuple[int, int], side: int) -> tuple[int, int]:
    """Compute height and width of an image of height and width ``size`` whose short side becomes ``side``."""
    height, width = size
    short = min(height, width)
    return round(height * side / short), round(width * side / short)


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A module and the facts that its source gives about it.

    Args:
        model: images (N, 3, H, W) to logits (N, K).
        version: version of the library that it comes from; empty for none.
        mean: channel means to subtract from images; None if the model takes images in [0, 1].
        std: channel standard deviations to divide by; None as for ``mean``.
        input_size: height and width of the images that its source evaluates it on; None if the source does not say.
        content: SHA-256 of the file that holds the program itself; empty if the weights identify the model.
        differentiable: true if gradients reach the images.
        notes: notes for a reader of the numbers, one sentence each.
        world: world that the user's code ran in while loading; None if no such code ran.
    """

    model: nn.Module
    version: str = ""
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    input_size: tuple[int, int] | None = None
    content: str = ""
    differentiable: bool = True
    notes: tuple[str, ...] = ()
    world: World | None = None


@contextmanager
def loading() -> Iterator[World]:
    """Run the block in a new world, in which the command line has no options and printing goes to stderr.

    Raises:
        ModelExitError: the block tried to end the process.
    """
    world, arguments = World(), sys.argv
    with world.entered(loading=True):
        sys.argv = arguments[:1]
        try:
            yield world
        finally:
            sys.argv = arguments


def import_package(name: str, given: str | Path) -> Any:
    """Import a package of the extra ``models``, without warnings; raise PrerequisiteError if it is not installed."""
    try:
        with warnings.catch_warnings(action="ignore"):
            return importlib.import_module(name)
    except ImportError as error:
        raise PrerequisiteError(
            f"{given} needs the package {name} ({error}); in the project's folder, pip install '.[models]'"
        ) from error


def check_input_shape(path: Path, shape: tuple[Any, ...], wanted: Wanted) -> tuple[int | None, tuple[int, int] | None]:
    """Check the shape of a recorded program's input; return the images per call and their size, None where it is free.

    Args:
        path: path of the program.
        shape: (N, C, H, W) of its input; entries that are not whole numbers are free.
        wanted: the data set's requirements.

    Raises:
        InputError: the program does not take images of three channels, or not of this size.
    """
    if len(shape) != 4 or (isinstance(shape[1], int) and shape[1] != 3):
        raise InputError(
            f"expected inputs (N, 3, H, W), images in [0, 1], got {path}, which takes {shape}; export it "
            "for such inputs"
        )
    size = wanted.shown_size
    if size and any(isinstance(own, int) and own != other for own, other in zip(shape[2:], size, strict=True)):
        raise InputError(
            f"expected images of {shape[2]} × {shape[3]} pixels, for which {path} was recorded, got {size[0]} × "
            f"{size[1]}; enlarge them for it with --input-size, or export it with a free size"
        )
    n, _, height, width = (it if isinstance(it, int) else None for it in shape)
    return n, None if height is None or width is None else (height, width)
