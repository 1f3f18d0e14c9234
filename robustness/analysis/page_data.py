"""The report's data as JSON values: accuracies and differences in percent, sample images as data URIs."""

from __future__ import annotations

import base64
import dataclasses
import io
import itertools
import json
import math
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from data_prep.corruptions.registry import group_of
from robustness.analysis.attacks import Attacks
from robustness.analysis.columns import ACCURACY, ENDS, to_records, with_ends
from robustness.analysis.drawings import family_look, model_looks
from robustness.analysis.findings import Findings
from robustness.analysis.frames import Run
from robustness.analysis.leaderboard import SHARES
from robustness.analysis.model_figures import describe_line
from robustness.analysis.provenance import cite, describe_origin, write_rerun
from robustness.analysis.samples import read_samples
from robustness.analysis.sequences import MEAN_OF_SEQUENCES, SEQUENCE_NOTE
from robustness.analysis.shifts import SHIFT_NOTE
from robustness.analysis.summary import directions_of, find_main_mean, group_corruptions
from robustness.analysis.tables import list_missing, own_up
from robustness.analysis.texts import format_rank, name_budget
from robustness.attack import NORMS, format_eps
from robustness.grids import format_lam
from robustness.laws import Family
from robustness.policies import is_upper_bound
from robustness.statistics import find_direction

_LARGE_SIDE = 64
"""Pixels per side above which sample images are shrunk and stored as JPEG."""
_SHORT = {"ci_low": "low", "ci_high": "high"}
"""Names of the ends of an accuracy's interval in the page."""
_SHIFT_SHARES = (*ACCURACY, *(f"clean_{name}" for name in ACCURACY), "effective_robustness")
_MOST_ROWS = 8_000
"""Largest number of rows in the table of all measurements; a row takes 0.55 kB of the page, charts included."""


def list_shown(findings: Findings) -> list[str]:
    """List the models that the page shows: the baseline and as many of the others as :data:`_MOST_ROWS` has room for.

    A model takes a row for every perturbation, severity and λ policy; one model is shown however many rows it takes.
    """
    run, rows = findings.run, findings.policies["model"].value_counts()
    ordered = sorted(run.models, key=lambda model: model != run.baseline)
    total = rows.reindex(ordered, fill_value=0).cumsum()
    fitting = set(total.index[total <= _MOST_ROWS]) | set(ordered[: 1 + (run.baseline is not None)])
    return [model for model in run.models if model in fitting]


def collect(findings: Findings) -> dict[str, Any]:
    """Collect everything that the page shows as JSON values; accuracies and differences in percent."""
    run, models = findings.run, list_shown(findings)
    summary, policies, scores = (
        frame[frame["model"].isin(models)] for frame in (findings.summary, findings.policies, findings.scores)
    )
    summary = _to_percent(_add_directions(run, summary), *ACCURACY, *with_ends("gain", "versus"))
    policies = _to_percent(policies, *ACCURACY, *with_ends("gain", "versus", "calibration"), "sparsity")
    shown = policies.assign(policy=policies["policy"].map(_title))
    lambdas = {model: _lambdas(run, model) for model in models}
    title, averaged = find_main_mean(run)
    baseline_trained = {m["name"]: m["lam"] for m in run.record["models"]}.get(run.baseline)
    baseline_grid = lambdas.get(run.baseline or "", [])
    return {
        "models": [
            {"name": m["name"], "lambdas": lambdas[m["name"]], "trained": m["lam"] if lambdas[m["name"]] else None}
            for m in run.record["models"]
            if m["name"] in models
        ],
        "baseline": run.baseline,
        "baseline_index": baseline_grid.index(baseline_trained) if baseline_trained in baseline_grid else 0,
        "groups": _groups(run),
        "mean": title,
        "count": len(averaged),
        "looks": {name: look.colour for name, look in model_looks(run.models).items()},
        "board": _board(findings, models),
        "classes": _classes(findings, models),
        "summary": {model: _by_lam(summary, model, lambdas[model]) for model in models},
        "cells": {model: _by_severity(policies, model, lambdas[model]) for model in models},
        "rows": to_records(shown.rename(columns=_SHORT)),
        "policies": _policy_rows(scores, summary, title),
        "refused": sorted(set(scores["refused"]) - {""}),
        "attacks": _attack_rows(findings.attacks, models),
        "worst": _worst_rows(findings.attacks, models),
        "shifts": _list_rows(findings.shifts, models, *_SHIFT_SHARES),
        "shift_note": SHIFT_NOTE,
        "sequences": _list_rows(findings.sequences, models, *with_ends("flips")),
        "sequence_note": SEQUENCE_NOTE,
        "sequence_mean": MEAN_OF_SEQUENCES,
        "missing": list_missing(run),
        "laws": {model: _law(run, model) for model in run.laws if model in models},
        "samples": _samples(run),
        "record": describe_origin(run),
        "rerun": write_rerun(run),
        "cite": cite(run),
    }


