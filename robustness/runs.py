"""Finished runs: :func:`open_run` reads one, :class:`Run` and :class:`Runs` show its results."""

from __future__ import annotations

import html
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from data_prep.errors import InputError
from robustness.analysis import frames
from robustness.analysis.comparison import compare_runs
from robustness.analysis.findings import Findings
from robustness.analysis.overview import Overview
from robustness.analysis.page import write_page
from robustness.analysis.tables import describe, widen
from robustness.analysis.write import list_drawings
from robustness.mirror import fetch, is_url
from robustness.run_directory import RunDirectory
from robustness.suite_folders import is_parent
from sdnet_core.style import figure_style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_LAMBDAS = 6
_SHOWN = ("model", "perturbation", "norm", "eps", "threat", "lam", "n", "accuracy", "ci_low", "ci_high", "trust")
"""Columns of the attacks that a notebook displays."""


class Run:
    """A finished run: its numbers as frames, its figures, its report.

    Args:
        directory: the run directory.
    """

    def __init__(self, directory: RunDirectory) -> None:
        self._run = frames.Run.open(directory)

    @property
    def path(self) -> Path:
        """Path of the run directory."""
        return self._run.directory.path

    @cached_property
    def findings(self) -> Findings:
        """All results computed from the outcomes."""
        return Findings.of(self._run)

    @property
    def cells(self) -> pd.DataFrame:
        """One row per model, perturbation, severity and λ, then attacks under every threat model (``cells.csv``).

        Accuracies are shares in [0, 1] with Wilson's 95 % interval ``ci_low, ci_high``.
        """
        return self._read("cells")

    @property
    def summary(self) -> pd.DataFrame:
        """Mean accuracy over the severities, and over the corruptions, by model and λ policy (``tables/summary.csv``).

        ``gain`` is the paired difference from the training λ, ``versus`` the paired difference from the baseline model.
        """
        return self._read("summary")

    @property
    def attacks(self) -> pd.DataFrame:
        """Robust accuracy under every attack, budget and threat model with its trust mark (``tables/attacks.csv``).

        Empty, with the columns of ``cells.csv``, if the run has no attack.
        """
        return self._read("attacks")

    @property
    def shifts(self) -> pd.DataFrame:
        """Accuracy under natural shifts and on clean images of the same classes (``tables/shifts.csv``)."""
        return self._read("shifts")

    @property
    def sequences(self) -> pd.DataFrame:
        """Flips and top-5 distances along perturbation sequences (``tables/sequences.csv``)."""
        return self._read("sequences")

    def _read(self, name: str) -> pd.DataFrame:
        """Return a copy of a frame of the findings."""
        if name == "attacks":
            found = self.findings.attacks
            return pd.DataFrame(columns=frames.CELL_COLUMNS) if found is None else found.rows.copy()
        frame: pd.DataFrame = getattr(self.findings, name).copy()
        return frame

    @property
    def models(self) -> list[str]:
        """Names of the models, in the requested order."""
        return self._run.models

    @property
    def missing(self) -> dict[str, str]:
        """Reasons why requested cells have no outcome, by key."""
        return self._run.missing

    @property
    def headline(self) -> str:
        """The run in one sentence, as in the report."""
        return self.findings.headline

    @cached_property
    def figures(self) -> tuple[str, ...]:
        """Names of the figures that :meth:`plot` draws."""
        return tuple(drawing.name for drawing in list_drawings(self.findings))

    def plot(self, name: str) -> Figure:
        """Draw a figure, also one of a single model, which the folder ``figures`` lacks with more than four models.

        Args:
            name: one of :attr:`figures`. For figures that exist once per model, such as
                ``accuracy_by_severity_<model>``, the name without the model draws the figure of the first model.

        Raises:
            InputError: there is no such figure.
        """
        drawings = {drawing.name: drawing for drawing in list_drawings(self.findings)}
        found = drawings.get(name) or next((it for key, it in drawings.items() if key.startswith(f"{name}_")), None)
        if found is None:
            raise InputError(
                f"expected a figure of the run ({', '.join(drawings) or 'it has none'}), got {name!r}; choose one of "
                "them"
            )
        with figure_style():
            return found.draw()

    def report(self, path: str | Path | None = None) -> Path:
        """Write the report, one HTML file that needs no network, and return its path.

        Args:
            path: the file; None for ``report.html`` in the run directory.
        """
        if not len(self._run.cells):
            raise InputError(f"expected a finished cell in {self.path}, got none; measure some first")
        place = self.path / "report.html" if path is None else Path(path)
        write_page(self.findings, place)
        return place

    def compare(self, other: Run | str | Path, models: tuple[str, str] | None = None) -> pd.DataFrame:
        """Compute accuracy, flips and top-5 distances of ``other`` minus the same of this run, paired by image.

        Args:
            other: another run on the same images, or its run directory.
            models: a model of this run and a model of the other; None for every model that both have.

        Returns:
            The columns of :class:`robustness.analysis.comparison.Comparison`; ``frame.attrs["left_out"]`` names
            what is not compared (policies that chose from other λs, attacks, what only one run has), and
            ``frame.attrs["marks"]`` the models with a trust mark other than OK.

        Raises:
            InputError: the images, corruptions or protocols differ, or the runs have nothing in common.
        """
        theirs = other if isinstance(other, Run) else open_run(other)
        if isinstance(theirs, Runs):
            raise InputError(f"expected a run of one suite, got {theirs.path}; name one of {', '.join(theirs.suites)}")
        comparison = compare_runs(self._run, theirs._run, models=models)
        comparison.table.attrs |= {"left_out": list(comparison.left_out), "marks": list(comparison.marks)}
        return comparison.table

    def __repr__(self) -> str:
        return f"<robustness.Run {self.path}: {self.headline}>"

    def _repr_html_(self) -> str:
        run = self._run
        wide = widen(self.findings.summary, run, most=_MOST_LAMBDAS)
        parts = [f"<p><b>{html.escape(self.headline)}</b></p>"]
        if wide.size:
            parts.append(wide.to_html(float_format=lambda value: f"{value:.1f}", na_rep="–"))
        if self.findings.attacks is not None:
            shown = self.attacks[list(_SHOWN)]
            parts.append(shown.to_html(index=False, float_format=lambda value: f"{value:.3g}", na_rep=""))
        parts.append(f"<p>{html.escape(describe(run))}. Accuracy in %. {html.escape(str(self.path))}</p>")
        return "".join(parts)


