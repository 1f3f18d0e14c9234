"""Join the run directories of shards into one: ``python -m robustness.merge OUT SHARD...``."""

from __future__ import annotations

import json
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from data_prep.command_line import CommandParser, add_version
from data_prep.errors import InputError, check_words, run_command
from data_prep.files import replacing
from robustness.options import RunOptions, read_options, write_options
from robustness.report import STRICT_HELP, exit_code, print_summary

if TYPE_CHECKING:
    from robustness.analysis.findings import Findings
    from robustness.run_directory import RunDirectory

_NAMES = ("name", "description")
"""Keys of a suite that may differ between two shards of one grid."""
_OF_A_SHARD = ("schema_version", "asked", "options")
"""Keys of a shard's record that the merged record sets itself."""


def check_alike(first: RunDirectory, second: RunDirectory) -> None:
    """Check that two run directories are parts of one grid.

    Raises:
        PrerequisiteError: one of them is not a run directory.
        InputError: they differ in protocol, suite, data, models or cells; the message names the difference.
    """
    ours, theirs = _describe(first.read_record()), _describe(second.read_record())
    differing = [
        f"{name}: {_contrast(ours.get(name), theirs.get(name))}"
        for name in {**ours, **theirs}
        if ours.get(name) != theirs.get(name)
    ]
    if differing:
        raise InputError(
            f"expected shards of one grid, got {first.path} and {second.path}, which differ in {'; '.join(differing)}; "
            "give every shard the same options"
        )


def _describe(record: dict[str, Any]) -> dict[str, Any]:
    """Collect the values that all shards of a grid share, by name; the order of requested values does not matter."""
    suite = {f"{name} of the suite": _order(value) for name, value in record["suite"].items() if name not in _NAMES}
    data = {f"{name} of the data": value for name, value in record["data"].items() if name != "name"}
    models = {
        f"{field} of the model {model['name']}": value
        for model in record["models"]
        for field, value in model.items()
        if field not in ("name", "clean_accuracy_on_card")
    }
    fields = {"protocol version": record["protocol"], **suite, **data, **models}
    return {**fields, "cells": sorted(cell["key"] for cell in record["cells"])}


def _order(value: Any) -> Any:
    return sorted(value, key=json.dumps) if isinstance(value, list) else value


def _contrast(ours: Any, theirs: Any) -> str:
    """Describe the two values; for lists, an item that only one of them has."""
    if isinstance(ours, list) and isinstance(theirs, list):
        seen = [{json.dumps(item) for item in items} for items in (ours, theirs)]
        for items, others, which in ((ours, seen[1], "first"), (theirs, seen[0], "second")):
            if only := [item for item in items if json.dumps(item) not in others]:
                more = f" and {len(only) - 1} more" if len(only) > 1 else ""
                return f"{_show(only[0])}{more} in the {which} only"
    return f"{_show(ours)} and {_show(theirs)}"


