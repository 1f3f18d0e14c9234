"""Enlargement of the centre of an image by linear interpolation, and the mean of many enlargements."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy import sparse
from torch import Tensor

from data_prep.corruptions.filters import fixed_point


def crop_span(size: int, factor: float) -> tuple[int, int]:
    """Compute the start and length of the centre that fills ``size`` pixels when enlarged by ``factor``."""
    length = math.ceil(size / factor)
    return (size - length) // 2, length


def zoom_matrix(length: int, factor: float) -> sparse.csr_array:
    """Make the linear interpolation from ``length`` pixels to round(length × factor), end pixels onto end pixels."""
    enlarged = round(length * factor)
    position = np.arange(enlarged) * ((length - 1) / max(enlarged - 1, 1))
    left = np.minimum(position.astype(np.int64), max(length - 2, 0))
    share = position - left
    rows = np.arange(enlarged)
    entries = np.concatenate((1.0 - share, share))
    places = (np.tile(rows, 2), np.concatenate((left, np.minimum(left + 1, length - 1))))
    return sparse.coo_array((entries, places), shape=(enlarged, length)).tocsr()


@lru_cache(maxsize=32)
def dense_zoom(length: int, factor: float, device: torch.device) -> Float[Tensor, "enlarged length"]:
    """Make ``zoom_matrix`` a dense tensor, float64."""
    return torch.from_numpy(zoom_matrix(length, factor).toarray()).to(device)


@lru_cache(maxsize=8)
def mean_zoom(
    height: int, width: int, stop: float, step: float, device: torch.device
) -> tuple[Int[Tensor, " k"], Float[Tensor, " k"], Int[Tensor, " p"]]:
    """Make the sparse matrix, on p = h w pixels, of the mean of an image and its zooms by 1, 1 + step, … < ``stop``.

    Returns: (columns, weights, starts): pixel i becomes Σ weights[k] x[columns[k]] over starts[i] ≤ k < starts[i + 1];
        the weights are in fixed point, float32.
    """
    factors = np.arange(1, stop, step)
    total = sparse.csr_array(sparse.eye_array(height * width))
    for factor in factors:
        rows, columns = (_centre_zoom(size, float(factor)) for size in (height, width))
        total = total + sparse.kron(rows, columns, format="csr")
    pixel = np.repeat(np.arange(height * width), np.diff(total.indptr))
    weights = fixed_point(total.data / (len(factors) + 1), group=pixel).astype(np.float32)
    sources, starts = (
        torch.from_numpy(part.astype(np.int64)).to(device) for part in (total.indices, total.indptr[:-1])
    )
    return sources, torch.from_numpy(weights).to(device), starts


def _centre_zoom(size: int, factor: float) -> sparse.csr_array:
    """Crop the centre, enlarge it and keep the first ``size`` pixels."""
    start, length = crop_span(size, factor)
    enlarged = zoom_matrix(length, factor)[:size].tocoo()
    places = (enlarged.row, enlarged.col + start)
    return sparse.coo_array((enlarged.data, places), shape=(size, size)).tocsr()
