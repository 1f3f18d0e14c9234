"""The robust accuracy: what withstands everything that was tried within a budget, image by image."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from robustness.analysis.duels import Choice, Duel, plan_of
from robustness.analysis.frames import Run
from robustness.analysis.statistics import wilson_interval
from robustness.analysis.trust import judge_transfer, unite

_COLUMNS = [
    *("model", "lam", "policy", "norm", "eps", "attacks", "n", "accuracy", "ci_low", "ci_high"),
    *("trust", "trust_reason"),
]


def worst_case(run: Run, duels: Sequence[Duel]) -> pd.DataFrame:
    """The worst case over all attacks and threat models, for every model, norm, ε and λ.

    An attack at a smaller ε in the same norm counts, too: its images lie within the budget. There is a row only where
    everything that was planned is finished.

    Returns:
        Columns ``model, lam, policy, norm, eps, attacks, n, accuracy, ci_low, ci_high, trust, trust_reason``.
    """
    lines = [
        _combine(within, shown)
        for within in _complete_budgets(run, duels)
        for shown in dict.fromkeys(choice for duel in within for choice in duel.choices)
        if all(duel.is_complete(shown) for duel in within)
    ]
    return pd.DataFrame(lines, columns=_COLUMNS)


def _complete_budgets(run: Run, duels: Sequence[Duel]) -> Iterator[list[Duel]]:
    """For every model, norm and ε the attacks within it, from the smallest ε; only where none is missing."""
    planned: dict[tuple[str, str], list[tuple[str, float]]] = {}
    for model, attack, norm, eps in plan_of(run):
        planned.setdefault((model, norm), []).append((attack, eps))
    measured: dict[tuple[str, str], list[Duel]] = {}
    for duel in duels:
        measured.setdefault((duel.model, duel.norm), []).append(duel)
    for target, mine in measured.items():
        for eps in sorted({duel.eps for duel in mine}):
            within = [duel for duel in mine if duel.eps <= eps]
            if {(duel.attack, duel.eps) for duel in within} == {(name, e) for name, e in planned[target] if e <= eps}:
                yield within


def _combine(within: Sequence[Duel], shown: Choice) -> dict[str, object]:
    """What of a model, shown at one λ, withstands all of ``within``.

    Every attack is judged for the images that nothing else broke: what a stronger one took does not speak against them.
    """
    tried = {(duel, crafted): duel.right(crafted, at) for duel in within for crafted, at in duel.keys if at == shown}
    verdicts = []
    for duel in within:
        others = [right for attempt, right in tried.items() if attempt != (duel, shown)]
        verdicts.append(duel.own_verdict(shown, others))
    right = np.logical_and.reduce(list(tried.values()))
    if len(tried) == len(within):
        verdicts.append(judge_transfer(right, {}))
    verdict = unite(verdicts)
    low, high = wilson_interval(int(right.sum()), len(right))
    return {
        "model": within[0].model,
        "lam": shown if isinstance(shown, float) else math.nan,
        "policy": shown if isinstance(shown, str) else "",
        "norm": within[0].norm,
        "eps": max(duel.eps for duel in within),
        "attacks": len(tried),
        "n": len(right),
        "accuracy": float(right.mean()),
        "ci_low": low,
        "ci_high": high,
        "trust": verdict.mark,
        "trust_reason": verdict.reason,
    }
