"""What a run directory holds from before: its sessions, and the models that are not asked for again.

A model that was measured on the same grid stays in the tables. Of another grid (other images, corruptions, λs, attacks)
only the outcomes stay: the tables are of what was asked last, and the user is told how to see the others again.
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
    """What the record of earlier calls hands on to the next one.

    Args:
        sessions: the calls, without this one.
        models: those that stay, with what belongs to each: ``cells`` (finished ones), ``soundness``, ``agreement``.
        cells: as ``models``.
        soundness: as ``models``.
        agreement: as ``models``.
        notes: what the user should know, a sentence each.
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
    """Find what of a run directory stays when ``cells`` are measured in it.

    Args:
        directory: the run directory; one without a record that can be read has no past.
        grid: ``protocol``, ``suite`` and ``data`` of the record to be written.
        cells: what is asked for now.
        done: the keys of those that need not be measured.
        whole: whether all of it is measured here; in a shard nothing else stays.
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
    """Whether a record is of this grid, whatever its models and its baseline."""

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
