"""Two runs compared on the same images: paired differences, or a refusal that names what differs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from data_prep.errors import InputError
from data_prep.shifts import SHIFTS
from robustness.analysis.columns import to_key, to_records
from robustness.analysis.decisions import decide
from robustness.analysis.frames import Run
from robustness.analysis.sequences import MEAN_OF_SEQUENCES, list_sequences
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
_SCALES = {"accuracy": ("correct", 1), "flips": ("flips", 1), "top5_distance": ("top5_distance", 15)}
"""Column of the outcomes, and largest value, of every measure."""
_OF_IMAGES = ("perturbation", "data", "seed", "subset")
"""Parts of a cell's identity that decide which images the model saw, and which of its classes count."""


@dataclass(frozen=True)
class Comparison:
    """The second run minus the first, paired image by image.

    Args:
        table: one row per perturbation (mean over the severities that both have), mean over the corruptions (if both
            have every cell of the same corruptions), model, policy and fixed λ that both have; then the same for
            natural shifts, for sequences and for the mean over the sequences. Columns ``measure`` (``accuracy``, for
            sequences ``flips`` and ``top5_distance``, of which less is better), ``perturbation, model, policy, lam, n,
            severities, first, second`` (shares; the distance from 0 to 15), ``difference, low, high`` (95 % interval
            over the images); ``severities`` counts the cells that went into the mean.
        left_out: what cannot be compared, and why, a sentence each.
        marks: models whose numbers are marked as doubtful, and why, a sentence each.
    """

    table: pd.DataFrame
    left_out: tuple[str, ...]
    marks: tuple[str, ...]


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
    others: list[dict[str, Any]] = []
    for ours, theirs in pairs:
        reasons = _find_mismatch(first, second, (ours, theirs))
        left_out += [f"{ours}: {reason}" for reason in dict.fromkeys(reasons.values())]
        for setting, places in mine.items():
            counterpart = other.get(setting._replace(model=theirs))
            if setting.model == ours and counterpart and setting.policy not in reasons:
                row = {"model": ours, "policy": setting.policy, "lam": np.nan if setting.lam is None else setting.lam}
                row["measure"] = "accuracy"
                rows += [{**group, **row} for group in _compare(first, second, places, counterpart)]
        found, reasons_of_others = _compare_others(first, second, (ours, theirs))
        others += found
        left_out += reasons_of_others
    rows += others
    left_out += _find_only_in_one(first, second)
    if not rows:
        why = f" ({'; '.join(left_out)})" if left_out else ""
        raise InputError(
            f"expected a model and policy that both runs have, got {', '.join(first.models)} and "
            f"{', '.join(second.models)}{why}; say which models to compare with --models A,B"
        )
    columns = ["measure", "perturbation", "model", "policy", "lam", "n", "severities", "first", "second"]
    table = pd.DataFrame(rows, columns=[*columns, "difference", "low", "high"])
    marks = [*_list_marks(first, [name for name, _ in pairs]), *_list_marks(second, [name for _, name in pairs])]
    return Comparison(table, tuple(dict.fromkeys(left_out)), tuple(dict.fromkeys(marks)))


def _list_marks(run: Run, models: list[str]) -> Iterator[str]:
    """List the models of a run whose predictions depend on more than the image."""
    for model, verdict in run.doubts.items():
        if model in models:
            yield f"{verdict.mark}: {model} of {run.directory.path}: {verdict.reason}"


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


Others = dict[tuple[str, float | None], dict[tuple[str, int], str]]
"""Keys of the cells of natural shifts and sequences, by policy and fixed λ, then by title and difficulty."""


def _list_others(run: Run, model: str) -> Others:
    """List the cells of natural shifts and sequences of a model."""
    found: Others = {}
    for row in _rows_of_others(run):
        if row["model"] == model:
            lam = to_key(row["lam"])
            settings: list[tuple[str, float | None]] = [("none" if lam is None else "fixed", lam)]
            settings += [("trained", None)] if lam is not None and lam == row["trained_lam"] else []
            for setting in settings:
                found.setdefault(setting, {})[_name_other(row), int(row["severity"])] = row["key"]
    return found


