"""A run in a sentence or two, which say only what the intervals support, and select no number by its result."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from robustness.analysis.attacks import Attacks
from robustness.analysis.columns import ACCURACY, with_ends
from robustness.analysis.frames import Run
from robustness.analysis.leaderboard import Leaderboard
from robustness.analysis.summary import MEAN_OF_EXTRA, direction_of, directions_of, find_main_mean
from robustness.analysis.texts import name_budget
from robustness.verdicts import OK, OKAY

_NBSP = "\N{NO-BREAK SPACE}"
_AGAINST = ("more than", "less than", "no measurable difference from")
_WAYS = {
    "matched": "by the noise level of each image",
    "residual": "image by image",
    "validated": "on training images",
}
"""Policies that the headline names, the first that a run has, and how they choose λ."""
_FEW = 4
"""Largest number of models that are named; more are only counted."""


def write_headline(run: Run, summary: pd.DataFrame, attacks: Attacks | None, board: Leaderboard) -> str:
    """Write the headline of a run.

    For a run with λ it reports the first model that has one, at its training λ, and the first λ policy in a fixed
    order, never ``oracle`` or the λ that came out best. For several models without λ, for sequences and for natural
    shifts, it names the leading model and the models that cannot be told apart from it. For attacks it reports the
    worst case at the suite's largest ε.
    """
    has_lam = bool((summary["policy"] == "trained").any())
    is_contest = not has_lam or board.measure in ("steady", "shifts")
    parts = [_say_leader(run, board) if is_contest else _say_corruptions(run, summary)]
    if attacks is not None and (has_lam or board.measure not in board.threats):
        parts.append(_say_attacks(run, attacks))
    said = [part for part in parts if part]
    return " ".join(said) or f"{', '.join(run.models)}: accuracy on {run.record['data']['title']}."


def _say_corruptions(run: Run, summary: pd.DataFrame) -> str | None:
    """Compare the first model at its training λ with the baseline, and add one λ policy that needs no test label."""
    title, names = find_main_mean(run)
    means = summary[summary["perturbation"] == title]
    trained = means[means["policy"] == "trained"]
    if not len(trained):
        return None
    start = trained.iloc[0]
    model = str(start["model"])
    sentence = f"{_under(len(names), title)} {model} keeps {_share(start)}"
    if pd.notna(start["versus"]):
        sentence += f", {_differ('versus', start, *_AGAINST)} {run.baseline}"
    for policy, way in _WAYS.items():
        chosen = means[(means["model"] == model) & (means["policy"] == policy)]
        if len(chosen):
            row = chosen.iloc[0]
            verb = "costs" if direction_of(row, "gain") < 0 else "adds"
            gain = _differ("gain", row, "on top", "", "nothing measurable").strip()
            return f"{sentence}; choosing λ {way}{_own_up(run, model, policy, names)} {verb} {gain}."
    return f"{sentence}."


def _own_up(run: Run, model: str, policy: str, names: Sequence[str]) -> str:
    """Name the corruptions under test that a policy also learnt from; empty if there are none."""
    learnt = set(find_learnt(run, model)) & set(names) if policy == "residual" else set()
    return f" (by a law fitted on training images under {len(learnt)} of these {len(names)})" if learnt else ""


def find_learnt(run: Run, model: str) -> list[str]:
    """Return the corruptions of the run that the residual law of a model was fitted on."""
    points = run.laws[model].points if model in run.laws else ()
    fitted = {point.noise for point in points if point.fitted}
    return [name for name in run.corruptions if name in fitted]


def _say_leader(run: Run, board: Leaderboard) -> str | None:
    """Name the only model, or the leading model and the models that cannot be told apart from it."""
    ranked = board.table[board.table[board.measure].notna()]
    if not len(ranked):
        return None
    row, model = ranked.iloc[0], ranked.iloc[0]["model"]
    title, names = find_main_mean(run)
    places = {name: f"Under every attack of the run within {budget}" for name, budget in board.threats.items()}
    places |= {"mean": _under(len(names), title), "steady": "Along perturbation sequences"}
    places |= {"shifts": "Under natural shifts", "clean": "On clean images"}
    where = places[board.measure]
    trust = row[f"{board.measure}_trust"] if board.measure in board.threats else run.doubts.get(model, OKAY).mark
    mark = f" (trust: {trust})" if board.measure in board.threats or model in run.doubts else ""
    kept = _share(row, board.measure) + mark
    if board.measure == "steady":
        kept = f"the class in {_share(row, board.measure, of='of the frames')}"
    if len(ranked) == 1:
        return f"{where} {model} keeps {kept}."
    if model not in board.ranks:
        return f"{where} {model} seems to keep {kept}, which is not to be believed."
    alike = board.ranks[model].alike
    if not alike:
        return f"{where} {model} keeps most of {len(ranked)} models: {kept}."
    named = " and ".join(filter(None, (", ".join(alike[:-1]), alike[-1])))
    others = named if len(alike) <= _FEW else f"{len(alike)} others"
    tested = f"({len(ranked)} models, all pairs tested)"
    return f"{where} {model} keeps {kept}; {others} cannot be told apart from it {tested}."


def _say_attacks(run: Run, attacks: Attacks) -> str | None:
    """Report the worst case of the first attacked model, at its training λ and the largest ε of the first norm.

    Says also if another λ is better, tested for all of them together. Marked numbers are not compared.
    """
    asked = [cell for cell in run.record["cells"] if cell.get("norm") is not None]
    if not asked:
        return None
    norm = asked[0]["norm"]
    model = next(name for name in run.models if name in {cell["model"] for cell in asked})
    eps = max(float(cell["eps"]) for cell in asked if cell["norm"] == norm)
    budget = name_budget(norm, eps)
    worst = attacks.worst
    rows = worst[(worst["model"] == model) & (worst["norm"] == norm) & (worst["eps"] == eps) & (worst["policy"] == "")]
    trained = next(m["lam"] for m in run.record["models"] if m["name"] == model)
    at_trained = rows[rows["lam"].isna() | (rows["lam"] == trained)]
    if not len(at_trained):
        return f"The attacks on {model} within {budget} are not finished."
    row = at_trained.iloc[0]
    sentence = f"Under every attack of the run within {budget} {model} keeps {_share(row)}"
    if len(rows) > 1:
        sentence += ", whatever λ the attacker assumes"
    if row["versus_trust"] == OK:
        sentence += f", {_differ('versus', row, *_AGAINST)} {run.baseline}"
    others = rows[rows["gain"].notna()]
    if len(others):
        better = directions_of(others[others["gain_trust"] == OK], "gain").count(1)
        count = f"{better or 'none'} of the {len(others)} other λs" if len(others) > 1 else "the other λ"
        verb = "is not" if len(others) == 1 and not better else "is" if better < 2 else "are"
        sentence += f"; {count} {verb} measurably better" + (", all tested together" if len(others) > 1 else "")
    return f"{sentence} (trust: {row['trust']})."


def _under(count: int, title: str | None) -> str:
    kind = "extra corruption" if title == MEAN_OF_EXTRA else "corruption"
    return f"Under {count} {kind}{'s' * (count != 1)}"


def _share(row: pd.Series, name: str = "accuracy", *, of: str = "accuracy") -> str:
    value, low, high = (100 * row[column] for column in (ACCURACY if name == "accuracy" else with_ends(name)))
    return f"{value:.1f}{_NBSP}% {of} [{low:.1f}, {high:.1f}]"


def _differ(name: str, row: pd.Series, more: str, less: str, neither: str) -> str:
    """Put a paired difference into words, with its interval in the stated direction."""
    direction = direction_of(row, name)
    if not direction:
        return neither
    value, low, high = (direction * 100 * row[column] for column in with_ends(name))
    ends = sorted((low, high))
    return f"{value:.1f} points [{ends[0]:.1f}, {ends[1]:.1f}] {more if direction > 0 else less}"
