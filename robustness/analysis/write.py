"""Everything that a run directory says in tables and figures, rebuilt from its outcomes."""

from __future__ import annotations

from robustness.analysis.figures import write_figures
from robustness.analysis.frames import Run
from robustness.analysis.tables import write_tables
from robustness.run_directory import RunDirectory


def write_analysis(directory: RunDirectory) -> Run:
    """Write the tables and figures of a run directory; returns what was read.

    Raises:
        PrerequisiteError: no run directory, or one without any finished cell.
        InputError: a damaged record.
    """
    run = Run.open(directory)
    if len(run.cells):
        write_tables(run)
        write_figures(run)
    return run
