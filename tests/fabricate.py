"""Run directories with made-up answers, and untrained models: what tests need without any training."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from robustness.analysis.frames import Run
from robustness.run_directory import RunDirectory
from sdnet_core import ModelCard, build_model, save_model

Answers = dict[str, Any]


def make_law(slope: float, intercept: float, *, points: Sequence[object] = (), **changes: object) -> dict[str, Any]:
    """A residual law as its file holds it, clipped to [0.1, 0.5]."""
    line = {"slope": slope, "intercept": intercept, "lowest": 0.1, "highest": 0.5, **changes}
    law = {"format": "sdnet-robustness/residual-law/2", "law": line, "r_squared": 0.5}
    return {**law, "points": list(points), "provenance": {}}


SPARSE, PLAIN, TRAINED = "sparse", "plain", 0.1


def fabricate_models(folder: Path) -> Path:
    """Write ``sparse.safetensors`` (an SDNet) and ``plain.safetensors`` (a ResNet) for ten classes, untrained."""
    torch.manual_seed(0)
    for name, arch in ((SPARSE, "sdnet18"), (PLAIN, "resnet18")):
        model = build_model(arch, width=2)
        model(torch.rand(16, 3, 32, 32))
        save_model(model, folder / f"{name}.safetensors", ModelCard(name=name, config=model.config))
    return folder


def answer_at_random(model: str, perturbation: str, severity: int, lam: float | None, split: str, n: int) -> Answers:
    """Right answers get rarer with the severity; a larger λ helps the noises and harms the rest."""
    rng = np.random.default_rng([ord(c) for c in f"{model}{perturbation}{severity}{lam}{split}"])
    helped = (lam or 0) * (0.5 if "noise" in perturbation else -0.5)
    return {"correct": rng.random(n) < 0.9 - 0.08 * severity + helped, "residual": rng.random(n) * 100}


def fabricate_run(
    path: Path,
    *,
    corruptions: tuple[str, ...] = ("gaussian_noise", "contrast"),
    severities: tuple[int, ...] = (1, 2, 3, 4, 5),
    lambdas: tuple[float, ...] = (TRAINED, 0.5),
    selection: tuple[str, ...] = (),
    n: int = 40,
    answer: Callable[..., Answers] = answer_at_random,
    law: dict[str, Any] | None = None,
    missing: Callable[[dict[str, Any]], bool] = lambda cell: False,
    record: dict[str, Any] | None = None,
    extra_cells: tuple[dict[str, Any], ...] = (),
    names: tuple[str, ...] = (),
) -> Run:
    """Write a run of an SDNet (training λ 0.1) and a ResNet; ``answer`` says what they answered.

    With ``names`` it is of models without λ that are called so, in the place of both.

    ``answer(model, perturbation, severity, lam, split, n)`` returns at least ``correct``, for the SDNet ``residual``.
    """
    directory = RunDirectory(path)
    directory.create()
    cells = []
    grids = [(name, (None,)) for name in names] or [(SPARSE, lambdas), (PLAIN, (None,))]
    for split, perturbations in (("test", corruptions), ("train", selection)):
        places = [("clean", 0), *((name, level) for name in perturbations for level in severities)]
        for name, severity in places if split == "test" or selection else ():
            for model, grid in grids:
                for lam in grid if split == "test" or model == SPARSE else ():
                    key = re.sub(r"[^\w.-]", "_", f"{split}-{name}-{severity}-{model}-{lam}")
                    cell = {"key": key, "model": model, "data": "made-up", "split": split, "source": "generated"}
                    cell |= {"perturbation": name, "severity": severity, "lam": lam, "n": n}
                    cell |= {"trained_lam": TRAINED if model == SPARSE else None, "status": "done", "reason": ""}
                    cells.append(cell)
                    if not missing(cell):
                        answers = answer(model, name, severity, lam, split, n)
                        directory.write_outcome(key, _to_frame(answers, lam, n), {"seconds": 1.0})
    for cell in extra_cells:
        common = {"data": "made-up", "split": "test", "source": "generated", "n": n, "status": "done", "reason": ""}
        cells.append({**common, **cell})
        directory.write_outcome(cell["key"], _to_frame({"correct": np.arange(n) % 4 == 0}, None, n), {"seconds": 1.0})
    fields: dict[str, Any] = {
        "status": "complete",
        "asked": ["--suite", "made-up"],
        "started": "2024-01-01T00:00:00+00:00",
        "written": "2024-01-01T00:01:00+00:00",
        "protocol": 1,
        "suite": {
            "name": "made-up",
            "description": "Made-up answers",
            "profile": "cifar",
            "corruptions": corruptions,
            "severities": severities,
            "lambdas": lambdas,
            "selection": "extra" if selection else "",
            "baseline": "",
            "seed": 0,
            **({"attacks": [{"about": "made-up"}], "threats": ["whitebox"]} if extra_cells else {}),
        },
        "data": {
            "name": "made-up",
            "title": "made-up",
            "split": "test",
            "n": n,
            "fingerprint": "f",
            "classes": list("abcd"),
            "source": "generated",
        },
        "models": [
            {"name": SPARSE, "weights": "a" * 64, "arch": "sdnet18", "width": 8, "lam": TRAINED, "law": law},
            {"name": PLAIN, "weights": "b" * 64, "arch": "resnet18", "width": 8, "lam": TRAINED, "law": None},
        ],
        "batch_size": 250,
        "environment": {"hardware": {"device": "cpu"}, "system": "Linux", "versions": {"torch": "2"}, "git": {}},
        "cells": cells,
    }
    if names:
        plain = fields["models"][1]
        fields["models"] = [{**plain, "name": name, "lam": None} for name in names]
    directory.write_record({**fields, **(record or {})})
    return Run.open(directory)


def _to_frame(answers: Answers, lam: float | None, n: int) -> pd.DataFrame:
    correct = np.asarray(answers["correct"], dtype=bool)
    label = np.arange(n) % 4
    columns = {"index": np.arange(n), "label": label, "predicted": np.where(correct, label, (label + 1) % 4)}
    columns |= {"confidence": np.full(n, 0.75, np.float32), "nll": np.where(correct, 0.25, 1.5).astype(np.float32)}
    if lam is not None:
        columns |= {"residual": np.asarray(answers.get("residual", np.zeros(n)), dtype=np.float32)}
        columns |= {"sparsity": np.full(n, min(lam, 1.0), np.float32)}
        columns |= {name: np.asarray(answers[name], np.float32) for name in ("noise_level",) if name in answers}
    return pd.DataFrame({**columns, "correct": correct})
