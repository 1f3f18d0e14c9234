"""Read the pickles of the official CIFAR batches, and refuse everything else that a pickle can do."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.errors import InputError

_RECONSTRUCT: Callable[..., NDArray[Any]] = np.empty(0).__reduce__()[0]  # type: ignore[assignment]


def _make_dtype(spec: str, align: int = 0, copy: int = 0) -> np.dtype[Any]:
    """Make a dtype from flags that Python 2 wrote as integers: NumPy 2.4.0 to 2.4.4 warn about those."""
    return np.dtype(spec, align=bool(align), copy=bool(copy))


_ADMITTED = {
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): _make_dtype,
}


class _BatchUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ADMITTED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"a call of {module}.{name}") from None


def unpickle_batch(data: bytes, where: str) -> dict[str, Any]:
    """Read one pickled dictionary of arrays, lists, strings and numbers, as Python 2 wrote them.

    Containers, strings and numbers need no import; of the types that do, only NumPy arrays are admitted. A pickle that
    names anything else is refused before that name is imported, so reading a pickle never runs its code.

    where: the name of the file, for messages.
    Returns: the dictionary; byte strings are decoded to text (latin-1).
    Raises: InputError for a damaged pickle and for one that holds anything else.
    """
    try:
        content = _BatchUnpickler(io.BytesIO(data), encoding="latin1").load()
    except Exception as error:  # a damaged pickle raises a variety of errors
        raise InputError(
            f"expected a CIFAR batch in {where}, got {' '.join(str(error).split()) or 'a damaged file'}; fetch it again"
        ) from error
    if not isinstance(content, dict):
        raise InputError(f"expected a dictionary in {where}, got {type(content).__name__}; fetch it again")
    return content
