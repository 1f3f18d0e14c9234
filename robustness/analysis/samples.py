"""The sample images of a run, for figures and report."""

from __future__ import annotations

import json

import numpy as np

from robustness.analysis.frames import Run

_SHOWN = {"titles", "classes", "model", "lambdas", "perturbed", "reconstructed"}
_OF_CODES = {"atoms", "codes", "code_atoms"}


def read_samples(run: Run) -> dict[str, np.ndarray] | None:
    """Read the sample images of a run; None if it has none, or if they are damaged or belong to another run."""
    samples = run.directory.read_samples()
    if samples is None or not samples.keys() >= _SHOWN:
        return None
    names = {name for name, _ in json.loads(str(samples["titles"]))}
    is_own = str(samples["model"]) in ("", *run.models)
    return samples if is_own and names <= {cell["perturbation"] for cell in run.record["cells"]} else None


def has_codes(samples: dict[str, np.ndarray]) -> bool:
    """Check that the samples hold codes at some λs, with the dictionary."""
    return len(samples["lambdas"]) > 0 and samples.keys() >= _OF_CODES
