"""The part of ``run.json`` that describes a measurement: requested grid, models, and the state of the cells."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from data_prep import ImageSet
from robustness.measure.cells import PROTOCOL_VERSION, Cell
from robustness.measure.subjects import Subject
from robustness.measure.tasks import PerturbationTask
from robustness.suite import Suite

_KEYS = (
    *("name", "description", "profile", "corruptions", "severities", "lambdas", "selection", "baseline", "seed"),
    *("threats", "probe_images"),
)
"""Keys of the suite that the record holds as they are."""


def describe_grid(suite: Suite, images: ImageSet, tasks: Sequence[PerturbationTask]) -> dict[str, Any]:
    """Return the request as the record holds it: suite, images, protocol."""
    perturbations = dict.fromkeys(task.perturbation for task in tasks)
    archive = {f"{p.name} {p.severity}": p.archive for p in perturbations if p.archive}
    return {
        "protocol": PROTOCOL_VERSION,
        "suite": {
            **{name: getattr(suite, name) for name in _KEYS},
            "attacks": [{"about": attack.describe(), **attack.identity()} for attack in suite.attacks],
        },
        "data": {
            "name": suite.data,
            "title": images.title,
            "split": images.split,
            "n": len(images),
            "fingerprint": images.fingerprint,
            "classes": images.classes,
            "source": tasks[0].perturbation.source,
            **({"archive": archive} if archive else {}),
        },
    }


def describe_subject(subject: Subject) -> dict[str, Any]:
    """Return a model as the record holds it."""
    law = subject.law and subject.law.to_json()
    return {**subject.identity(), "lam": subject.lam, "clean_accuracy_on_card": subject.accuracy, "law": law}


def describe_cells(
    cells: Sequence[Cell], own: Collection[str], done: Collection[str], failures: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    """Yield the row of every cell with its status, and the reason if it failed.

    Args:
        cells: cells of the whole grid.
        own: keys of the cells that are measured here.
        done: keys of the finished cells.
        failures: reasons of the failed cells, by key.
    """
    for cell in cells:
        missing = "missing" if cell.key in own else "elsewhere"
        state = "done" if cell.key in done else "failed" if cell.key in failures else missing
        yield {**cell.row(), "status": state, "reason": failures.get(cell.key, "")}
