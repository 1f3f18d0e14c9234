"""The paper's table: baseline, SDNet at its training λ and adaptive SDNet, by corruption and severity."""

from __future__ import annotations

import functools
from importlib.resources import files
from typing import Any

import pandas as pd

from robustness.analysis.columns import to_records
from robustness.analysis.findings import Findings
from robustness.analysis.frames import Run
from robustness.analysis.summary import direction_of
from robustness.statistics import LEVEL, adjust_for_many

COLUMNS = ("baseline", "trained", "adaptive")
_Row = dict[str, Any]
"""A row of a table, by column."""
_SOURCE = "as quoted by Qin et al. (ACSC)"
PUBLISHED_SOURCE = f"{_SOURCE}; results/paper/"
_TEST_IMAGES, _WIDTH = {"cifar10": 10_000, "imagenet": 50_000}, 64


def tabulate_severities(findings: Findings, model: str) -> pd.DataFrame:
    """Tabulate accuracy in percent of the baseline, of ``model`` at its training λ and under the policy ``residual``.

    Returns:
        One row for the clean images (severity 0), one per corruption and severity, and one for their mean (``mean``).
        Columns ``corruption, severity, baseline, trained, adaptive``; ``best``: the column that is better than both
        others significantly (:func:`~robustness.analysis.summary.direction_of`, after Holm's adjustment of the larger
        p for all rows), empty if there is none; and, on the rows of clean images and of means, ``published_baseline,
        published_trained, published_tuned`` where the protocol is comparable (:func:`differences` lists what differs).
    """
    run = findings.run
    places: dict[str, dict[str, dict[str, _Row]]] = {}
    means = findings.summary[findings.summary["perturbation"] != "clean"].assign(severity="mean")
    for table in (findings.policies, means):
        own = table[table["model"].isin([model, run.baseline])]
        for found in to_records(own):
            column = _find_column(found, model)
            if column:
                levels = places.setdefault(found["perturbation"], {})
                levels.setdefault(str(found["severity"]), {})[column] = found
    published = find_published(run, model)
    rows = []
    for corruption in ["clean", *run.corruptions]:
        for severity, candidates in places.get(corruption, {}).items():
            row = {"corruption": corruption, "severity": severity, **_compare(candidates)}
            if severity in ("mean", "0") and corruption in published.index:
                row |= {_published(name): value for name, value in published.loc[corruption].items()}
            rows.append(row)
    names = ["corruption", "severity", *COLUMNS, "best", *map(_published, published.columns)]
    table = pd.DataFrame(rows, columns=[*names, "p"])
    table["best"] = table["best"].where(adjust_for_many(table["p"].to_numpy(dtype=float)) < LEVEL, "")
    return table[names]


def _published(name: object) -> str:
    """Name the column of a published accuracy."""
    return f"published_{name}"


def list_published(table: pd.DataFrame) -> dict[str, str]:
    """List the columns of published accuracies in a table of :func:`tabulate_severities`, by what they hold."""
    columns = {name: _published(name) for name in ("baseline", "trained", "tuned")}
    return {name: column for name, column in columns.items() if column in table}


def _find_column(row: _Row, model: str) -> str | None:
    """Return the column that a table row belongs to, if any: the model's own, otherwise the baseline's."""
    if row["model"] != model:
        return "baseline" if row["policy"] in ("none", "trained") else None
    return {"trained": "trained", "residual": "adaptive"}.get(row["policy"])