def _add_directions(run: Run, summary: pd.DataFrame) -> pd.DataFrame:
    """Add ``gain_direction`` and ``versus_direction``: +1 or −1 for a difference beyond doubt, otherwise 0.

    p of the corruptions under one model and λ policy is adjusted for all of them; p of a mean stays.
    """
    told = summary.copy()
    tested = np.flatnonzero(~summary["perturbation"].isin(["clean", *group_corruptions(run)]))
    fixed = summary["lam"].where(summary["policy"] == "fixed", -1.0)
    families = summary.assign(lam=fixed).iloc[tested].groupby(["model", "policy", "lam"], sort=False).indices
    for name in ("gain", "versus"):
        directions = np.array([*map(find_direction, *(summary[f"{name}_{end}"] for end in ("low", "high", "p")))], int)
        for positions in families.values():
            rows = tested[positions]
            directions[rows] = directions_of(summary.iloc[rows], name)
        told[f"{name}_direction"] = directions
    return told


def _board(findings: Findings, models: list[str]) -> dict[str, Any]:
    """Collect the leaderboard: its rows in percent, and the columns of threats with their titles."""
    board = findings.board
    table = board.table[board.table["model"].isin(models)]
    table = _to_percent(table, *with_ends(*SHARES, *board.threats))
    ranks = [format_rank(first, last) for first, last in zip(table["rank_from"], table["rank_to"])]
    rows = [
        {**row, "alike": board.ranks[row["model"]].alike if row["model"] in board.ranks else []}
        for row in to_records(table.assign(rank=ranks))
    ]
    return {"rows": rows, "measure": board.measure, "threats": list(board.threats.items())}


