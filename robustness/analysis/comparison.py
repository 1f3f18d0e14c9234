"""Two runs side by side on the same images: paired differences, or a refusal that names what differs."""

from __future__ import annotations

from typing import Any

import pandas as pd

from data_prep.errors import InputError
from robustness.analysis.decisions import decide
from robustness.analysis.frames import Run
from robustness.analysis.statistics import paired_interval
from robustness.analysis.summary import Settings, average, group_corruptions, group_settings


def check_protocols(first: Run, second: Run) -> None:
    """Make sure that both runs saw the same images.

    Raises:
        InputError: they differ in data, number of images, seed, source or parameters of the corruptions, or protocol
            version; every difference is named.
    """
    ours, theirs = _protocol(first), _protocol(second)
    differing = [f"{name} {ours[name]} and {theirs[name]}" for name in ours if ours[name] != theirs[name]]
    if differing:
        paths = f"{first.directory.path} and {second.directory.path}"
        raise InputError(f"{paths} cannot be paired: they differ in {'; '.join(differing)}")


def _protocol(run: Run) -> dict[str, Any]:
    data, suite = run.record["data"], run.record["suite"]
    return {
        "data": f"{data['title']} ({data['split']})",
        "n": data["n"],
        "fingerprint of the images": data["fingerprint"][:12],
        "source of the corruptions": data["source"],
        "parameters of the corruptions": suite["profile"],
        "seed": suite["seed"],
        "protocol version": run.record["protocol"],
    }


def compare_runs(first: Run, second: Run, *, models: tuple[str, str] | None = None) -> pd.DataFrame:
    """Accuracy of the second run minus that of the first, paired image by image.

    Args:
        first: a run.
        second: another run on the same images.
        models: the model of the first run and that of the second; None for every model that both have.

    Returns:
        One row per perturbation (mean over the severities that both have, and over the corruptions where both have all
        cells), model, policy and fixed λ that both have. Columns ``perturbation, model, policy, lam, n, severities,
        first, second`` (accuracies), ``difference, low, high`` (95 % bootstrap interval over the images).

    Raises:
        InputError: the protocols differ, or there is nothing to compare.
    """
    check_protocols(first, second)
    mine, other = (group_settings(decide(run)) for run in (first, second))
    if models is not None:
        _check_models(models, first, second)
        other = {(models[0], *rest): places for (name, *rest), places in other.items() if name == models[1]}  # type: ignore[misc]
    common = [setting for setting in mine if setting in other]
    if not common:
        raise InputError(
            f"the runs have no model and policy in common ({', '.join(first.models)} and {', '.join(second.models)}): "
            "say which models to compare with --models A,B"
        )
    rows = [row for setting in common for row in _compare(first, setting, mine, other)]
    return pd.DataFrame(rows)


def _check_models(models: tuple[str, str], first: Run, second: Run) -> None:
    for name, run in zip(models, (first, second)):
        if name not in run.models:
            raise InputError(f"{run.directory.path} has no model {name!r}: choose from {', '.join(run.models)}")


def _compare(run: Run, setting: tuple[str, str, str], mine: Settings, other: Settings) -> list[dict[str, Any]]:
    ours, theirs = mine[setting], other[setting]
    groups = {**{name: [name] for name in ["clean", *run.corruptions]}, **group_corruptions(run)}
    rows = []
    for title, names in groups.items():
        places = [place for place in ours if place in theirs and place[0] in names]
        if {name for name, _ in places} != set(names):
            continue
        one, two = average(ours, places), average(theirs, places)
        row = {"perturbation": title, "model": setting[0], "policy": setting[1], "lam": float(setting[2])}
        row |= {"n": len(one), "severities": len({level for _, level in places})}
        row |= {"first": one.mean(), "second": two.mean()}
        rows.append(row | dict(zip(("difference", "low", "high"), paired_interval(two - one), strict=True)))
    return rows
