"""λ policies: how λ is chosen for each image, and what each policy may look at.

A policy is an object with a name and a method ``choose``. To add one, write it and put it into :data:`POLICIES`; every
table, figure and report then shows it. This one halves the training λ for images that the model is unsure about::

    @dataclass(frozen=True)
    class Cautious:
        name: ClassVar[str] = "cautious"
        uses_test_labels: ClassVar[bool] = False

        def choose(self, view: View) -> Choice | None:
            confidence = view.at_trained(view.confidence)
            return None if confidence is None else np.where(confidence < 0.5, 0.5, 1.0) * view.trained_lam
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from data_prep.corruptions.registry import extra_of_kind
from data_prep.errors import InputError
from data_prep.schema import fits

if TYPE_CHECKING:
    from torch import Tensor

    from sdnet_core.classifier import Classifier

SWEEP_NOISES = ("gaussian_noise", "shot_noise", "speckle_noise", "impulse_noise")
"""Noises of the reference implementation's sweep, to which residual laws are fitted unless others are chosen."""
Floats = NDArray[np.floating[Any]]
Choice = float | Floats
"""λ for all images of the cell, or an array (N,) with one λ for each."""
Statistic = TypeVar("Statistic", NDArray[np.floating[Any]], "Tensor")


class Law(ABC):
    """A rule that computes λ of an image from a statistic of the image or its code: λ = clip(line, lowest, highest).

    Attacks differentiate through it. ``name`` is the policy that applies it.
    """

    name: ClassVar[str]

    @property
    @abstractmethod
    def bounds(self) -> tuple[float, float]:
        """Smallest and largest λ that the law returns."""

    @abstractmethod
    def measure(self, network: Classifier, images: Tensor) -> Tensor:
        """Compute the statistic of images (N, 3, H, W) in [0, 1]: (N,)."""

    @abstractmethod
    def line(self, statistic: Statistic) -> Statistic:
        """Compute λ before it is clipped, linear in the statistic (N,)."""

    def lam(self, statistic: Statistic) -> Statistic:
        """Compute λ of every image, differentiable with respect to ``statistic`` where it is not clipped.

        Args:
            statistic: (N,) an array or a tensor.

        Returns:
            (N,) λ in [lowest, highest], an array or tensor like ``statistic``.
        """
        return self.line(statistic).clip(*self.bounds)


@dataclass(frozen=True)
class ResidualLaw(Law):
    """The linear law of adaptive inference: λ(r) = clip(slope · r + intercept, lowest, highest).

    The statistic r = ‖x − Az‖² is the residual at the training λ, summed squares in normalised-pixel units.

    Args:
        slope: λ per unit of r.
        intercept: λ at r = 0.
        lowest: smallest λ that the law returns, ≥ 0.
        highest: largest λ that the law returns.

    Raises:
        InputError: coefficients that are not a valid law.

    Source: Dai et al., NeurIPS 2022, section 4.3.
    Deviation: the paper takes r at the best λ, which only labels reveal; here r is taken at the training λ.
    """

    slope: float
    intercept: float
    lowest: float
    highest: float
    name: ClassVar[str] = "residual"

    def __post_init__(self) -> None:
        if not (
            fits(self.slope, float) and fits(self.intercept, float) and 0 <= self.lowest <= self.highest < math.inf
        ):
            raise InputError(
                "expected a residual law with a finite slope and intercept and 0 ≤ lowest ≤ highest, got "
                f"{self.slope}, {self.intercept}, {self.lowest}, {self.highest}; fit it again"
            )

    @property
    def bounds(self) -> tuple[float, float]:
        """``lowest`` and ``highest``."""
        return self.lowest, self.highest

    def measure(self, network: Classifier, images: Tensor) -> Tensor:
        """Compute r of every image."""
        return network.residual(images, network.encode(images))

    def line(self, statistic: Statistic) -> Statistic:
        """Compute slope · r + intercept."""
        return self.slope * statistic + self.intercept


@dataclass(frozen=True)
class NoiseLaw(Law):
    """λ matched to the noise level of an image: λ(σ̂) = max(training λ, σ̂), both in normalised-pixel units.

    Atoms have unit norm, so that white noise of standard deviation σ in the image adds noise of the same σ to each
    correlation with an atom, and λ is the threshold of these correlations. Nothing is fitted, and images without
    noticeable noise keep the training λ.

    Args:
        lowest: the training λ.

    Source: Chen, Donoho & Saunders, *Atomic decomposition by basis pursuit*, SIAM Journal on Scientific Computing 20,
        1998, for λ in proportion to σ (there σ√(2 log D) for D atoms; Deviation: the factor is 1).
    """

    lowest: float
    name: ClassVar[str] = "matched"

    @property
    def bounds(self) -> tuple[float, float]:
        """``lowest`` and infinity."""
        return self.lowest, math.inf

    def measure(self, network: Classifier, images: Tensor) -> Tensor:
        """Estimate σ̂ of every image."""
        return network.noise_level(images)

    def line(self, statistic: Statistic) -> Statistic:
        """Return σ̂ itself."""
        return statistic


