"""Several suites in one command: each has its own run directory; images, models and corrupted cells are shared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from data_prep.errors import InputError
from robustness.measure.given import Model
from robustness.measure.measurement import Measurement
from robustness.measure.prepare import plan_run
from robustness.measure.tasks import Shelf
from robustness.mirror import is_url
from robustness.options import RunOptions
from robustness.suite import Suite, read_suite_file
from robustness.suite_folders import check_parent

Asked = str | Suite | None
"""A suite by name, its file, the suite itself, or None for the suite of the options."""
_OF_ONE = ("corruptions", "attacks", "shard")
"""Options that apply to one suite only."""


def plan_runs(
    options: RunOptions,
    suites: Sequence[Asked],
    *,
    models: Mapping[str, Model] | None = None,
    **given: Any,
) -> list[tuple[Measurement, RunOptions]]:
    """Load images and models once, and plan the grid of every suite.

    Args:
        options: the request; with several suites, ``out`` is the folder of their run directories.
        suites: names, files or suites; None for the standard suite of the options' images. A single suite is planned as
            by :func:`~robustness.measure.prepare.plan_run`.
        models: models by name; None for the models of the options or of each suite.
        given: further arguments of :func:`~robustness.measure.prepare.plan_run`.

    Returns:
        A measurement for each suite, and its options. Each takes over equal measurements of the suites before it.

    Raises:
        PrerequisiteError: as ``plan_run``.
        InputError: as ``plan_run``; an option that applies to one suite only, or two suites with one name.
    """
    fields = [_read(suite) for suite in suites]
    whole = any(own.get("shifts") for own in fields)  # shifts are compared with clean images of their own classes
    shelf, planned = Shelf(), list[tuple[Measurement, RunOptions]]()
    for suite, own in zip(suites, [options] if len(suites) == 1 else _split(options, suites, fields), strict=True):
        given["suite"] = suite if isinstance(suite, Suite) else None
        measurement = plan_run(own, models=models, whole=whole, shelf=shelf, **given)
        measurement.previous_suites = tuple(previous for previous, _ in planned)
        planned.append((measurement, own))
    return planned


def find_parent(options: RunOptions, suites: Sequence[Asked]) -> Path | None:
    """Return the folder of the run directories of several suites; None for one suite."""
    if len(suites) < 2:
        return None
    names = "+".join(_read(suite)["name"] for suite in suites)
    return Path(options.out) if options.out else Path("results/runs") / names


def _split(options: RunOptions, suites: Sequence[Asked], fields: Sequence[dict[str, Any]]) -> list[RunOptions]:
    """Split the options among several suites. Shifts belong to the images of the other suites."""
    if given := [name for name in _OF_ONE if getattr(options, name) is not None]:
        raise InputError(f"--{given[0]} is for one suite, and {len(suites)} are asked for: leave it out, or name one")
    if options.out is not None and is_url(options.out):
        raise InputError(f"--out of several suites must be a folder; got {options.out}: give each a URL of its own")
    names = [own["name"] for own in fields]
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(f"two of the suites are called {twice[0]}: leave one of them out")
    parent = find_parent(options, suites)
    assert parent is not None
    check_parent(parent)
    is_free = options.data is None and "data" not in options.objects
    data = next((own["data"] for own in fields if not own.get("shifts")), None) if is_free else options.data
    split = []
    for suite, own in zip(suites, fields, strict=True):
        changes: dict[str, Any] = {
            "suite": None if isinstance(suite, Suite) else suite,
            "out": str(parent / own["name"]),
        }
        changes |= {"data": data} if own.get("shifts") else {}
        kept = tuple(it for it in options.objects if it != "suite" or isinstance(suite, Suite))
        split.append(msgspec.structs.replace(options, objects=kept, **changes))
    return split


def _read(suite: Asked) -> dict[str, Any]:
    """Read the keys of a suite."""
    if isinstance(suite, Suite):
        return msgspec.structs.asdict(suite)
    return {} if suite is None else read_suite_file(suite)
