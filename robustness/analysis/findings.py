"""Everything that the tables, the figures and the report say about a run, computed once."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from robustness.analysis.decisions import decide
from robustness.analysis.frames import Run
from robustness.analysis.scores import score
from robustness.analysis.summary import Settings, group_settings, summarise, tabulate_policies


@dataclass(frozen=True, eq=False)
class Findings:
    """A run and what follows from it.

    Args:
        run: the run directory that was read.
        settings: the decisions of every model under every λ policy.
        policies: :func:`~robustness.analysis.summary.tabulate_policies`.
        summary: :func:`~robustness.analysis.summary.summarise`.
        scores: :func:`~robustness.analysis.scores.score`.
    """

    run: Run
    settings: Settings
    policies: pd.DataFrame
    summary: pd.DataFrame
    scores: pd.DataFrame

    @classmethod
    def of(cls, run: Run) -> Findings:
        """Analyse a run."""
        settings = group_settings(decide(run))
        return cls(run, settings, tabulate_policies(run, settings), summarise(run, settings), score(run, settings))
