"""A fitted residual law: the points behind it, where it comes from, and its file beside the weights."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.errors import InputError
from data_prep.files import write_text
from data_prep.schema import read
from robustness.policies import ResidualLaw
from sdnet_core.checkpoints import find_checkpoint

_FORMAT = "sdnet-robustness/residual-law/2"


@dataclass(frozen=True)
class NoiseLevel:
    """A point of the fit: one noise at one severity of the sweep.

    Args:
        noise: ``clean`` or a noise of the sweep.
        severity: level of the sweep, from 1; 0 for clean.
        residual: mean r over the images at the λ of training.
        lam: the best λ, a mean over bootstrap samples of the images: in each the λ of the grid with the most right
            answers, of several the one nearest to the λ of training.
        spread: standard error of ``lam``: that of the bootstrap and that of a grid, step/√12, together.
        accuracy: the largest share of right answers at any λ of the grid.
        trained_accuracy: share of right answers at the λ of training.
        fitted: whether the line was fitted to this point.
    """

    noise: str
    severity: int
    residual: float
    lam: float
    spread: float
    accuracy: float
    trained_accuracy: float
    fitted: bool


def fit_line(points: Sequence[NoiseLevel]) -> tuple[float, float, float | None]:
    """Weighted least squares: slope and intercept of λ ≈ slope · r + intercept, and R² = 1 − Σw(λ − λ̂)²/Σw(λ − λ̄)².

    w = 1/spread²: a level at which many λs do equally well says little of the best one.

    Args:
        points: at least one; residuals r ≥ 0 in squared normalised-pixel units, spreads > 0.

    Returns:
        Slope, intercept, R² (None where all λs are equal). The slope is 0 where all residuals are equal.

    Source: Dai et al., NeurIPS 2022, section 4.3, for the line. Deviation: the weights.
    """
    r, lam, spread = (
        np.array([getattr(point, name) for point in points], dtype=np.float64) for name in ("residual", "lam", "spread")
    )
    w = (spread.min() / spread) ** 2
    w /= w.sum()
    dr, dlam = r - w @ r, lam - w @ lam
    variance, total = float(w @ dr**2), float(w @ dlam**2)
    slope = float(w @ (dr * dlam)) / variance if np.ptp(r) and variance > 0 else 0.0
    rest = float(w @ (dlam - slope * dr) ** 2)
    return slope, float(w @ lam - slope * (w @ r)), 1 - rest / total if np.ptp(lam) and total > 0 else None


@dataclass(frozen=True)
class Family:
    """The levels of one noise, and their own line (:func:`fit_line`), λ = slope · r + intercept, not clipped.

    Args:
        noise: its name.
        points: its levels, fitted or not.
        slope: of the line through the fitted levels; NaN where their residuals are not distinct.
        intercept: as ``slope``.
        r_squared: share of the variance of their best λs that the line explains; None where these are all equal, and
            for two levels, which any line explains.
    """

    noise: str
    points: tuple[NoiseLevel, ...]
    slope: float
    intercept: float
    r_squared: float | None

    @classmethod
    def of(cls, noise: str, points: tuple[NoiseLevel, ...]) -> Family:
        """Draw the line through the fitted ones of ``points``."""
        fitted = [point for point in points if point.fitted]
        if len({point.residual for point in fitted}) < 2:
            return cls(noise, points, math.nan, math.nan, None)
        slope, intercept, r_squared = fit_line(fitted)
        return cls(noise, points, slope, intercept, r_squared if len(fitted) > 2 else None)

    @property
    def span(self) -> tuple[float, float]:
        """Smallest and largest residual of its fitted levels, between which its line means something."""
        residuals = [point.residual for point in self.points if point.fitted]
        return min(residuals), max(residuals)


@dataclass(frozen=True)
class FittedLaw:
    """A residual law and where it comes from; JSON on disk, ``<model>.law.json`` beside the checkpoint.

    Args:
        law: the policy's coefficients.
        r_squared: share of the variance of the fitted best λs that the line explains; None where they are all equal.
        points: every noise level, fitted or not.
        provenance: fingerprint of the weights, data, n, seed, λ grid, noises: JSON values.
    """

    law: ResidualLaw
    r_squared: float | None
    points: tuple[NoiseLevel, ...]
    provenance: dict[str, Any]

    def families(self) -> list[Family]:
        """The noises that the law was fitted on, in their order, each with the line through its own fitted levels."""
        names = dict.fromkeys(point.noise for point in self.points)
        return [Family.of(name, tuple(point for point in self.points if point.noise == name)) for name in names]

    def to_json(self) -> dict[str, Any]:
        """The law as JSON values."""
        return {"format": _FORMAT, **dataclasses.asdict(self)}

    @classmethod
    def from_json(cls, fields: Any) -> FittedLaw:
        """Read :meth:`to_json` back; raises InputError for anything else."""
        if not isinstance(fields, dict) or fields.get("format") != _FORMAT:
            raise InputError(f"expected the format {_FORMAT!r}")
        law = read({name: value for name, value in fields.items() if name != "format"}, cls, "it")
        if any(point.spread <= 0 for point in law.points):
            raise InputError("the spread of its points must be above 0")
        return law


def law_path(model: str | Path) -> Path:
    """Where the law of a shipped model or a checkpoint lies: ``<model>.law.json`` beside its weights."""
    return find_checkpoint(model).with_suffix(".law.json")


def write_law(fitted: FittedLaw, path: Path) -> None:
    """Store a law."""
    write_text(path, json.dumps(fitted.to_json(), indent=1) + "\n")


def read_law(model: str | Path, *, weights: str) -> FittedLaw | None:
    """The law beside a model; None if there is none.

    Args:
        model: shipped name or path of the checkpoint.
        weights: fingerprint of the model's weights.

    Raises:
        InputError: a damaged file, or a law that was fitted to other weights.
    """
    path = law_path(model)
    if not path.is_file():
        return None
    again = f"fit it again (python -m robustness.fit {model}) or remove the file"
    try:
        fitted = FittedLaw.from_json(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged: {error}; {again}") from error
    if fitted.provenance.get("weights") != weights:
        raise InputError(f"{path} was fitted to other weights than those of {model}; {again}")
    return fitted
