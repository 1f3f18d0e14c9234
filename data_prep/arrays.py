"""Open ``.npy`` files as read-only memory maps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.errors import InputError


def map_array(path: Path) -> NDArray[Any]:
    """Map the array in ``path`` read-only.

    Raises: InputError, with the path, for a file that is missing, truncated, not an array or one of Python objects.
    """
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise InputError(f"expected an array in {path}, got no such file; import or download the data again") from error
    except (ValueError, EOFError) as error:
        raise InputError(
            f"expected a whole array in {path}, got: {error}; import or download the data again"
        ) from error
    if not isinstance(array, np.memmap):
        raise InputError(f"expected a .npy array in {path}, got another format; import or download the data again")
    return array