def _compare(candidates: dict[str, _Row]) -> dict[str, Any]:
    """Return the accuracies of one row by column, the significantly best column, and the largest p behind it."""
    accuracies = {name: 100 * candidates[name]["accuracy"] for name in COLUMNS if name in candidates}
    beaten: dict[str, list[float]] = {name: [] for name in accuracies}
    for winner, loser, title in (
        ("adaptive", "trained", "gain"),
        ("adaptive", "baseline", "versus"),
        ("trained", "baseline", "versus"),
    ):
        if winner in accuracies and loser in accuracies:
            direction = direction_of(candidates[winner], title)
            for name in (winner,) * (direction > 0) + (loser,) * (direction < 0):
                beaten[name].append(candidates[winner][f"{title}_p"])
    best = [name for name, p_values in beaten.items() if p_values and len(p_values) == len(accuracies) - 1]
    return {**accuracies, "best": best[0] if best else "", "p": max(beaten[best[0]]) if best else 1.0}


@functools.cache
def _read_published(name: str) -> pd.DataFrame:
    with (files("robustness") / "analysis" / "published" / f"{name}.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file)


def find_published(run: Run, model: str) -> pd.DataFrame:
    """Return the published accuracies comparable with a run, perturbation × (baseline, trained, tuned), or none.

    Comparable means the same data set and architectures and, under corruptions, also the parameters of the -C archives
    and all five severities. Clean images have no ``tuned``.
    """
    if run.baseline is None:
        return pd.DataFrame()
    parts = [_find_clean(run, model), _find_corrupted(run, model)]
    return pd.concat([part for part in parts if not part.empty]) if any(map(len, parts)) else pd.DataFrame()


def _find_clean(run: Run, model: str) -> pd.DataFrame:
    own = _read_published("clean").set_index("arch")
    own = own[(own["data"] == run.record["data"]["name"]) & (own["source"] == _SOURCE)]
    names = {"baseline": _arch(run, str(run.baseline)), "trained": _arch(run, model)}
    if not set(names.values()) <= set(own.index):
        return pd.DataFrame()
    return pd.DataFrame({title: own.loc[arch, "accuracy"] for title, arch in names.items()}, index=["clean"])


def _find_corrupted(run: Run, model: str) -> pd.DataFrame:
    suite = run.record["suite"]
    if suite["profile"] == "sweep" or len(suite.get("severities") or range(5)) < 5:
        return pd.DataFrame()
    table = _read_published("corruptions")
    own = table[table["data"] == run.record["data"]["name"]]
    columns = {
        "baseline": own[(own["arch"] == _arch(run, str(run.baseline))) & (own["policy"] == "none")],
        "trained": own[(own["arch"] == _arch(run, model)) & (own["policy"] == "trained")],
        "tuned": own[(own["arch"] == _arch(run, model)) & (own["policy"] == "tuned")],
    }
    if any(rows.empty for rows in columns.values()):
        return pd.DataFrame()
    return pd.DataFrame({name: rows.set_index("corruption")["accuracy"] for name, rows in columns.items()})


def _arch(run: Run, model: str) -> str:
    """Return the name of a model's network in the published tables."""
    network = next(m for m in run.record["models"] if m["name"] == model)
    is_plain = network["arch"].endswith("_all") and not network.get("shortcut", True)
    return f"{network['arch']} without shortcut" if is_plain else str(network["arch"])


def differences(run: Run, model: str) -> list[str]:
    """List the differences between this protocol and the protocol of the published figures, one clause each."""
    data = run.record["data"]
    width = {m["name"]: m.get("width") for m in run.record["models"]}[model]
    clauses = []
    if data["title"] != data["name"]:
        clauses.append(f"the images are {data['title']}")
    if data["n"] < _TEST_IMAGES[data["name"]]:
        clauses.append(f"{data['n']:,} of {_TEST_IMAGES[data['name']]:,} test images")
    corrupted = "tuned" in find_published(run, model)
    if corrupted and data["source"] != "official":
        clauses.append("corruptions are generated here, not read from the official files")
    if width != _WIDTH:
        clauses.append(f"the networks have width {width} instead of {_WIDTH}")
    clauses.append("the models are of other trainings")
    if corrupted:
        clauses.append("their tuned λ may have seen test labels (the attribution of the row is inferred); ours has not")
    return clauses
