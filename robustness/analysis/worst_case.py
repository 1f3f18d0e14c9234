"""The robust accuracy: share of images that withstand everything tried within a budget, image by image."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from robustness.analysis.columns import ACCURACY, ENDS, name_values, with_ends
from robustness.analysis.duels import MARKED_DIFFERENCE, Duel, Judged, plan_of
from robustness.analysis.frames import Run
from robustness.statistics import share_interval
from robustness.verdicts import Verdict, unite_attempts
from robustness.which_lam import WhichLam

_COLUMNS = [
    *("model", "lam", "policy", "norm", "eps", "attacks", "n", *ACCURACY, "trust", "trust_reason"),
    *with_ends("gain", "versus", ends=MARKED_DIFFERENCE),
]


@dataclass(frozen=True, eq=False)
class Survivors(Judged):
    """The images that withstand every attack within a budget on a model at one λ."""

    within: Sequence[Duel]
    shown: WhichLam
    attempts: int
    right: np.ndarray
    verdict: Verdict

    @property
    def model(self) -> str:
        """Name of the model."""
        return self.within[0].model

    @property
    def norm(self) -> str:
        """Norm of the budget."""
        return self.within[0].norm

    @property
    def eps(self) -> float:
        """Budget ε."""
        return max(duel.eps for duel in self.within)

    @property
    def lam(self) -> float:
        """λ of the model; NaN for a policy and for a model without λ."""
        return math.nan if self.shown.value is None else self.shown.value

    @property
    def policy(self) -> str:
        """Policy that chooses λ; empty for a fixed λ and for a model without λ."""
        return self.shown.policy

    def name_values(self, name: str) -> dict[str, object]:
        """Return accuracy, interval and trust mark, in columns that begin with ``name``."""
        return name_values(name, (*share_interval(self.right), self.verdict.mark), (*ENDS, "_trust"))

    def fields(self) -> dict[str, object]:
        """Return the columns of :func:`worst_case`, without the differences."""
        names = ("model", "lam", "policy", "norm", "eps")
        return {**{name: getattr(self, name) for name in names}, "attacks": self.attempts, **self.describe()}


def find_survivors(run: Run, duels: Sequence[Duel]) -> list[Survivors]:
    """Find the images that withstand all attacks and threat models, for every model, norm, ε and λ.

    An attack at a smaller ε in the same norm also counts: its images lie within the budget. Incomplete budgets are left
    out.
    """
    return [
        _combine(within, shown)
        for within in _complete_budgets(run, duels)
        for shown in dict.fromkeys(choice for duel in within for choice in duel.choices)
        if all(duel.is_complete(shown) for duel in within)
    ]


def worst_case(run: Run, survivors: Sequence[Survivors]) -> pd.DataFrame:
    """Tabulate robust accuracy: the share of the images that withstand everything.

    Returns:
        Columns ``model, lam, policy, norm, eps, attacks, n, accuracy, ci_low, ci_high, trust, trust_reason``, and the
        paired differences ``gain, gain_low, gain_high, gain_p, gain_trust`` (minus the accuracy at the training λ)
        and ``versus, …`` (minus the accuracy of the baseline model at its training λ).
    """
    trained = {(one.model, one.norm, one.eps): one for one in survivors if one.shown == one.within[0].trained}
    lines = []
    for one in survivors:
        own = trained.get((one.model, one.norm, one.eps)) if one.within[0].trained.value is not None else None
        other = trained.get((str(run.baseline), one.norm, one.eps)) if one.model != run.baseline else None
        lines.append(one.fields() | one.compare("gain", own) | one.compare("versus", other))
    return pd.DataFrame(lines, columns=_COLUMNS)


def _complete_budgets(run: Run, duels: Sequence[Duel]) -> Iterator[list[Duel]]:
    """List for every model, norm and ε the attacks within it, from the smallest ε; only complete ones."""
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


def _combine(within: Sequence[Duel], shown: WhichLam) -> Survivors:
    """Intersect the images that survive every attack in ``within`` on a model at one λ.

    Every attack is judged on the images that nothing else broke: images lost to a stronger attack do not count against
    it.
    """
    tried = {(duel, crafted): duel.right(crafted, at) for duel in within for crafted, at in duel.keys if at == shown}
    verdicts = []
    for duel in within:
        others = [right for attempt, right in tried.items() if attempt != (duel, shown)]
        verdicts.append(duel.own_verdict(shown, others))
    right = np.logical_and.reduce(list(tried.values()))
    return Survivors(within, shown, len(tried), right, unite_attempts(verdicts))
