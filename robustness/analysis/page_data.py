"""The report's data as JSON values: accuracies and differences in percent, sample images as data URIs."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import math
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from data_prep.kinds import group_of, is_extra
from robustness.analysis.attacks import Attacks
from robustness.analysis.findings import Findings
from robustness.analysis.frames import Run
from robustness.analysis.looks import family_look, model_looks
from robustness.analysis.model_figures import describe_line
from robustness.analysis.sequences import SEQUENCE_NOTE
from robustness.analysis.shifts import SHIFT_NOTE
from robustness.analysis.summary import find_main_mean, group_corruptions
from robustness.analysis.tables import describe, format_rank, list_missing, own_up
from robustness.attack import NORMS, format_eps
from robustness.grids import format_lam
from robustness.laws import Family
from robustness.options import rerun_words
from robustness.policies import is_upper_bound
from robustness.statistics import adjust_for_many

_LARGE_SIDE = 64
"""Pixels per side above which sample images are shrunk and stored as JPEG."""
_MOST_ROWS = 8_000
"""Largest number of rows in the table of all measurements; a row takes 0.55 kB of the page, charts included."""
_TITLE = "How robust is an image classifier, really? A harness across the test-time sparsity of SDNet"
_CITATION = f"""@misc{{sdnet-robustness,
  author = {{{{The authors of sdnet-robustness}}}},
  title = {{{_TITLE}}},
  note = {{OWN}}
}}"""
"""Citation as in ``CITATION.cff``, without a year or an address."""
_SDNET = """

