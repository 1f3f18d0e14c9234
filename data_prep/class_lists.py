"""Lists of class names in label order: given directly, read from a file, or ImageNet's."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path

from data_prep.errors import InputError


@cache
def imagenet_wnids() -> tuple[str, ...]:
    """Read the 1000 WNIDs in sorted order, ``"n01440764"`` (tench) first, as in torchvision's and timm's models.

    Source: Russakovsky et al., "ImageNet Large Scale Visual Recognition Challenge", IJCV 2015.
    """
    return tuple((files("data_prep") / "imagenet_wnids.txt").read_text(encoding="ascii").split())


def read_classes(given: str | Path | Sequence[str] | None) -> tuple[str, ...] | None:
    """Read class names in label order.

    given: the names; ``"imagenet"`` for the 1000 WNIDs; or a text file with one name per line, empty lines ignored.
    Returns: the names; None if ``given`` is None.
    Raises: InputError for a file that is missing or is not text, for an empty list and for a repeated name.
    """
    if given is None:
        return None
    if given == "imagenet":
        return imagenet_wnids()
    if isinstance(given, str | Path):
        where = str(given)
        try:
            names = [line.strip() for line in Path(given).read_text(encoding="utf-8-sig").splitlines() if line.strip()]
        except FileNotFoundError as error:
            raise InputError(
                f"expected a file of class names, got {where}, which is not there; check --classes"
            ) from error
        except (UnicodeDecodeError, IsADirectoryError) as error:
            raise InputError(
                f"expected class names as UTF-8 text in {where}, got something else; write one name per line"
            ) from error
    else:
        where, names = "the classes", list(given)
    if not names or not all(isinstance(name, str) and name for name in names):
        raise InputError(f"expected a class name on every line of {where}, got {names[:3]}; write one name per line")
    if len(set(names)) < len(names):
        double = next(name for name in names if names.count(name) > 1)
        raise InputError(f"expected every class once in {where}, got {double!r} twice; remove one")
    return tuple(names)
