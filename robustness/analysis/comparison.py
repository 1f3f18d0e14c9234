"""Two runs compared on the same images: paired differences, or a refusal that names what differs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from data_prep.errors import InputError
from robustness.analysis.decisions import decide
from robustness.analysis.frames import Run
from robustness.analysis.summary import Places, average, group_corruptions, group_settings, is_same, list_planned
from robustness.grids import format_lam
from robustness.policies import POLICIES, Validated
from robustness.statistics import paired_interval


def check_protocols(first: Run, second: Run) -> None:
    """Check that both runs saw the same images.

    Raises:
        InputError: they differ in data, number of images, seed, source or parameters of the corruptions, official
            images, speed, or protocol version; every difference is named.
    """
    ours, theirs = _protocol(first), _protocol(second)
    differing = [f"{name} {ours[name]} and {theirs[name]}" for name in ours if ours[name] != theirs[name]]
    if names := _find_other_archives(first, second):
        differing.append(f"the archive that {', '.join(names)} was read from")
    if differing:
        paths = f"{first.directory.path} and {second.directory.path}"
        raise InputError(
            f"expected two runs on the same images, got {paths}, which differ in {'; '.join(differing)}; measure one "
            "again with the options of the other"
        )


def _protocol(run: Run) -> dict[str, Any]:
    data, suite = run.record["data"], run.record["suite"]
    return {
        "data": f"{data['title']} ({data['split']})",
        "n": data["n"],
        "fingerprint of the images": data["fingerprint"][:12],
        "source of the corruptions": data["source"],
        "parameters of the corruptions": suite["profile"],
        "seed": suite["seed"],
        "speed": "fast" if run.record.get("agreement") else "exact",
        "protocol version": run.record["protocol"],
    }


def _find_other_archives(first: Run, second: Run) -> list[str]:
    """List the corruptions whose official images differ between the two runs."""
    ours, theirs = (run.record["data"].get("archive", {}) for run in (first, second))
    levels = [level for level in ours if theirs.get(level, ours[level]) != ours[level]]
    return list(dict.fromkeys(level.rpartition(" ")[0] for level in levels))


Models = tuple[str, str]
"""A model of the first run and the model of the second run that it is compared with."""
_OF_ANY_GRID = ("none", "fixed", "trained")


@dataclass(frozen=True)
class Comparison:
    """Accuracy of the second run minus accuracy of the first, paired image by image.

    Args:
        table: one row per perturbation (mean over the severities that both have), mean over the corruptions (if both
            have every cell of the same corruptions), model, policy and fixed λ that both have. Columns ``perturbation,
            model, policy, lam, n, severities, first, second`` (accuracies), ``difference, low, high`` (95 % interval
            over the images); ``severities`` counts the cells that went into the mean.
        left_out: policies whose choices differ between the two runs, and why, one sentence per model.
    """

    table: pd.DataFrame
    left_out: tuple[str, ...]


def compare_runs(first: Run, second: Run, *, models: Models | None = None) -> Comparison:
    """Compare two runs on the same images.

    Args:
        first: a run.
        second: another run on the same images.
        models: a model of the first run and a model of the second; None for every model that both have.

    Raises:
        InputError: the protocols differ, or there is nothing to compare.
    """
    check_protocols(first, second)
    if models is not None:
        _check_models(models, first, second)
    pairs = [models] if models is not None else [(name, name) for name in first.models if name in second.models]
    mine, other = (group_settings(decide(run)) for run in (first, second))
    rows, left_out = [], []
    for ours, theirs in pairs:
        reasons = _find_mismatch(first, second, (ours, theirs))
        left_out += [f"{ours}: {reason}" for reason in dict.fromkeys(reasons.values())]
        for setting, places in mine.items():
            counterpart = other.get(setting._replace(model=theirs))
            if setting.model == ours and counterpart and setting.policy not in reasons:
                row = {"model": ours, "policy": setting.policy, "lam": np.nan if setting.lam is None else setting.lam}
                rows += [{**group, **row} for group in _compare(first, second, places, counterpart)]
    if not rows:
        why = f" ({'; '.join(left_out)})" if left_out else ""
        raise InputError(
            f"expected a model and policy that both runs have, got {', '.join(first.models)} and "
            f"{', '.join(second.models)}{why}; say which models to compare with --models A,B"
        )
    columns = ["perturbation", "model", "policy", "lam", "n", "severities", "first", "second"]
    return Comparison(pd.DataFrame(rows, columns=[*columns, "difference", "low", "high"]), tuple(left_out))


def _check_models(models: Models, first: Run, second: Run) -> None:
    for name, run in zip(models, (first, second)):
        if name not in run.models:
            raise InputError(
                f"expected a model of {run.directory.path} ({', '.join(run.models)}), got {name!r}; choose one of them"
            )


def _find_mismatch(first: Run, second: Run, models: Models) -> dict[str, str]:
    """List by name the policies that cannot be paired, and why: they choose from other λs or training images."""
    grids = [_grid(run, model) for run, model in zip((first, second), models)]
    if grids[0] != grids[1]:
        names = [policy.name for policy in POLICIES if policy.name not in _OF_ANY_GRID]
        shown = " and ".join(", ".join(map(format_lam, grid)) or "none" for grid in grids)
        return dict.fromkeys(names, f"{', '.join(names)} are left out, since the λ grids differ: {shown}")
    selections = [_selection(run, model) for run, model in zip((first, second), models)]
    if selections[0] != selections[1]:
        shown = " and ".join(text or "none" for text in selections)
        return {Validated.name: f"{Validated.name} is left out, since λ was chosen on other images: {shown}"}
    return {}


def _grid(run: Run, model: str) -> list[float]:
    return sorted(run.corrupted.loc[run.corrupted["model"] == model, "lam"].dropna().unique().tolist())


def _selection(run: Run, model: str) -> str:
    """Describe the training images that a model's λ was chosen on."""
    cells = [c for c in run.record["cells"] if c["split"] != run.record["data"]["split"] and c["model"] == model]
    names = ", ".join(dict.fromkeys(cell["perturbation"] for cell in cells if cell["severity"]))
    return f"{names}, n = {cells[0]['n']}" if cells else ""


def _compare(first: Run, second: Run, ours: Places, theirs: Places) -> list[dict[str, Any]]:
    groups = {**{name: [name] for name in ["clean", *first.corruptions]}, **group_corruptions(first)}
    rows = []
    for title, names in groups.items():
        asked = list_planned(second, names)
        planned = [place for place in list_planned(first, names) if place in asked]
        places = [place for place in planned if place in ours and place in theirs]
        if {name for name, _ in places} != set(names):
            continue
        if title not in names and (places != planned or set(names) != set(group_corruptions(second).get(title, []))):
            continue
        one, two = average(ours, places), average(theirs, places)
        is_one = all(is_same(ours[place], theirs[place]) for place in places)
        interval = (0.0, 0.0, 0.0) if is_one else paired_interval(two - one)
        row = {"perturbation": title, "n": len(one), "severities": len(places)}
        row |= {"first": one.mean(), "second": two.mean()}
        rows.append(row | dict(zip(("difference", "low", "high"), interval, strict=True)))
    return rows