@inproceedings{dai2022sdnet,
  title = {Revisiting Sparse Convolutional Model for Visual Recognition},
  author = {Dai, Xili and Li, Mingyang and Zhai, Pengyuan and Tong, Shengbang and Gao, Xingjian and Huang, Shao-Lun and
            Zhu, Zhihui and You, Chong and Ma, Yi},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2022}
}"""
"""Citation of the method behind every run with a λ."""


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
    summary, policies = _to_percent(_adjust(run, summary)), _to_percent(policies)
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
        "rows": shown.rename(columns={"ci_low": "low", "ci_high": "high"}).to_dict("records"),
        "policies": _policy_rows(scores, summary, title),
        "refused": sorted(set(scores["refused"]) - {""}),
        "attacks": _attack_rows(findings.attacks, models),
        "worst": _worst_rows(findings.attacks, models),
        "shifts": _shift_rows(findings.shifts, models),
        "shift_note": SHIFT_NOTE,
        "sequences": _sequence_rows(findings.sequences, models),
        "sequence_note": SEQUENCE_NOTE,
        "missing": list_missing(run),
        "laws": {model: _law(run, model) for model in run.laws if model in models},
        "samples": _samples(run),
        "record": _record(run),
        "rerun": _rerun(run),
        "cite": _cite(run),
    }


def _adjust(run: Run, summary: pd.DataFrame) -> pd.DataFrame:
    """Adjust p of the corruptions under one model and λ policy for all of them; p of a mean stays."""
    adjusted = summary.copy()
    alone = summary["perturbation"].isin(["clean", *group_corruptions(run)])
    setting = [summary["model"], summary["policy"], summary["lam"].where(summary["policy"] == "fixed", -1.0)]
    for _, rows in summary[~alone].groupby(setting, sort=False):
        for name in ("gain_p", "versus_p"):
            adjusted.loc[rows.index, name] = adjust_for_many(rows[name])
    return adjusted


def _board(findings: Findings, models: list[str]) -> dict[str, Any]:
    """Collect the leaderboard: its rows in percent, and the columns of threats with their titles."""
    board = findings.board
    table = board.table[board.table["model"].isin(models)]
    names = ["clean", "mean", "shifts", "steady", "clean_top5", "mean_top5", *board.threats]
    ends = [f"{name}{end}" for name in names for end in ("", "_low", "_high")]
    table = table.assign(**{name: 100 * table[name].astype(float) for name in ends})
    ranks = [format_rank(first, last) for first, last in zip(table["rank_from"], table["rank_to"])]
    alike = [text if isinstance(text, str) else "" for text in table["alike"]]
    rows = table.assign(rank=ranks, alike=alike).to_dict("records")
    return {"rows": rows, "measure": board.measure, "threats": list(board.threats.items())}


def _classes(findings: Findings, models: list[str]) -> dict[str, list[dict[str, Any]]]:
    """Collect accuracy by class in percent, by model, for as many models as there is room for."""
    table = findings.classes[findings.classes["model"].isin(models)]
    ends = [f"{name}{end}" for name in ("clean", "mean") for end in ("", "_low", "_high")]
    table = table.assign(**{name: 100 * table[name] for name in ends if name in table})
    groups = {str(model): rows.to_dict("records") for model, rows in table.groupby("model", sort=False)}
    room = max(1, _MOST_ROWS // 2 // max([1, *map(len, groups.values())]))
    return {model: [{str(k): v for k, v in row.items()} for row in rows] for model, rows in list(groups.items())[:room]}


def _worst_rows(attacks: Attacks | None, models: list[str]) -> list[dict[str, Any]]:
    """Collect robust accuracy in percent at every λ: the worst case over everything that was tried."""
    if attacks is None or not len(attacks.worst):
        return []
    worst = attacks.worst[attacks.worst["model"].isin(models) & (attacks.worst["policy"] == "")]
    rows = worst.assign(
        title=[f"{NORMS[norm]} {format_eps(eps, norm)}" for norm, eps in zip(worst["norm"], worst["eps"])],
        **{new: 100 * worst[old] for old, new in (("accuracy", "accuracy"), ("ci_low", "low"), ("ci_high", "high"))},
    )
    names = ["model", "lam", "title", "eps", "n", "accuracy", "low", "high", "trust", "trust_reason"]
    return [{str(key): value for key, value in row.items()} for row in rows[names].to_dict("records")]


def _shift_rows(table: pd.DataFrame, models: list[str]) -> list[dict[str, Any]]:
    """Collect natural shifts in percent."""
    shares = [f"{kind}{name}" for kind in ("", "clean_") for name in ("accuracy", "ci_low", "ci_high")]
    shares.append("effective_robustness")
    rows = table[table["model"].isin(models)].assign(**{name: 100 * table[name] for name in shares})
    return [{str(name): value for name, value in row.items()} for row in rows.to_dict("records")]


def _sequence_rows(table: pd.DataFrame, models: list[str]) -> list[dict[str, Any]]:
    """Collect flips of perturbation sequences in percent."""
    shares = ["flips", "flips_low", "flips_high"]
    rows = table[table["model"].isin(models)].assign(**{name: 100 * table[name] for name in shares})
    return [{str(name): value for name, value in row.items()} for row in rows.to_dict("records")]


def _title(policy: str) -> str:
    return f"{policy} (upper bound)" if is_upper_bound(policy) else policy


def _to_percent(frame: pd.DataFrame) -> pd.DataFrame:
    names = ["accuracy", "ci_low", "ci_high", "sparsity", "calibration", "calibration_low", "calibration_high"]
    names += [f"{name}{suffix}" for name in ("gain", "versus") for suffix in ("", "_low", "_high")]
    return frame.assign(**{name: 100 * frame[name] for name in names if name in frame.columns})


def _lambdas(run: Run, model: str) -> list[float]:
    own = run.corrupted[run.corrupted["model"] == model]
    return [float(lam) for lam in sorted(own["lam"].dropna().unique())]


def _groups(run: Run) -> list[tuple[str, list[str]]]:
    groups: dict[str, list[str]] = {}
    for name in run.corruptions:
        groups.setdefault("extra" if is_extra(name) else group_of(name), []).append(name)
    return list(groups.items())


def _values(rows: pd.DataFrame) -> list[dict[str, float]]:
    names = {"accuracy": "accuracy", "ci_low": "low", "ci_high": "high"}
    names |= {f"{name}{end}": f"{name}{end}" for name in ("gain", "versus") for end in ("", "_low", "_high", "_p")}
    return [
        {str(name): value for name, value in row.items()}
        for row in rows[list(names)].rename(columns=names).to_dict("records")
    ]


def _of_grid(frame: pd.DataFrame, model: str) -> pd.DataFrame:
    return frame[(frame["model"] == model) & frame["policy"].isin(["none", "fixed"])]


def _by_lam(frame: pd.DataFrame, model: str, lambdas: list[float]) -> dict[str, list[dict[str, float] | None]]:
    """Collect for every perturbation the values at every λ, null if one is missing; a model without λ has one value."""
    table: dict[str, list[dict[str, float] | None]] = {}
    for name, rows in _of_grid(frame, model).groupby("perturbation", sort=False):
        found = dict(zip(rows["lam"], _values(rows)))
        table[str(name)] = [found.get(lam) for lam in lambdas] if lambdas else list(found.values())
    return table


def _by_severity(frame: pd.DataFrame, model: str, lambdas: list[float]) -> dict[str, Any]:
    """Collect for every corruption its severities, and the values at every λ and severity."""
    own = _of_grid(frame, model)
    table = {}
    for name, rows in own[own["severity"] > 0].groupby("perturbation", sort=False):
        severities = sorted(rows["severity"].unique().tolist())
        columns: list[float | None] = [*lambdas] or [None]
        found = dict(zip(zip(rows["lam"] if lambdas else columns * len(rows), rows["severity"]), _values(rows)))
        values = [[found.get((lam, level)) for level in severities] for lam in columns]
        table[str(name)] = {"severities": severities, "values": values}
    return table


def _policy_rows(scores: pd.DataFrame, summary: pd.DataFrame, title: str | None) -> list[dict[str, Any]]:
    """Collect the scores of every model and policy, and the mean over the corruptions."""
    means = summary[summary["perturbation"] == title].drop(columns="n")
    rows = scores.merge(means, how="left", on=["model", "policy", "lam"])
    clean = {f"clean{end}": 100 * rows[f"clean_accuracy{end}"] for end in ("", "_low", "_high")}
    rows = rows.assign(**clean, policy=rows["policy"].map(_title)).rename(columns={"ci_low": "low", "ci_high": "high"})
    return [dict(zip(map(str, rows.columns), values)) for values in rows.itertuples(index=False)]


def _attack_rows(attacks: Attacks | None, models: list[str]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    if attacks is None:
        return rows
    for _, row in attacks.rows[attacks.rows["model"].isin(models)].iterrows():
        lam = "" if pd.isna(row["lam"]) else format_lam(row["lam"])
        fields = {name: row[name] for name in ("model", "perturbation", "threat", "n", "trust", "trust_reason")}
        fields |= {"norm": NORMS[row["norm"]]}
        fields |= {"eps": format_eps(row["eps"], row["norm"]), "lam": lam or row["policy"]}
        fields |= {"title": f"{row['perturbation']} {NORMS[row['norm']]}"}
        fields |= {"at": row["lam"], "policy": row["policy"], "budget": float(row["eps"])}
        fields |= {"accuracy": 100 * row["accuracy"], "low": 100 * row["ci_low"], "high": 100 * row["ci_high"]}
        rows.append(fields)
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
    samples = run.directory.read_samples()
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


def _record(run: Run) -> list[tuple[str, str]]:
    record, data = run.record, run.record["data"]
    done = len(record["cells"]) - len(run.missing)
    return [
        ("status", f"{record['status']}: {done} of {len(record['cells'])} cells"),
        ("measured in", f"{_duration(run)} of computing, summed over the cells"),
        ("last session", f"{record['started']} to {record['written']}"),
        ("data", describe(run)),
        ("fingerprint", data["fingerprint"]),
        ("seed", str(record["suite"]["seed"])),
        *((m["name"], _describe_model(m)) for m in record["models"]),
        *((a["model"], _describe_agreement(a)) for a in record.get("agreement", [])),
        *(row for environment, count in run.environments for row in _describe_environment(run, environment, count)),
    ]


def _describe_environment(run: Run, environment: dict[str, Any], count: int) -> Iterator[tuple[str, str]]:
    """Describe hardware, versions and revision; with several environments, count this one's cells."""
    of = f" of {count} cell{'s' * (count != 1)}" if len(run.environments) > 1 else ""
    yield f"hardware{of}", ", ".join(f"{name} {value}" for name, value in environment["hardware"].items())
    yield f"versions{of}", ", ".join(f"{name} {version}" for name, version in environment["versions"].items())
    if git := environment["git"]:
        yield f"revision{of}", git["commit"] + (" with changes" if git.get("dirty") else "")


