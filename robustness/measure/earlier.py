"""Earlier contents of a run directory: its sessions, and the models that are not requested again.

A model measured on the same grid stays in the tables. For another grid (other images, corruptions, λs, attacks)
only the outcomes stay: the tables show the last request, and the user is told how to see the others again.
"""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from data_prep.errors import UsageError
from robustness.measure.cells import Cell
from robustness.options import rerun_words
from robustness.run_directory import RunDirectory

_OF_SESSION = ("started", "written", "status", "environment")
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Earlier:
    """Parts of the record of earlier calls that the next call keeps.

    Args:
        sessions: the earlier calls, without this one.
        models: the models that stay in the tables.
        cells: finished cells of these models.
        soundness: results of the checks of these models.
        agreement: agreement of the faster forms of these models.
        notes: notes for the user, one sentence each.
    """

    sessions: Rows = field(default_factory=list)
    models: Rows = field(default_factory=list)
    cells: Rows = field(default_factory=list)
    soundness: Rows = field(default_factory=list)
    agreement: Rows = field(default_factory=list)
    notes: tuple[str, ...] = ()


def look_back(
    directory: RunDirectory, grid: dict[str, Any], cells: Sequence[Cell], done: set[str], *, whole: bool
) -> Earlier:
    """Find the part of a run directory that stays when ``cells`` are measured in it.

    Args:
        directory: the run directory; without a readable record it has no past.
        grid: ``protocol``, ``suite`` and ``data`` of the record to be written.
        cells: the cells requested now.
        done: keys of the cells that are already measured.
        whole: true if the whole grid is measured here; in a shard nothing else stays.
    """
    try:
        record = directory.read_record()
    except UsageError:
        return Earlier()
    names, keys = {cell.subject.name for cell in cells}, {cell.key for cell in cells}
    finished = directory.find_whole({cell["key"] for cell in record["cells"]} - keys)
    others = [cell for cell in record["cells"] if cell["key"] in finished]
    is_same = _is_same(record, grid)
    stay = [cell for cell in others if cell["model"] not in names] if is_same and whole else []
    named = {cell["model"] for cell in stay}
    last = {name: record[name] for name in _OF_SESSION if name in record}
    return Earlier(
        sessions=(record.get("sessions") or [last]) if stay or done else [],
        models=[model for model in record["models"] if model["name"] in named],
        cells=stay,
        soundness=[found for found in record.get("soundness", ()) if found["model"] in named],
        agreement=[found for found in record.get("agreement", ()) if found["model"] in named],
        notes=(*_tell_kept(directory, stay), *_tell_left_out(directory, record, 0 if is_same else len(others))),
    )


def _is_same(record: dict[str, Any], grid: dict[str, Any]) -> bool:
    """Check whether a record belongs to this grid, whatever its models and its baseline."""

    def describe(whole: dict[str, Any]) -> Any:
        suite = {name: value for name, value in whole["suite"].items() if name != "baseline"}
        return json.loads(json.dumps({**{name: whole.get(name) for name in grid}, "suite": suite}))

    return bool(describe(record) == describe(grid))


def _tell_kept(directory: RunDirectory, stay: Rows) -> list[str]:
    if not stay:
        return []
    held = ", ".join(f"{name} ({count})" for name, count in Counter(cell["model"] for cell in stay).items())
    return [
        f"{directory.path} holds finished cells of models that were not asked for now, and its tables keep them: {held}"
        "; --fresh forgets them"
    ]


def _tell_left_out(directory: RunDirectory, record: dict[str, Any], count: int) -> list[str]:
    words = shlex.join(rerun_words(record))
    asked = f"; they were asked for by: python {words}" if words else ""
    told = f"{directory.path} keeps {count} finished cells that were not asked for now, and its tables leave them out"
    return [f"{told}{asked}"] if count else []