def _show(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def merge(out: RunDirectory, shards: Sequence[RunDirectory]) -> Findings:
    """Collect all results of ``shards`` in ``out``, which then equals the run of a single machine.

    A file is copied if it is whole; if two shards have it, the first one wins. ``out`` may already hold cells of an
    earlier merge or a run of the same grid: they stay. The tables, figures and report are written as well.

    Returns:
        The findings of the merged run.

    Raises:
        PrerequisiteError: a shard is not a run directory.
        InputError: the shards do not belong to one grid, or another run is writing to ``out``.
    """
    from robustness.analysis.write import write_analysis

    sources = [out, *shards] if (out.path / "run.json").exists() else list(shards)
    for other in sources[1:]:
        check_alike(sources[0], other)
    records = [source.read_record() for source in sources]
    out.create()
    with out.lock():
        reasons = {cell["key"]: cell["reason"] for record in records for cell in record["cells"] if cell["reason"]}
        missing = _merge_outcomes([cell["key"] for cell in records[0]["cells"]], out, shards)
        cells = [
            _describe_cell(cell, reasons.get(cell["key"], ""), is_done=cell["key"] not in missing)
            for cell in records[0]["cells"]
        ]
        _merge_adversarial(out, shards)
        _merge_samples(out, shards)
        out.write_record(_join(records, cells, out))
        return write_analysis(out)


def _merge_outcomes(keys: Sequence[str], out: RunDirectory, shards: Sequence[RunDirectory]) -> set[str]:
    """Copy every cell from the first shard that has it whole; return the keys of the cells that no shard has."""
    missing = set(keys) - out.find_whole(keys)
    for shard in shards:
        found = shard.find_whole(missing)
        for key in sorted(found):
            _copy(shard.outcomes / f"{key}.parquet", out.outcomes / f"{key}.parquet")
        missing -= found
    return missing


def _describe_cell(cell: dict[str, Any], reason: str, *, is_done: bool) -> dict[str, Any]:
    """Return a cell's entry in the merged record."""
    if is_done:
        return {**cell, "status": "done", "reason": ""}
    return {**cell, "status": "failed" if reason else "missing", "reason": reason}


def _merge_adversarial(out: RunDirectory, shards: Sequence[RunDirectory]) -> None:
    """Copy every set of adversarial images from the first shard that has it whole."""
    from data_prep.arrays import is_whole_archive

    there = {path.name for path in out.adversarial.glob("*.npz") if is_whole_archive(path)}
    for shard in shards:
        for path in sorted(shard.adversarial.glob("*.npz")):
            if path.name not in there and is_whole_archive(path):
                _copy(path, out.adversarial / path.name)
                there.add(path.name)


def _merge_samples(out: RunDirectory, shards: Sequence[RunDirectory]) -> None:
    """Copy the sample images, which are alike in all shards; for attacks, keep the samples of the first task."""
    from data_prep.arrays import is_whole_archive

    held = [shard.path / "samples.npz" for shard in (out, *shards)]
    if (first := next((path for path in held if is_whole_archive(path)), held[0])) != held[0]:
        _copy(first, held[0])
    samples = [arrays for shard in (out, *shards) if (arrays := shard.read_samples("attack_samples")) is not None]
    if samples:
        out.write_samples(min(samples, key=lambda arrays: int(arrays.get("rank", 0))), "attack_samples")


def _copy(source: Path, target: Path) -> None:
    with replacing(target) as temporary:
        shutil.copyfile(source, temporary)


def _join(records: Sequence[dict[str, Any]], cells: list[dict[str, Any]], out: RunDirectory) -> dict[str, Any]:
    """Build the merged record: the first shard's record, with the environment of every shard."""
    states = {cell["status"] for cell in cells}
    kept = ("shard", "status", "started", "written", "environment", "sessions", "events")
    parts: list[dict[str, Any]] = []
    for part in (part for record in records for part in record.get("shards", [record])):
        if (described := {name: part[name] for name in kept if name in part}) not in parts:
            parts.append(described)
    return {
        **{name: value for name, value in records[0].items() if name not in _OF_A_SHARD},
        "status": "failed" if "failed" in states else "incomplete" if "missing" in states else "complete",
        **_ask_for_all(records[0], out),
        "started": min(record["started"] for record in records),
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "shard": None,
        "shards": parts,
        "cells": cells,
    }


def _ask_for_all(record: dict[str, Any], out: RunDirectory) -> dict[str, Any]:
    """Return options that measure missing cells: options of a shard with ``out``, without ``shard`` and ``fresh``.

    Shards of earlier versions hold words instead of options; these cannot be turned into a whole run.
    """
    options = read_options(record)
    if not isinstance(options, RunOptions):
        return {"asked": []}
    return {"options": write_options(msgspec.structs.replace(options, shard=None, fresh=False, out=str(out.path)))}


def describe_gaps(out: RunDirectory) -> list[str]:
    """List every model and perturbation with missing cells, one per line, with the reason if a shard recorded one."""
    gaps = Counter(
        (cell["model"], cell["perturbation"], cell["reason"] or "in no shard that was given")
        for cell in out.read_record()["cells"]
        if cell["status"] != "done"
    )
    return [f"{count} cells of {model}, {name}: {reason}" for (model, name, reason), count in gaps.items()]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = CommandParser(
        prog="python -m robustness.merge",
        description="Join the run directories of robustness.run --shard i/n into one, with its tables, figures and "
        "report. Shards that differ in grid, protocol, weights or data are refused. No model or data is needed.",
        epilog="example:\n  python -m robustness.merge results/runs/cifar10c results/runs/cifar10c-*-of-8\n\n"
        "exit codes: 0 all cells are there, 1 some are missing or --strict found a mark, 2 bad input",
    )
    add_version(parser)
    parser.add_argument("out", metavar="OUT", help="run directory to write; new, or of an earlier merge")
    parser.add_argument("shards", nargs="+", metavar="SHARD", help="run directory of a shard (its --out), or its URL")
    parser.add_argument("--strict", action="store_true", help=STRICT_HELP)
    words = sys.argv[1:] if argv is None else argv
    check_words(words)
    arguments = parser.parse_args(words)
    from robustness.mirror import fetch, is_url
    from robustness.run_directory import RunDirectory

    if is_url(arguments.out):
        raise InputError(
            f"expected OUT as a folder on this machine, got {arguments.out}; merge into a folder and copy that"
        )
    out = RunDirectory(Path(arguments.out))
    findings = merge(out, [fetch(place) for place in arguments.shards])
    print_summary(findings)
    for gap in describe_gaps(out):
        print(f"missing: {gap}", file=sys.stderr)
    return exit_code(findings, strict=arguments.strict)


if __name__ == "__main__":
    sys.exit(run_command(main))
