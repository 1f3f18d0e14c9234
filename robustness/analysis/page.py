"""``report.html``: everything a run says, in one file that needs no network."""

from __future__ import annotations

import html
import json
import math
from importlib.resources import files
from typing import Any

import numpy as np
import pandas as pd

from data_prep.corruptions.registry import CORRUPTIONS
from data_prep.files import write_text
from robustness.analysis.attacks import Attacks
from robustness.analysis.findings import Findings
from robustness.analysis.frames import Run
from robustness.analysis.page_data import collect, list_shown
from robustness.analysis.summary import MEAN, find_direction
from robustness.analysis.tables import describe
from robustness.analysis.trust import OK
from robustness.attack import NORMS, format_eps

_DECIMALS = 4
_NBSP = "\N{NO-BREAK SPACE}"
_AGAINST = ("points more than", "points less than", "no measurable difference to")
_SCRIPTS = ("tools", "charts", "law", "attacks", "tables", "page")
"""Of the folder ``template``, in this order."""


def write_page(findings: Findings) -> None:
    """Write ``report.html`` into the run directory."""
    folder = files("robustness") / "analysis" / "template"
    run, shown = findings.run, list_shown(findings)
    left_out = len(run.models) - len(shown)
    limit = (
        f" Of {len(run.models)} models this page shows {len(shown)}: all are in cells.csv and tables/."
        if left_out
        else ""
    )
    fields = {
        "title": html.escape(f"{run.record['suite']['name']}: robustness across λ"),
        "kicker": html.escape(f"Robustness across λ · suite {run.record['suite']['name']}"),
        "headline": html.escape(headline(findings)),
        "lede": html.escape(
            f"{run.record['suite']['description']}. {describe(run)}. Intervals are of 95{_NBSP}%.{limit}"
        ),
        "css": (folder / "page.css").read_text(encoding="utf-8"),
        "script": "".join((folder / f"{name}.js").read_text(encoding="utf-8") for name in _SCRIPTS),
        "data": to_embedded_json(collect(findings)),
    }
    page = (folder / "page.html").read_text(encoding="utf-8")
    parts = [part.split("}}", 1) for part in page.split("{{")]
    filled = parts[0][0] + "".join(fields[name] + rest for name, rest in parts[1:])
    write_text(run.directory.path / "report.html", filled)


def to_embedded_json(values: Any) -> str:
    """JSON that may stand inside a ``<script>`` element whatever it holds: no ``<``, NaN as null."""

    def clean(value: Any) -> Any:
        if isinstance(value, dict):
            return {str(key): clean(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [clean(item) for item in value]
        if isinstance(value, float | np.floating):
            return round(float(value), _DECIMALS) if math.isfinite(value) else None
        return value.item() if isinstance(value, np.generic) else value

    text = json.dumps(clean(values), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def headline(findings: Findings) -> str:
    """The run in one sentence. It never speaks of ``oracle``, nor of a difference that is not beyond doubt."""
    run = findings.run
    means = findings.summary[findings.summary["perturbation"] == MEAN]
    trained = means[means["policy"] == "trained"]
    if not len(trained):
        said = None if findings.attacks is None else _say_attacks(run, findings.attacks)
        return said or f"{', '.join(run.models)}: accuracy on {run.record['data']['title']}."
    start = trained.iloc[0]
    model = str(start["model"])
    count = len([name for name in run.corruptions if not CORRUPTIONS[name].extra])
    sentence = f"Under {count} corruptions {model} keeps {100 * start['accuracy']:.1f}{_NBSP}% accuracy"
    if math.isfinite(start["versus"]):
        sentence += f", {_say('versus', start, _AGAINST)} {run.baseline}"
    for policy, way in (("residual", "image by image"), ("validated", "on training images")):
        chosen = means[(means["model"] == model) & (means["policy"] == policy)]
        if len(chosen):
            phrases = ("points on top", "points", "nothing measurable")
            verb = "costs" if find_direction(chosen.iloc[0], "gain") < 0 else "adds"
            return f"{sentence}; choosing λ {way} {verb} {_say('gain', chosen.iloc[0], phrases)}."
    return f"{sentence}."


def _say_attacks(run: Run, attacks: Attacks) -> str | None:
    """What an attack leaves of the first model at its λ of training, and whether another λ is better.

    It speaks of the first norm, at the largest ε that anything survives for certain, of the worst case over the λs
    where there is one (``adaptive``), and says the trust mark. Numbers with a worse mark are not compared with.
    """
    model = run.models[0]
    rows = attacks.rows[(attacks.rows["model"] == model) & (attacks.rows["policy"] == "")]
    if not len(rows):
        return None
    rows = rows[rows["norm"] == rows["norm"].iloc[0]]
    threat = "adaptive" if (rows["threat"] == "adaptive").any() else "whitebox"
    rows = rows[rows["threat"] == threat]
    survived = rows.loc[(rows["accuracy"] > 0) & (rows["trust"] == OK), "eps"]
    rows = rows[rows["eps"] == (survived.max() if len(survived) else rows["eps"].min())]
    trained = next(m["lam"] for m in run.record["models"] if m["name"] == model)
    at_trained = rows[rows["lam"].isna() | (rows["lam"] == trained)]
    if not len(at_trained):
        return None
    row = at_trained.iloc[0]
    budget = f"{row['perturbation']} within {NORMS[row['norm']]} {format_eps(row['eps'], row['norm'])}"
    kept = f"{100 * row['accuracy']:.1f}{_NBSP}% accuracy [{100 * row['ci_low']:.1f}, {100 * row['ci_high']:.1f}]"
    sentence = f"Under {budget} {model} keeps {kept}"
    if threat == "adaptive":
        sentence += ", whatever λ the attacker assumes"
    if row["versus_trust"] == row["trust"]:
        sentence += f", {_say('versus', row, _AGAINST)} {run.baseline}"
    others = rows[rows["gain"].notna()]
    if len(others):
        better = sum(find_direction(other, "gain") > 0 for _, other in others[others["gain_trust"] == OK].iterrows())
        sentence += f"; {better or 'none'} of {len(others)} other λs {'is' if better < 2 else 'are'} measurably better"
    return f"{sentence} (trust: {row['trust']})."


def _say(name: str, row: pd.Series, phrases: tuple[str, str, str]) -> str:
    """A paired difference in words: (more, less, not told apart)."""
    more, less, neither = phrases
    direction = find_direction(row, name)
    return f"{100 * abs(row[name]):.1f} {more if direction > 0 else less}" if direction else neither