def _rows_of_others(run: Run) -> list[dict[str, Any]]:
    return [*to_records(run.shifted), *to_records(run.sequences)]


def _name_other(row: dict[str, Any]) -> str:
    """Name a cell of a shift or a sequence: the clean images next to a shift are the images of its classes."""
    if pd.notna(row["sequence"]):
        return str(row["perturbation"])
    title = SHIFTS[row["shift"]].title
    return title if row["perturbation"] in SHIFTS else f"clean, classes of {title}"


def _compare_others(first: Run, second: Run, models: Models) -> tuple[list[dict[str, Any]], list[str]]:
    """Compare natural shifts and sequences; return the rows, and the reasons for those that are left out."""
    ours, theirs = (_list_others(run, model) for run, model in zip((first, second), models))
    rows, reasons = [], []
    for (policy, lam), mine in ours.items():
        both = {
            place: (key, other) for place, key in mine.items() if (other := theirs.get((policy, lam), {}).get(place))
        }
        alike = {place: keys for place, keys in both.items() if _saw_same(first, second, keys)}
        reasons += [
            f"{name} is left out, since its images differ between the runs" for name, _ in both.keys() - alike.keys()
        ]
        groups = {name: [(name, level)] for name, level in alike}
        asked = {*list_sequences(first)}
        if asked and asked == {*list_sequences(second)} and asked <= groups.keys():
            groups[MEAN_OF_SEQUENCES] = [place for place in alike if place[0] in asked]
        for title, places in groups.items():
            row = {"perturbation": title, "model": models[0], "policy": policy, "severities": len(places)}
            row["lam"] = np.nan if lam is None else lam
            pairs = [[run.outcome(key) for run, key in zip((first, second), alike[place])] for place in places]
            rows += [{**row, **numbers} for numbers in _compare_outcomes(pairs)]
    return rows, reasons


def _saw_same(first: Run, second: Run, keys: tuple[str, str]) -> bool:
    """Check that two cells are of the same images and classes."""
    identities = [run.identity(key) for run, key in zip((first, second), keys)]
    return all(identities[0].get(name) == identities[1].get(name) for name in _OF_IMAGES)


def _compare_outcomes(pairs: list[list[pd.DataFrame]]) -> Iterator[dict[str, Any]]:
    """Compare the means of some cells' outcomes, by measure; flips and distances where there are any."""
    is_one = all(one.equals(two) for one, two in pairs)
    measures = ("flips", "top5_distance") if "flips" in pairs[0][0] else ("accuracy",)
    for measure in measures:
        column, largest = _SCALES[measure]
        if all(column in outcome for pair in pairs for outcome in pair):
            one, two = (np.mean([pair[which][column] for pair in pairs], axis=0) for which in (0, 1))
            interval = (0.0, 0.0, 0.0) if is_one else largest * np.array(paired_interval((two - one) / largest))
            row = {"measure": measure, "n": len(one), "first": one.mean(), "second": two.mean()}
            yield row | dict(zip(("difference", "low", "high"), interval, strict=True))


def _find_only_in_one(first: Run, second: Run) -> Iterator[str]:
    """Name what only one of the runs has, and the attacks, whose images are another model's in another run."""
    ours, theirs = ({*run.corruptions, *map(_name_other, _rows_of_others(run))} for run in (first, second))
    for run, only in ((first, ours - theirs), (second, theirs - ours)):
        if only:
            yield f"only {run.directory.path} has {', '.join(sorted(only))}, left out here"
    if any(run.record["suite"].get("attacks") for run in (first, second)):
        yield "attacks are left out, since every model has adversarial images of its own: see tables/attacks.csv"
