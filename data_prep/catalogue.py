"""The list of data sets: which are on disk, and how to get the others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from data_prep.archives_c import PUBLISHED, find_archive_c
from data_prep.archives_p import FOLDERS_P, SOURCES_P
from data_prep.cifar import RELEASES, find_release
from data_prep.cifar_c import CifarC
from data_prep.corruptions import SEQUENCES
from data_prep.errors import InputError
from data_prep.generate import generated_folder, generated_sets, read_manifest
from data_prep.shapes import SPLIT_SIZES
from data_prep.shifts import SHIFTS, find_shifts
from data_prep.sources import how_to_get, import_command, imported_names, unimported_trees
from data_prep.store import Record, read_record


@dataclass(frozen=True)
class Entry:
    """One data set of the list.

    kind: official, imported, drawn, corrupted, generated, sequences, shifted or tree. holds: splits and counts.
    where: its path, or how to get it. n_bytes: its size on disk, None when it is absent.
    """

    name: str
    kind: str
    holds: str
    where: str
    n_bytes: int | None = None


def list_data(data_dir: Path) -> list[Entry]:
    """List every known data set, and all others in ``data_dir``; file sizes are looked up, but no file is read."""
    return [
        Entry("shapes", "drawn", _counts(SPLIT_SIZES), "always there"),
        *_official(data_dir),
        *_imported(data_dir),
        *_trees(data_dir),
        *_corrupted(data_dir),
        *_sequences(data_dir),
        *_generated(data_dir),
        *_shifted(data_dir),
    ]


def format_data(entries: list[Entry]) -> str:
    """Format the list as a plain-text table."""
    rows = [("name", "kind", "holds", "size", "where, or how to get it")]
    rows += [(entry.name, entry.kind, entry.holds, _megabytes(entry.n_bytes), entry.where) for entry in entries]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def _official(data_dir: Path) -> Iterator[Entry]:
    brought = {*imported_names(data_dir), *unimported_trees(data_dir)}
    for name, release in RELEASES.items():
        path = find_release(name, data_dir)
        if path is None and name in brought:
            continue
        where = how_to_get(name, data_dir) if path is None else str(path)
        yield Entry(name, "official", _counts(release.counts), where, None if path is None else _size(path))
    if "imagenet" not in brought:
        yield Entry("imagenet", "official", "val 50,000", how_to_get("imagenet", data_dir))


def _imported(data_dir: Path) -> Iterator[Entry]:
    for name in imported_names(data_dir):
        folder = data_dir / name
        try:
            record = read_record(folder)
        except InputError as error:
            yield Entry(name, "imported", "damaged", str(error), _size(folder))
            continue
        if record is not None:
            is_used = find_release(name, data_dir) is None
            where = str(folder) if is_used else f"{folder} (unused: the official files take precedence)"
            yield Entry(name, "imported", _describe(record), where, _size(folder))


def _trees(data_dir: Path) -> Iterator[Entry]:
    for name in unimported_trees(data_dir):
        yield Entry(name, "tree", "not imported", f"get it: {import_command(data_dir / name, name, data_dir)}")


def _corrupted(data_dir: Path) -> Iterator[Entry]:
    for name, published in PUBLISHED.items():
        try:
            archive = find_archive_c(name, data_dir)
        except InputError as error:
            yield Entry(name, "corrupted", "not official", str(error))
            continue
        if archive is None:
            holds = f"{len(published.corruptions)} x 5 x {published.n:,}"
            yield Entry(name, "corrupted", holds, how_to_get(name, data_dir))
        else:
            n_bytes = _size(archive.folder) if isinstance(archive, CifarC) else None  # too many files to look at
            yield Entry(name, "corrupted", _number(archive.corruptions()), str(archive.folder), n_bytes)


def _generated(data_dir: Path) -> Iterator[Entry]:
    for name, archive in generated_sets(data_dir).items():
        folder = generated_folder(archive, data_dir)
        try:
            manifest = read_manifest(folder)
        except InputError as error:
            yield Entry(name, "generated", "damaged", str(error), _size(folder))
            continue
        if manifest is not None:
            holds = f"{_number(CifarC(folder, None).corruptions())} of {manifest.n:,} images, from {manifest.title}"
            yield Entry(name, "generated", holds, str(folder), _size(folder))


def _sequences(data_dir: Path) -> Iterator[Entry]:
    for name, folder in FOLDERS_P.items():
        path = data_dir / folder
        where = str(path) if path.is_dir() else f"get it: {SOURCES_P[name]}, into {path}"
        yield Entry(name, "sequences", f"{len(SEQUENCES)} of every image", where)


def _shifted(data_dir: Path) -> Iterator[Entry]:
    found = find_shifts(data_dir)
    for name, info in SHIFTS.items():
        where = str(found[name]) if name in found else f"get it: {info.get} into {data_dir}"
        yield Entry(name, "shifted", f"{info.count:,} for models of {info.clean}", where)


def _number(corruptions: tuple[str, ...]) -> str:
    return f"{len(corruptions)} corruption{'s' if len(corruptions) != 1 else ''}"


def _describe(record: Record) -> str:
    height, width = record.image_size
    note = f" ({record.note})" if record.note else ""
    return f"{_counts(record.counts)} of {height}x{width}, {len(record.classes)} classes{note}"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{split} {count:,}" for split, count in counts.items())


def _size(path: Path) -> int:
    files = path.glob("*") if path.is_dir() else (path,)
    return sum(file.stat().st_size for file in files if file.is_file())


def _megabytes(n_bytes: int | None) -> str:
    return "-" if n_bytes is None else f"{n_bytes / 1e6:,.0f} MB"
