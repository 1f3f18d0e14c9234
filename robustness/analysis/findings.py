"""The results of a run that tables, figures and report show, computed once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from robustness.analysis.attacks import Attacks
from robustness.analysis.classes import tabulate_classes
from robustness.analysis.decisions import decide
from robustness.analysis.frames import CELL_COLUMNS, Run
from robustness.analysis.headline import write_headline
from robustness.analysis.leaderboard import Leaderboard, rank_models
from robustness.analysis.scores import score
from robustness.analysis.sequences import tabulate_sequences
from robustness.analysis.shifts import tabulate_shifts
from robustness.analysis.summary import Settings, group_settings, summarise, tabulate_policies


@dataclass(frozen=True, eq=False)
class Findings:
    """A run and its results.

    Args:
        run: the run directory.
        settings: the decisions of every model under every λ policy.
        policies: :func:`~robustness.analysis.summary.tabulate_policies`.
        summary: :func:`~robustness.analysis.summary.summarise`.
        scores: :func:`~robustness.analysis.scores.score`.
        attacks: the results of the attacks; None if there are none.
    """

    run: Run
    settings: Settings
    policies: pd.DataFrame
    summary: pd.DataFrame
    scores: pd.DataFrame
    attacks: Attacks | None

    @classmethod
    def of(cls, run: Run) -> Findings:
        """Analyse a run."""
        settings = group_settings(decide(run))
        policies, summary = tabulate_policies(run, settings), summarise(run, settings)
        return cls(run, settings, policies, summary, score(run, settings), Attacks.of(run))

    @cached_property
    def board(self) -> Leaderboard:
        """Leaderboard of the models: :func:`~robustness.analysis.leaderboard.rank_models`."""
        return rank_models(self.run, self.settings, self.summary, self.scores, self.attacks)

    @cached_property
    def shifts(self) -> pd.DataFrame:
        """Natural shifts: :func:`~robustness.analysis.shifts.tabulate_shifts`."""
        return tabulate_shifts(self.run)

    @cached_property
    def sequences(self) -> pd.DataFrame:
        """Perturbation sequences: :func:`~robustness.analysis.sequences.tabulate_sequences`."""
        return tabulate_sequences(self.run)

    @cached_property
    def classes(self) -> pd.DataFrame:
        """Accuracy class by class: :func:`~robustness.analysis.classes.tabulate_classes`."""
        return tabulate_classes(self.run, self.settings, self.summary)

    @cached_property
    def headline(self) -> str:
        """The run in a sentence or two: :func:`~robustness.analysis.headline.write_headline`."""
        return write_headline(self.run, self.summary, self.attacks, self.board)

    @property
    def cells(self) -> pd.DataFrame:
        """The rows of ``cells.csv``: clean and corrupted images, shifts, then attacks under every threat model."""
        rows = pd.concat([self.run.corrupted, self.run.shifted])[CELL_COLUMNS].reset_index(drop=True)
        if self.attacks is None:
            return rows
        return pd.concat([rows.astype(object), self.attacks.rows[CELL_COLUMNS].astype(object)], ignore_index=True)