@dataclass(frozen=True, kw_only=True)
class View:
    """All that a policy may look at: one model on the images of one perturbation and severity, without test labels.

    Args:
        perturbation: ``clean`` or a corruption.
        severity: its level; 0 for clean.
        lambdas: (L,) the λ grid, increasing.
        trained_lam: training λ.
        predicted: (L, N) predicted classes at every λ.
        confidence: (L, N) softmax probabilities of the predicted classes.
        residual: (L, N) ‖x − Az‖², summed squares in normalised-pixel units.
        sparsity: (L, N) shares of zeros in the codes.
        noise_level: (N,) estimated σ̂ of the noise of each image, in normalised-pixel units; None if it was not measured
            (runs of earlier versions, and models without a sparse code).
        law: the residual law of the model; None if none was fitted.
        selection: (L,) accuracies at every λ on training images, by perturbation.
        correct: (L, N) correct predictions on the test images; None for every policy that may not see them.
    """

    perturbation: str
    severity: int
    lambdas: Floats
    trained_lam: float
    predicted: NDArray[np.integer[Any]]
    confidence: Floats
    residual: Floats
    sparsity: Floats
    noise_level: Floats | None
    law: ResidualLaw | None
    selection: Mapping[str, Floats]
    correct: NDArray[np.bool_] | None = None

    def at_trained(self, values: Floats) -> Floats | None:
        """Return the row of ``values`` (L, N) at the training λ; None if the grid lacks it."""
        rows = np.flatnonzero(self.lambdas == self.trained_lam)
        return values[rows[0]] if len(rows) else None

    def best(self, accuracy: Floats) -> float:
        """Return the λ with the highest ``accuracy`` (L,); ties go to the λ nearest to the training λ."""
        nearest = np.lexsort((np.abs(self.lambdas - self.trained_lam), -accuracy))
        return float(self.lambdas[nearest[0]])


@runtime_checkable
class Policy(Protocol):
    """A way to choose λ. ``uses_test_labels`` marks an upper bound: only such a policy finds ``view.correct``."""

    @property
    def name(self) -> str:
        """Name in tables."""

    @property
    def uses_test_labels(self) -> bool:
        """True if the policy looks at the labels of the images that it is judged on."""

    def choose(self, view: View) -> Choice | None:
        """Choose λ for the images of ``view``; the analysis takes the nearest λ of the grid. None if it cannot
        choose."""


@dataclass(frozen=True)
class Fixed:
    """One λ of the grid for all images."""

    lam: float
    name: ClassVar[str] = "fixed"
    uses_test_labels: ClassVar[bool] = False

    def choose(self, view: View) -> Choice | None:  # noqa: ARG002
        """Return ``lam``."""
        return self.lam


@dataclass(frozen=True)
class Trained:
    """The training λ, if the grid has it."""

    name: ClassVar[str] = "trained"
    uses_test_labels: ClassVar[bool] = False

    def choose(self, view: View) -> Choice | None:
        """Return the training λ; None if it was not measured."""
        return view.trained_lam if view.trained_lam in view.lambdas else None


@dataclass(frozen=True)
class Validated:
    """One λ per corruption, the best on training images under the same or the extra corruption of its kind."""

    name: ClassVar[str] = "validated"
    uses_test_labels: ClassVar[bool] = False

    def choose(self, view: View) -> Choice | None:
        """Return the λ with the highest mean accuracy over the selection's severities; None without a selection."""
        for name in (view.perturbation, extra_of_kind(view.perturbation)):
            if name is not None and name in view.selection:
                return view.best(view.selection[name])
        return None


@dataclass(frozen=True)
class Residual:
    """λ per image by the model's residual law, from the image's own residual at the training λ."""

    name: ClassVar[str] = ResidualLaw.name
    uses_test_labels: ClassVar[bool] = False

    def choose(self, view: View) -> Choice | None:
        """Return the law's λs; None without a law, or if the training λ was not measured."""
        residual = view.at_trained(view.residual)
        return None if view.law is None or residual is None else view.law.lam(residual)


@dataclass(frozen=True)
class Matched:
    """λ per image by :class:`NoiseLaw`: the larger of the training λ and the noise level of the image."""

    name: ClassVar[str] = NoiseLaw.name
    uses_test_labels: ClassVar[bool] = False

    def choose(self, view: View) -> Choice | None:
        """Return max(training λ, σ̂); None if σ̂ or the training λ was not measured."""
        if view.noise_level is None or view.trained_lam not in view.lambdas:
            return None
        return NoiseLaw(view.trained_lam).lam(view.noise_level)


@dataclass(frozen=True)
class Oracle:
    """The best fixed λ per cell, chosen with test labels: an upper bound on every fixed λ, never a result.

    Its gain over the training λ is ≥ 0 by construction if the grid has that λ.
    """

    name: ClassVar[str] = "oracle"
    uses_test_labels: ClassVar[bool] = True

    def choose(self, view: View) -> Choice | None:
        """Return the λ with the most correct predictions."""
        assert view.correct is not None
        return view.best(view.correct.mean(axis=1))


POLICIES: tuple[Policy, ...] = (Trained(), Validated(), Residual(), Matched(), Oracle())
"""Policies that every run shows, in addition to :class:`Fixed` at every λ of the grid."""


def is_upper_bound(name: str) -> bool:
    """Check whether a policy of :data:`POLICIES` uses test labels, which bars it from headlines and their tables."""
    return any(policy.name == name and policy.uses_test_labels for policy in POLICIES)
