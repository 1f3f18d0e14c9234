"""The type of ``run.json``, as far as the analysis relies on it; the file may hold more."""

# No ``from __future__ import annotations``: ``NotRequired`` does not work in annotations stored as text.

import re
from collections.abc import Iterator
from typing import Any, NotRequired, TypedDict

from data_prep.corruptions.registry import CORRUPTIONS
from data_prep.errors import InputError
from data_prep.schema import read
from data_prep.shifts import SHIFTS
from robustness.attack import NORMS
from robustness.options import read_options

_FILE_NAME = re.compile(r"[\w-][\w.-]{0,199}", re.ASCII)
_OF_ATTACKS = ("eps", "policy", "crafted_lam", "crafted_policy")
"""Keys that a cell of an attack must have."""


class CellRecord(TypedDict):
    """A cell: its key, its row in tables, and its status."""

    key: str
    model: str
    data: str
    split: str
    source: str
    perturbation: str
    severity: int
    lam: float | None
    trained_lam: float | None
    n: int
    status: str
    reason: str
    shift: NotRequired[str]
    sequence: NotRequired[bool]
    policy: NotRequired[str]
    norm: NotRequired[str | None]
    eps: NotRequired[float]
    threat: NotRequired[str | None]
    crafted_lam: NotRequired[float | None]
    crafted_policy: NotRequired[str]


class ModelRecord(TypedDict):
    """A model: its name, weights and training λ."""

    name: str
    weights: str
    arch: str
    lam: float | None
    width: NotRequired[int]
    law: NotRequired[dict[str, Any] | None]


class AttackRecord(TypedDict):
    """An attack and its parameters in words."""

    about: str


class SuiteRecord(TypedDict):
    """The requested suite."""

    name: str
    description: str
    profile: str
    corruptions: list[str]
    seed: int
    severities: NotRequired[list[int]]
    lambdas: NotRequired[list[float]]
    baseline: NotRequired[str]
    attacks: NotRequired[list[AttackRecord]]
    threats: NotRequired[list[str]]


class DataRecord(TypedDict):
    """The images."""

    name: str
    title: str
    split: str
    n: int
    fingerprint: str
    classes: list[str]
    source: str
    archive: NotRequired[dict[str, str]]


class ChangeRecord(TypedDict):
    """Predictions that changed, and the reason."""

    kind: str
    logits: float
    classes: float


class SoundnessRecord(TypedDict):
    """The result of the checks of a model at one λ before the grid."""

    model: str
    lam: float | None
    n: int
    changes: list[ChangeRecord]
    has_weights: bool
    error: str


class EnvironmentRecord(TypedDict):
    """Hardware and software of a measurement."""

    hardware: dict[str, Any]
    versions: dict[str, str]
    git: dict[str, Any]


class SessionRecord(TypedDict):
    """One call of the run and its environment."""

    started: str
    written: str
    status: str
    environment: EnvironmentRecord


class RunRecord(TypedDict):
    """The whole of ``run.json``."""

    schema_version: int
    status: str
    asked: NotRequired[list[str]]
    options: NotRequired[dict[str, Any]]
    started: str
    written: str
    protocol: int
    suite: SuiteRecord
    data: DataRecord
    models: list[ModelRecord]
    environment: EnvironmentRecord
    sessions: NotRequired[list[SessionRecord]]
    soundness: NotRequired[list[SoundnessRecord]]
    events: NotRequired[list[str]]
    cells: list[CellRecord]


def check_record(record: dict[str, Any], where: str) -> None:
    """Check that a record matches its type and is consistent, and that no key in it leads out of its folder.

    Raises:
        InputError: the record is invalid; the message gives ``where`` and the fault.
    """
    again = "run the same command again to rebuild it"
    try:
        read(record, RunRecord, f"{where} is not a record of a run")
        if "options" in record:
            read_options(record)
    except InputError as error:
        raise InputError(f"{error}; {again}") from error
    if (misfit := next(_find_contradictions(record), None)) is not None:
        raise InputError(f"{where} is not a record of a run: {misfit}; {again}")


def _find_contradictions(record: dict[str, Any]) -> Iterator[str]:
    cells, suite = record["cells"], record["suite"]
    keys, models = [cell["key"] for cell in cells], [model["name"] for model in record["models"]]
    yield from (f"the key {key!r} is not a file name" for key in keys if not _FILE_NAME.fullmatch(key))
    for title, names in (("cells", keys), ("models", models)):
        if len(set(names)) < len(names):
            yield f"two of the {title} are called alike"
    yield from (f"there is no model {cell['model']!r}" for cell in cells if cell["model"] not in models)
    if (baseline := suite.get("baseline")) and baseline not in models:
        yield f"the baseline {baseline!r} is none of the models"
    for change in (change for found in record.get("soundness", ()) for change in found["changes"]):
        if change["kind"] not in ("chance", "outside", "history", "batch", "instance"):
            yield f"answers cannot change by {change['kind']!r}"
    attacked = [cell for cell in cells if cell.get("norm") is not None]
    plain = [cell for cell in cells if cell.get("norm") is None and "shift" not in cell and not cell.get("sequence")]
    named = {*suite["corruptions"], *(cell["perturbation"] for cell in plain)}
    official = {level.rpartition(" ")[0] for level in record["data"].get("archive", {})}
    own = {name for name in official if _FILE_NAME.fullmatch(name)}  # an archive may have corruptions of its own
    yield from (f"there is no corruption {name!r}" for name in named - {"clean"} - CORRUPTIONS.keys() - own)
    shifts = {cell["shift"] for cell in cells if "shift" in cell}
    yield from (f"there is no natural shift {name!r}" for name in shifts - SHIFTS.keys())
    yield from (f"a cell has n = {cell['n']}" for cell in cells if cell["n"] < 1)
    if attacked and not (suite.get("attacks") and suite.get("threats")):
        yield "its suite lists no attacks and threats, and its cells are of some"
    yield from (f"an attacked cell has no {name}" for cell in attacked for name in _OF_ATTACKS if name not in cell)
    yield from (f"an attacked cell has the norm {cell['norm']!r}" for cell in attacked if cell["norm"] not in NORMS)