class Runs(Run):
    """Several suites measured by one call: their frames stacked, with a column ``suite``.

    ``runs.suites["cifar10c"]`` is the :class:`Run` of one of them.

    Args:
        path: the folder of their run directories.
    """

    def __init__(self, path: Path) -> None:
        self._overview = Overview.open(path)
        self.suites = {name: Run(found.run.directory) for name, found in self._overview.findings.items()}

    @property
    def path(self) -> Path:
        """Folder of the run directories."""
        return self._overview.path

    @cached_property
    def findings(self) -> Findings:
        """Raise InputError, because every suite has its own findings."""
        raise InputError(f"expected one suite, got {', '.join(self.suites)}; use runs.suites[NAME].findings")

    @property
    def leaderboard(self) -> pd.DataFrame:
        """One leaderboard over all suites, one row per suite and model (``leaderboard.csv``)."""
        return self._overview.board.copy()

    def _read(self, name: str) -> pd.DataFrame:
        """Return the frames of all suites, stacked."""
        return _stack({suite: run._read(name) for suite, run in self.suites.items()})

    @property
    def models(self) -> list[str]:
        """Names of the models of all suites."""
        return list(dict.fromkeys(name for run in self.suites.values() for name in run.models))

    @property
    def missing(self) -> dict[str, str]:
        """:attr:`Run.missing` of all suites."""
        return {key: reason for run in self.suites.values() for key, reason in run.missing.items()}

    @property
    def headline(self) -> str:
        """The headline of every suite."""
        return " ".join(f"{name}: {run.headline}" for name, run in self.suites.items())

    @cached_property
    def figures(self) -> tuple[str, ...]:
        """``SUITE/NAME`` of every figure of every suite."""
        return tuple(f"{suite}/{name}" for suite, run in self.suites.items() for name in run.figures)

    def plot(self, name: str) -> Figure:
        """Draw a figure of one suite, ``SUITE/NAME``; see :meth:`Run.plot`."""
        suite, _, own = name.partition("/")
        if suite not in self.suites:
            raise InputError(
                f"expected a figure as SUITE/NAME ({', '.join(self.figures)}), got {name!r}; choose one of them"
            )
        return self.suites[suite].plot(own)

    def report(self, path: str | Path | None = None) -> Path:
        """Write the page that links to the report of each suite, next to their run directories.

        Args:
            path: must be None, because the page links to the folders next to it.
        """
        if path is not None:
            raise InputError(
                f"expected no path for the report of several suites, got {path}; leave it out and find the report in "
                f"{self.path}, next to the files it links to"
            )
        self._overview.write()
        return self.path / "report.html"

    def compare(self, other: Run | str | Path, models: tuple[str, str] | None = None) -> pd.DataFrame:
        """Compare suite by suite with another call of the same suites; see :meth:`Run.compare`."""
        theirs = other if isinstance(other, Run) else open_run(other)
        if not isinstance(theirs, Runs) or theirs.suites.keys() != self.suites.keys():
            raise InputError(
                f"expected a run of the suites {', '.join(self.suites)}, got {theirs.path}; compare one suite"
            )
        parts = {name: run.compare(theirs.suites[name], models) for name, run in self.suites.items()}
        stacked = _stack(parts)
        for kind in ("left_out", "marks"):
            stacked.attrs[kind] = [f"{name}: {why}" for name, part in parts.items() for why in part.attrs[kind]]
        return stacked

    def __repr__(self) -> str:
        return f"<robustness.Runs {self.path}: {self.headline}>"

    def _repr_html_(self) -> str:
        return self._overview.lay_out().to_html() + "".join(run._repr_html_() for run in self.suites.values())


def _stack(parts: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Stack frames, with the suite as the first column."""
    named = [frame.astype(object).assign(suite=name) for name, frame in parts.items() if len(frame)]
    if not named:
        return next(iter(parts.values()), pd.DataFrame())
    stacked = pd.concat(named, ignore_index=True).infer_objects()
    return stacked[["suite", *(column for column in stacked.columns if column != "suite")]]


def open_run(path: str | Path) -> Run:
    """Read a run directory, or a folder with the run directories of several suites; no model or data is needed.

    Args:
        path: the ``--out`` of a run; a URL is fetched first.

    Returns:
        The run, or :class:`Runs` for several suites.

    Raises:
        PrerequisiteError: there is no run.
        InputError: the record of the run is damaged.
    """
    return Runs(Path(path)) if not is_url(str(path)) and is_parent(Path(path)) else Run(fetch(str(path)))
