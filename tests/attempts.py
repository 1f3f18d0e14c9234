"""Runs of made-up attacks: what tests of trust marks, worst cases and headlines need without attacking anything."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from fabricate import SPARSE, TRAINED, fabricate_run

from robustness.analysis.frames import Run

N = 100
EPS = 8 / 255
STRONG = np.arange(N) >= 90
"""A strong attack breaks 90 of 100 images, a weak one 10 of them."""
WEAK = np.arange(N) >= 10


def crafted(right: np.ndarray, **changes: object) -> pd.DataFrame:
    """Outcomes of an attack that leaves ``right``, with probes of 20 of them that break nothing."""
    tried = np.where(right & (np.cumsum(right) <= 20), 1, -1)
    columns = {
        "index": np.arange(N),
        "label": 0,
        "predicted": np.where(right, 0, 1),
        "predicted_again": np.where(right, 0, 1),
        "correct": right,
        "attacked": True,
        "broken_by": np.where(right, "", "restart-0"),
        "stages": "restart-0",
        "dropped": False,
        "distance": 0.03,
        "in_range": True,
        "zero_gradient": 0.0,
        "unstable": False,
        "distribution": False,
        "larger": np.where(np.arange(N) < 20, 0, -1),
        "planted": np.where(np.arange(N) < 20, 1, -1),
        "losses": tried,
        "transfer": tried,
        "fresh": tried,
    }
    return pd.DataFrame({**columns, **changes})


Attempt = tuple[str, str, float | None, float | None, pd.DataFrame]


def fabricate_attacks(folder: Path, *attempts: Attempt, lambdas: tuple[float, ...] = (TRAINED, 0.5)) -> Run:
    """A run with these attempts: model, attack, λ crafted for, λ shown at, outcomes; every clean image is right."""
    cells = [
        {"key": f"{model}-{attack}-{made}-{shown}", "model": model, "perturbation": attack, "severity": 0}
        | {"lam": shown, "crafted_lam": made, "policy": "", "crafted_policy": "", "norm": "linf", "eps": EPS}
        | {"trained_lam": TRAINED if model == SPARSE else None, "threat": "whitebox" if made == shown else "transfer"}
        for model, attack, made, shown, _ in attempts
    ]
    run = fabricate_run(
        folder,
        corruptions=(),
        lambdas=lambdas,
        n=N,
        answer=lambda *_: {"correct": np.ones(N)},
        extra_cells=tuple(cells),
    )
    for cell, attempt in zip(cells, attempts, strict=True):
        run.directory.write_outcome(str(cell["key"]), attempt[-1], {"seconds": 1.0})
    run.record["suite"]["threats"] = ["whitebox", "transfer", "adaptive"]
    return Run(run.directory, run.record)
