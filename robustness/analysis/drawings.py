"""Every figure of a run by its name, drawn only when requested."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from robustness.analysis.findings import Findings


@dataclass(frozen=True)
class Drawing:
    """A figure that can be drawn.

    Args:
        name: name of its files.
        note: description of the data behind its numbers.
        draw: draws the figure; call it within :func:`sdnet_core.style.figure_style`.
    """

    name: str
    note: str
    draw: Callable[[], Figure]


def list_drawings(findings: Findings) -> Iterator[Drawing]:
    """List the figures that the run has outcomes for."""
    from robustness.analysis.attack_figures import list_attack_figures
    from robustness.analysis.figures import list_figures

    if not len(findings.run.cells):
        return
    yield from list_figures(findings)
    if findings.attacks is not None:
        yield from list_attack_figures(findings.run, findings.attacks)
