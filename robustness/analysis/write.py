"""Everything that a run directory says in tables, figures and a report, rebuilt from its outcomes."""

from __future__ import annotations

from robustness.analysis.attack_figures import write_attack_figures
from robustness.analysis.attack_tables import write_attack_tables
from robustness.analysis.curves import write_curves
from robustness.analysis.figures import write_figures
from robustness.analysis.findings import Findings
from robustness.analysis.frames import Run
from robustness.analysis.page import write_page
from robustness.analysis.tables import write_tables
from robustness.run_directory import RunDirectory


def write_analysis(directory: RunDirectory) -> Findings:
    """Write the tables, the figures and the report of a run directory anew; returns what they say.

    Raises:
        PrerequisiteError: no run directory.
        InputError: a damaged record.
    """
    findings = Findings.of(Run.open(directory))
    directory.clear_analysis()
    if len(findings.run.cells):
        write_tables(findings)
        write_figures(findings)
        if findings.attacks is not None:
            write_attack_tables(findings.run, findings.attacks)
            write_attack_figures(findings.run, findings.attacks)
            write_curves(findings.run, findings.attacks)
        write_page(findings)
    return findings
