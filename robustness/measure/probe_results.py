"""Results of the trust probes, one value per image; the fields are columns of an attacked cell's outcomes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NOT_TRIED = -1
"""Value of an image on which a probe was not tried."""
_UNSTABLE = 0.01
"""Share of images with other logits the second time, above which a model counts as stochastic."""


@dataclass(frozen=True)
class ModelProbes:
    """Probes that do not depend on the attack, one value per image: measured once per model and λ.

    zero_gradient: float32 (N,), share of exact zeros in ∇ₓ cross-entropy at the clean image, whether or not it is
        classified correctly; NaN where it was not measured. Values that have no gradient in any image (a stride that
        skips them) are left out, unless that is all of them.
    undefined: int8 (N,): 1 the gradient has a value that is not finite, 0 it has none, −1 it was not looked at.
    unstable: int8 (N,): 1 the same image gave other logits the second time.
    distribution: int8 (N,): 1 the logits are ≥ 0 and sum to 1.
    slope: float32 (N,), central difference over gradient at the step where it is farthest from 1; NaN if not measured.
    near, far: float32 (N,), the same along random directions, at a small and at a large step: one number for all images
        where it was measured. See :func:`~robustness.measure.slopes.compare_slopes`.
    """

    zero_gradient: NDArray[np.float32]
    undefined: NDArray[np.int8]
    unstable: NDArray[np.int8]
    distribution: NDArray[np.int8]
    slope: NDArray[np.float32]
    near: NDArray[np.float32]
    far: NDArray[np.float32]

    @property
    def is_random(self) -> bool:
        """True if the model's logits change when it is evaluated again."""
        asked = self.unstable[self.unstable >= 0]
        return bool(len(asked)) and float(asked.mean()) > _UNSTABLE


@dataclass(frozen=True)
class AttackProbes:
    """Probes of one attack; int8 (N,), −1 where a probe was not tried, unless stated otherwise.

    losses: 1 a survivor withstands APGD with the DLR loss, the targeted one and cross-entropy, within the budget; of
        an AutoAttack that has these, PGD with the margin and with cross-entropy.
    weakest: 1 a survivor withstands the first two of the attacks of ``losses``; tried on survivors that ``losses`` did
        not draw, in order of their margin as stored, until most of a batch withstand.
    square: 1 a survivor withstands Square with 2,000 queries; tried where that costs a tenth of the attack at most.
    transfer: 1 a survivor withstands images that were crafted on other networks, also rounded to whole grey levels.
    fresh: 1 the model, restored to its original state and shown the stored images of the survivors in another order and
        in small batches, is right about it.
    averaged: 1 a survivor withstands APGD on the mean of 8 evaluations, in most of 8 further evaluations; only for
        stochastic models.
    larger: 1 a right image withstands PGD with eight times the budget. PGD starts at the image: a random start at such
        a budget is a noise image, which fools many models without any gradient.
    planted: 1 the attack finds the adversarial example that was planted for a right image: the active test.
    inside: 1 PGD left a survivor within half of its budget. flat: 1 the gradient is nowhere above 1e-20 there.
    margin: float32 (N,), z_y − max z_j of a survivor as stored, over z_y − max z_j of the clean image; NaN if not
        measured, as below ε = 2/255 (L2: 0.25).
    jump: float32 (N,), see :func:`~robustness.measure.slopes.measure_jumps`; NaN if a survivor was not moved.
    """

    losses: NDArray[np.int8]
    weakest: NDArray[np.int8]
    square: NDArray[np.int8]
    transfer: NDArray[np.int8]
    fresh: NDArray[np.int8]
    averaged: NDArray[np.int8]
    larger: NDArray[np.int8]
    planted: NDArray[np.int8]
    inside: NDArray[np.int8]
    flat: NDArray[np.int8]
    margin: NDArray[np.float32]
    jump: NDArray[np.float32]
