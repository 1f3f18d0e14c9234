"""λ policies: which λ an image gets, and what each is allowed to look at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Residuals = TypeVar("Residuals", NDArray[np.floating[Any]], Tensor)


@dataclass(frozen=True)
class ResidualLaw:
    """The linear law of adaptive inference: λ(r) = clip(slope · r + intercept, lowest, highest).

    Args:
        slope: λ per unit of r.
        intercept: λ at r = 0.
        lowest: smallest λ it gives, ≥ 0.
        highest: largest λ it gives.

    Source: Dai et al., NeurIPS 2022, section 4.3.
    Deviation: there r belongs to the best λ, which only labels reveal; here it belongs to the λ of training.
    """

    slope: float
    intercept: float
    lowest: float
    highest: float

    def lam(self, residual: Residuals) -> Residuals:
        """λ of every image, differentiable with respect to ``residual`` where it is not clipped.

        Args:
            residual: (N,) r = ‖x − Az‖² at the λ of training, summed squares in normalised-pixel units; an array or a
                tensor.

        Returns:
            (N,) λ in [lowest, highest], of the same kind.
        """
        return (self.slope * residual + self.intercept).clip(self.lowest, self.highest)
