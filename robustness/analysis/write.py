"""Tables, figures and report of a run directory, rebuilt from its outcomes."""

from __future__ import annotations

from collections.abc import Iterator

from robustness.analysis.attack_figures import list_attack_figures
from robustness.analysis.attack_tables import write_attack_tables
from robustness.analysis.curves import write_curves
from robustness.analysis.drawings import Drawing, save_drawings
from robustness.analysis.figures import list_figures
from robustness.analysis.findings import Findings
from robustness.analysis.frames import Run
from robustness.analysis.page import write_page
from robustness.analysis.tables import write_tables
from robustness.run_directory import RunDirectory

MOST_OWN = 4
"""Largest number of models that each have figures of their own in the folder ``figures``."""


def list_drawings(findings: Findings) -> Iterator[Drawing]:
    """List the figures that the run has outcomes for."""
    if not len(findings.run.cells):
        return
    yield from list_figures(findings)
    if findings.attacks is not None:
        yield from list_attack_figures(findings.run, findings.attacks)


def write_figures(findings: Findings, *, pdf: bool) -> None:
    """Draw the figures into the folder ``figures`` of the run; see :data:`MOST_OWN`."""
    few = len(findings.run.models) <= MOST_OWN
    save_drawings((it for it in list_drawings(findings) if few or not it.of_one), findings.run, pdf=pdf)


def write_analysis(directory: RunDirectory, *, pdf: bool = False) -> Findings:
    """Rebuild the tables, figures and report of a run directory; return the findings.

    Args:
        directory: the run directory.
        pdf: draw the figures as PDF, too.

    Raises:
        PrerequisiteError: the folder is not a run directory.
        InputError: a damaged record.
    """
    directory.read_record()  # first: no lock is written into a folder of something else
    with directory.analysing():
        findings = Findings.of(Run.open(directory))
        directory.clear_analysis()
        if len(findings.run.cells):
            write_tables(findings)
            write_figures(findings, pdf=pdf)
            if findings.attacks is not None:
                write_attack_tables(findings.run, findings.attacks)
                write_curves(findings.run, findings.attacks, pdf=pdf)
            write_page(findings)
    return findings
