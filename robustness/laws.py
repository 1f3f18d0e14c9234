"""A fitted residual law: the points that it was fitted to, its provenance, and its file next to the weights."""

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
from sdnet_core.config import find_checkpoint

_FORMAT = "sdnet-robustness/residual-law/2"


@dataclass(frozen=True)
class NoiseLevel:
    """A point of the fit: one noise at one severity of the sweep.

    Args:
        noise: ``clean`` or a noise of the sweep.
        severity: level of the sweep, from 1; 0 for clean.
        residual: mean r over the images at the training λ, in squared normalised-pixel units.
        lam: the best λ, averaged over bootstrap samples of the images. In each sample it is the λ of the grid with the
            most correct predictions; ties go to the λ nearest to the training λ.
        spread: standard error of ``lam``: the bootstrap error combined with the grid error, step/√12.
        accuracy: the highest accuracy at any λ of the grid, in [0, 1].
        trained_accuracy: accuracy at the training λ, in [0, 1].
        fitted: true if the line was fitted to this point.
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
    """Fit λ ≈ slope · r + intercept by weighted least squares, with R² = 1 − Σw(λ − λ̂)²/Σw(λ − λ̄)².

    w = 1/spread²: a level at which many λs do equally well says little about the best one.

    Args:
        points: at least one; residuals r ≥ 0 in squared normalised-pixel units, spreads > 0.

    Returns:
        Slope, intercept and R² (None if all λs are equal). The slope is 0 if all residuals are equal.

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
    """The levels of one noise and the line through them (:func:`fit_line`), λ = slope · r + intercept, not clipped.

    Args:
        noise: name of the noise.
        points: its levels, fitted or not.
        slope: slope of the line through the fitted levels; NaN if their residuals are not distinct.
        intercept: intercept of the line; NaN as for ``slope``.
        r_squared: share of the variance of the best λs that the line explains; None if all best λs are equal, and for
            two levels, because a line always passes through both.
    """

    noise: str
    points: tuple[NoiseLevel, ...]
    slope: float
    intercept: float
    r_squared: float | None

    @classmethod
    def of(cls, noise: str, points: tuple[NoiseLevel, ...]) -> Family:
        """Compute the line through the points of one noise whose ``fitted`` is true."""
        fitted = [point for point in points if point.fitted]
        if len({point.residual for point in fitted}) < 2:
            return cls(noise, points, math.nan, math.nan, None)
        slope, intercept, r_squared = fit_line(fitted)
        return cls(noise, points, slope, intercept, r_squared if len(fitted) > 2 else None)

    @property
    def span(self) -> tuple[float, float]:
        """Smallest and largest residual of the fitted levels, between which the line is meaningful."""
        residuals = [point.residual for point in self.points if point.fitted]
        return min(residuals), max(residuals)


@dataclass(frozen=True)
class FittedLaw:
    """A residual law and its provenance; JSON on disk, ``<model>.law.json`` next to the checkpoint.

    Args:
        law: the policy's coefficients.
        r_squared: share of the variance of the fitted best λs that the line explains; None if they are all equal.
        points: every noise level, fitted or not.
        provenance: fingerprint of the weights, data, n, seed, λ grid, noises: JSON values.
    """

    law: ResidualLaw
    r_squared: float | None
    points: tuple[NoiseLevel, ...]
    provenance: dict[str, Any]

    def families(self) -> list[Family]:
        """List the noises that the law was fitted on, in order, each with the line through its own fitted levels."""
        names = dict.fromkeys(point.noise for point in self.points)
        return [Family.of(name, tuple(point for point in self.points if point.noise == name)) for name in names]

    def to_json(self) -> dict[str, Any]:
        """Return the law as JSON values."""
        return {"format": _FORMAT, **dataclasses.asdict(self)}

    @classmethod
    def from_json(cls, fields: Any) -> FittedLaw:
        """Read what :meth:`to_json` returned; raise InputError for anything else."""
        if not isinstance(fields, dict) or fields.get("format") != _FORMAT:
            raise InputError(f"expected the format {_FORMAT!r}, got another")
        law = read({name: value for name, value in fields.items() if name != "format"}, cls, "the law")
        if any(point.spread <= 0 for point in law.points):
            raise InputError("expected points of a spread above 0, got one without")
        return law


def law_path(model: str | Path) -> Path:
    """Return the path of the law of a shipped model or a checkpoint: ``<model>.law.json`` next to its weights."""
    return find_checkpoint(model).with_suffix(".law.json")


def write_law(fitted: FittedLaw, path: Path) -> None:
    """Store a law as JSON."""
    write_text(path, json.dumps(fitted.to_json(), indent=1) + "\n")


def read_law(model: str | Path, *, weights: str) -> FittedLaw | None:
    """Read the law next to a model; return None if there is none.

    Args:
        model: name of a shipped model, or path of the checkpoint.
        weights: fingerprint of the model's weights.

    Raises:
        InputError: a damaged file, or a law fitted to other weights.
    """
    path = law_path(model)
    if not path.is_file():
        return None
    again = f"fit it again (python -m robustness.fit {model}) or remove the file"
    try:
        fitted = FittedLaw.from_json(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, RecursionError) as error:
        raise InputError(f"expected a residual law in {path}, got damaged text ({error}); {again}") from error
    if fitted.provenance.get("weights") != weights:
        raise InputError(f"expected a law of the weights of {model} in {path}, got a law of other weights; {again}")
    return fitted