def _classes(findings: Findings, models: list[str]) -> dict[str, list[dict[str, Any]]]:
    """Collect accuracy by class in percent, by model, for as many models as there is room for."""
    table = findings.classes[findings.classes["model"].isin(models)]
    if not len(table):
        return {}
    table = _to_percent(table, *with_ends("clean", "mean"))
    groups = {str(model): to_records(rows) for model, rows in table.groupby("model", sort=False)}
    room = max(1, _MOST_ROWS // 2 // max(map(len, groups.values())))
    return dict(itertools.islice(groups.items(), room))


def _worst_rows(attacks: Attacks | None, models: list[str]) -> list[dict[str, Any]]:
    """Collect robust accuracy in percent at every λ: the worst case over everything that was tried."""
    if attacks is None or not len(attacks.worst):
        return []
    worst = attacks.worst[attacks.worst["model"].isin(models) & (attacks.worst["policy"] == "")]
    titles = [name_budget(norm, eps) for norm, eps in zip(worst["norm"], worst["eps"])]
    rows = _to_percent(worst, *ACCURACY).assign(title=titles).rename(columns=_SHORT)
    names = ["model", "lam", "title", "norm", "eps", "n", "accuracy", "low", "high", "trust", "trust_reason"]
    return to_records(rows[names])


def _list_rows(table: pd.DataFrame, models: list[str], *shares: str) -> list[dict[str, Any]]:
    """Collect the rows of some models, with ``shares`` in percent."""
    return to_records(_to_percent(table[table["model"].isin(models)], *shares))


def _title(policy: str) -> str:
    return f"{policy} (upper bound)" if is_upper_bound(policy) else policy


def _to_percent(frame: pd.DataFrame, *names: str) -> pd.DataFrame:
    return frame.assign(**{name: 100 * frame[name].astype(float) for name in names})


def _lambdas(run: Run, model: str) -> list[float]:
    own = run.corrupted[run.corrupted["model"] == model]
    return [float(lam) for lam in sorted(own["lam"].dropna().unique())]


def _groups(run: Run) -> list[tuple[str, list[str]]]:
    groups: dict[str, list[str]] = {}
    for name in run.corruptions:
        groups.setdefault(group_of(name), []).append(name)
    return list(groups.items())


def _of_grid(frame: pd.DataFrame, model: str) -> pd.DataFrame:
    return frame[(frame["model"] == model) & frame["policy"].isin(["none", "fixed"])]


def _by_lam(frame: pd.DataFrame, model: str, lambdas: list[float]) -> dict[str, list[dict[str, float] | None]]:
    """Collect for every perturbation the values at every λ, null if one is missing; a model without λ has one value."""
    own = _of_grid(frame, model)
    values = own[[*ACCURACY, *with_ends("gain", "versus", ends=(*ENDS, "_direction"))]].rename(columns=_SHORT)
    found: dict[str, dict[float, dict[str, float]]] = {}
    for name, lam, row in zip(own["perturbation"], own["lam"], to_records(values)):
        found.setdefault(name, {})[lam] = row
    return {
        name: [rows.get(lam) for lam in lambdas] if lambdas else list(rows.values()) for name, rows in found.items()
    }


def _by_severity(frame: pd.DataFrame, model: str, lambdas: list[float]) -> dict[str, Any]:
    """Collect for every corruption its severities, and the values at every λ and severity."""
    own = _of_grid(frame, model)
    own = own[own["severity"] > 0]
    columns: list[float | None] = [*lambdas] or [None]
    found: dict[str, dict[tuple[float | None, int], dict[str, float]]] = {}
    places = zip(own["perturbation"], own["lam"] if lambdas else columns * len(own), own["severity"])
    for (name, lam, level), row in zip(places, to_records(own[[*ACCURACY]].rename(columns=_SHORT))):
        found.setdefault(name, {})[lam, level] = row
    table = {}
    for name, rows in found.items():
        severities = sorted({level for _, level in rows})
        values = [[rows.get((lam, level)) for level in severities] for lam in columns]
        table[name] = {"severities": severities, "values": values}
    return table


def _policy_rows(scores: pd.DataFrame, summary: pd.DataFrame, title: str | None) -> list[dict[str, Any]]:
    """Collect the scores of every model and policy, and the mean over the corruptions."""
    means = summary[summary["perturbation"] == title].drop(columns="n")
    rows = scores.merge(means, how="left", on=["model", "policy", "lam"])
    clean = {f"clean{end}": 100 * rows[f"clean_accuracy{end}"] for end in ENDS}
    return to_records(rows.assign(**clean, policy=rows["policy"].map(_title)).rename(columns=_SHORT))


def _attack_rows(attacks: Attacks | None, models: list[str]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    if attacks is None:
        return rows
    shown = _to_percent(attacks.rows[attacks.rows["model"].isin(models)], *ACCURACY).rename(columns=_SHORT)
    for row in to_records(shown):
        names = ("model", "perturbation", "threat", "n", "trust", "trust_reason", "policy", "accuracy", "low", "high")
        fields = {name: row[name] for name in names}
        fields |= {"norm": NORMS[row["norm"]], "title": f"{row['perturbation']} {NORMS[row['norm']]}"}
        fields |= {"eps": format_eps(row["eps"], row["norm"]), "budget": float(row["eps"]), "at": row["lam"]}
        rows.append(fields | {"lam": row["policy"] if pd.isna(row["lam"]) else format_lam(row["lam"])})
    return rows


def _law(run: Run, model: str) -> dict[str, Any]:
    fitted = run.laws[model]
    law, data = fitted.law, fitted.provenance.get("data", {})
    note = f"All levels: {describe_line(law, fitted.r_squared)}, clipped to [{law.lowest:g}, {law.highest:g}]. A point "
    note += f"is a noise level: the λ with the most right answers on {data.get('n', '?')} training images, a mean over "
    note += "bootstrap samples of them. The lines weigh a point by 1 over its squared standard error. r is summed over "
    note += "the normalised values of an image. Faint points were not fitted: the model keeps less than half of its "
    note += "clean accuracy there." + own_up(run, model)
    line = {"slope": f"{law.slope:.9g}", "intercept": law.intercept, "lowest": law.lowest, "highest": law.highest}
    return {**line, "families": [_family(family) for family in fitted.families()], "note": note}


def _family(family: Family) -> dict[str, Any]:
    """Collect a noise of the law: its points, its look, and the ends and the equation of its own line."""
    look, has_line = family_look(family.noise), math.isfinite(family.slope)
    return {
        "noise": family.noise,
        **dataclasses.asdict(look),
        "points": [dataclasses.asdict(point) for point in family.points],
        "line": [[r, family.slope * r + family.intercept] for r in family.span] if has_line else [],
        "equation": describe_line(family, family.r_squared) if has_line else "",
    }


def _samples(run: Run) -> dict[str, Any] | None:
    samples = read_samples(run)
    if samples is None:
        return None
    return {
        "model": str(samples["model"]),
        "lambdas": samples["lambdas"].tolist(),
        "classes": json.loads(str(samples["classes"])),
        "large": samples["perturbed"].shape[2] > _LARGE_SIDE,
        "perturbations": [
            {
                "name": name,
                "severity": severity,
                "input": to_sprite(inputs),
                "rebuilt": [to_sprite(images) for images in rebuilt.swapaxes(0, 1)],
            }
            for (name, severity), inputs, rebuilt in zip(
                json.loads(str(samples["titles"])), samples["perturbed"], samples["reconstructed"]
            )
        ],
    }


def to_sprite(images: np.ndarray) -> str:
    """Join images uint8 (K, H, W, 3) side by side into one data URI: PNG, or a smaller JPEG for large images."""
    picture = Image.fromarray(np.concatenate(list(images), axis=1))
    large = images.shape[1] > _LARGE_SIDE
    if large:
        picture = picture.resize((picture.width * _LARGE_SIDE * 2 // images.shape[1], _LARGE_SIDE * 2))
    buffer = io.BytesIO()
    kind = "jpeg" if large else "png"
    picture.save(buffer, format=kind)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