def _duration(run: Run) -> str:
    """Add up the time of all cells, over all sessions and machines."""
    seconds = pd.concat([run.cells["seconds"], run.selection["seconds"]]).sum()
    minutes = round(seconds / 60)
    return f"{seconds:.0f} s" if minutes < 2 else f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def _describe_model(model: dict[str, Any]) -> str:
    width = f", width {model['width']}" if "width" in model else ""
    return f"{model['arch']}{width}, weights {model['weights']}"


def _describe_agreement(agreement: dict[str, Any]) -> str:
    return f"--speed fast agrees with exact on {agreement['same']} of {agreement['n']} clean images"


def _rerun(run: Run) -> str:
    """Return the command that repeats the run, and the command that rebuilds this page."""
    words = rerun_words(run.record)
    again = shlex.join(["python", *(",".join(map(_to_relative, text.split(","))) for text in words)]) if words else ""
    return again + (
        "\n\n# the tables, figures and this page again, without models or data:\n"
        f"python -m robustness.report {shlex.quote(_to_relative(str(run.directory.path)))}"
    )


def _to_relative(text: str) -> str:
    """Remove the folders of this machine from an argument: an absolute path becomes its last name."""
    option, equals, value = text.rpartition("=") if text.startswith("-") else ("", "", text)
    return option + equals + (Path(value).name if Path(value).is_absolute() else value)


def _cite(run: Run) -> str:
    suite, data = run.record["suite"]["name"], run.record["data"]
    version = run.record["environment"]["versions"].get("sdnet-robustness", "unknown")
    own = f"version {version}; suite {suite}, {data['title']}, n = {data['n']}, protocol {run.record['protocol']}"
    has_lam = any(model["lam"] is not None for model in run.record["models"])
    return _CITATION.replace("OWN", own) + (_SDNET if has_lam else "")
