"""The run directory: measuring writes it, and the analysis reads it and needs nothing else.

run.json              the request, as given and as resolved; models, data, environment, cells and their status
outcomes/<key>.parquet  one row per image of one finished cell
adversarial/<key>.npz   the adversarial images of one attack on one model at one λ; <key>.partial/ while it runs
samples.npz           a few perturbed images and their reconstructions, for the figures
attack_samples.npz    a few adversarial images and their effect on the code
cells.csv, tables/, figures/, report.html   written by the analysis
"""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from data_prep.arrays import read_arrays, write_arrays
from data_prep.errors import InputError, PrerequisiteError
from data_prep.files import UNFINISHED, locked, remove_unfinished, replacing, write_text
from robustness.record import check_record
from robustness.seal import is_whole, seal

SCHEMA_VERSION = 1
_SCRATCH = ".scratch-"
"""Prefix of the folders of a run for large images."""
_LOCK, _ANALYSIS_LOCK = ".lock", ".lock-analysis"
_LARGEST_SAMPLES = 1 << 30
MEASURED, SHOWN = ("outcomes", "adversarial"), ("tables", "figures", "cells.csv", "report.html")
"""Folders and files of a run directory: measurements, and what the analysis makes of them."""
SAMPLES = ("samples.npz", "attack_samples.npz")
_BATCH_ROWS = 1 << 17
"""Number of rows of outcomes that are read together; a larger cell is read on its own."""
Columns = dict[str, np.ndarray]
"""Values per image, by column name."""


@dataclass(frozen=True)
class Batch:
    """Finished cells with the same number of images and the same columns.

    Args:
        keys: keys of the cells.
        columns: (cells, images) values, by column name.
        metadata: metadata of every cell, as :meth:`RunDirectory.write_outcome` stored it.
    """

    keys: list[str]
    columns: Columns
    metadata: list[dict[str, Any]]


@dataclass(frozen=True)
class RunDirectory:
    """A folder of outcomes; every file in it appears complete or not at all."""

    path: Path

    @cached_property
    def outcomes(self) -> Path:
        """Folder of the outcome files."""
        return self.path / "outcomes"

    @property
    def adversarial(self) -> Path:
        """Folder of the adversarial images."""
        return self.path / "adversarial"

    @property
    def is_begun(self) -> bool:
        """True if a run has written its record here."""
        return (self.path / "run.json").is_file()

    def create(self) -> None:
        """Make the folder; refuse a folder with other content.

        Raises:
            InputError: ``path`` is a file, or a folder that holds other things and no ``run.json``.
        """
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"expected a folder as --out, got {self.path}, a file; choose another")
        own = (self.outcomes.name, self.adversarial.name, _LOCK, _ANALYSIS_LOCK, *SAMPLES)
        names = (path.name for path in self.path.glob("*"))
        foreign = [name for name in names if name not in own and not name.startswith((UNFINISHED, _SCRATCH))]
        if foreign and not (self.path / "run.json").exists():
            raise InputError(
                f"expected a run directory or an empty folder, got {self.path}, which holds other files and no "
                "run.json; choose an empty or new folder for --out"
            )
        self.outcomes.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Lock the folder against other runs, and remove the incomplete files of a killed run.

        The lock is the operating system's and ends with the process, however that ends. A file system without locks
        does not stop a second run.

        Raises:
            InputError: another run is writing to the folder.
        """
        busy = f"another run is writing to {self.path}; wait for its end, or choose another --out"
        with locked(self.path / _LOCK, busy):
            with self.analysing():
                for folder in (self.path, self.outcomes, self.adversarial, self.path / "tables", self.path / "figures"):
                    remove_unfinished(folder, _SCRATCH)
            yield

    @contextmanager
    def analysing(self) -> Iterator[None]:
        """Wait until no other process writes tables, figures and report here, and make others wait during the block."""
        with locked(self.path / _ANALYSIS_LOCK):
            yield

    def clear(self) -> None:
        """Delete all measurements and everything that was made of them."""
        for folder in (self.outcomes, self.adversarial):
            shutil.rmtree(folder, ignore_errors=True)
        self.clear_analysis()
        self.clear_samples()
        self.outcomes.mkdir(parents=True)

    def clear_samples(self) -> None:
        """Remove the sample images, which belong to the models that were measured last."""
        for name in SAMPLES:
            (self.path / name).unlink(missing_ok=True)

    def clear_analysis(self) -> None:
        """Remove tables, figures and report, which must not outlive the outcomes that they show."""
        for path in (self.path / name for name in SHOWN):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def write_outcome(self, key: str, frame: pd.DataFrame, metadata: dict[str, Any]) -> None:
        """Store one finished cell: its rows, its identity and seconds as metadata, and a checksum over everything."""
        table = pa.Table.from_pandas(frame, preserve_index=False)
        table = table.replace_schema_metadata({"cell": json.dumps({"key": key, **metadata}, sort_keys=True)})
        buffer = pa.BufferOutputStream()
        pq.write_table(table, buffer, compression="lz4", use_dictionary=False, write_statistics=False)
        with replacing(self._outcome(key)) as temporary:
            temporary.write_bytes(seal(buffer.getvalue().to_pybytes(), key))

    def read_columns(self, key: str, *, n: int) -> tuple[Columns, dict[str, Any]] | None:
        """Read the columns and metadata of a finished cell; None if it is absent, truncated, damaged or another cell's.

        Args:
            key: key of the cell.
            n: number of images that it must have.
        """
        table = self._read_table(key, n, None)
        return None if table is None else (_to_arrays(table), _metadata_of(table))

    def read_batches(self, sizes: Mapping[str, int], names: Sequence[str]) -> Iterator[Batch]:
        """Read finished cells, many at a time: a file takes half as long as with :meth:`read_columns`.

        Args:
            sizes: number of images that each cell must have, by key.
            names: the columns to read, as far as a cell has them.

        Yields: the whole cells in the order of ``sizes``; consecutive cells of the same kind form one batch.
        """
        read = ((key, self._read_table(key, n, names)) for key, n in sizes.items())
        whole = ((key, table) for key, table in read if table is not None)
        for (n, _), cells in itertools.groupby(whole, key=lambda cell: (cell[1].num_rows, cell[1].schema)):
            while some := list(itertools.islice(cells, max(1, _BATCH_ROWS // n))):
                keys, tables = zip(*some)
                columns = _to_arrays(pa.concat_tables(tables))
                rows = {name: column.reshape(len(keys), n) for name, column in columns.items()}
                yield Batch(list(keys), rows, [_metadata_of(table) for table in tables])

    def read_outcome(self, key: str, *, n: int) -> tuple[pd.DataFrame, dict[str, Any]] | None:
        """Read a cell as :meth:`read_columns` does, as a frame."""
        found = self.read_columns(key, n=n)
        return None if found is None else (pd.DataFrame(found[0]), found[1])

    def find_whole(self, keys: Iterable[str]) -> set[str]:
        """Return the ``keys`` whose cells exist and are whole."""
        there = {path.stem for path in self.outcomes.glob("*.parquet")}
        return {key for key in there.intersection(keys) if self._read_whole(key) is not None}

    def remove_outcomes(self, keys: Iterable[str]) -> None:
        """Delete cells whose keys now stand for another model than the one that they were measured with."""
        for key in keys:
            self._outcome(key).unlink(missing_ok=True)

    def _read_table(self, key: str, n: int, names: Sequence[str] | None) -> pa.Table | None:
        content = self._read_whole(key)
        if content is None:
            return None
        with pq.ParquetFile(pa.BufferReader(content)) as file:
            # threads cost more time than they save for files of this size
            return file.read(names, use_threads=False) if file.metadata.num_rows == n else None

    def _outcome(self, key: str) -> Path:
        return self.outcomes / f"{key}.parquet"

    def _read_whole(self, key: str) -> bytes | None:
        try:
            content = self._outcome(key).read_bytes()
        except OSError:
            return None
        return content if is_whole(content, key) else None

    def write_record(self, record: dict[str, Any]) -> None:
        """Store ``run.json``."""
        text = json.dumps({"schema_version": SCHEMA_VERSION, **record}, indent=1, ensure_ascii=False)
        write_text(self.path / "run.json", text + "\n")

    def read_record(self) -> dict[str, Any]:
        """Read ``run.json``.

        Raises:
            PrerequisiteError: there is no record.
            InputError: the record is damaged, or was written by another version of the project.
        """
        path = self.path / "run.json"
        if not path.is_file():
            raise PrerequisiteError(
                f"expected a run directory, got {self.path}, which has no run.json; give the --out of a robustness.run"
            )
        try:
            record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise InputError(
                f"expected JSON in {path}, got damaged text ({error}); run the same command again to rebuild it"
            ) from error
        version = record.get("schema_version") if isinstance(record, dict) else None
        if version != SCHEMA_VERSION:
            raise InputError(
                f"expected schema version {SCHEMA_VERSION} in {path}, got {version}; read it with the version of the "
                "project that wrote it"
            )
        check_record(record, str(path))
        return record

    def write_samples(self, arrays: dict[str, np.ndarray], name: str = "samples") -> None:
        """Store sample images of the figures as ``<name>.npz``."""
        write_arrays(self.path / f"{name}.npz", arrays)

    def read_samples(self, name: str = "samples") -> dict[str, np.ndarray] | None:
        """Read the sample images of ``<name>.npz``; None if the run stored none, or they are damaged."""
        return read_arrays(self.path / f"{name}.npz", most=_LARGEST_SAMPLES)


def _to_arrays(table: pa.Table) -> Columns:
    """Copy the columns of a table into arrays: views would keep the buffers of the whole file in memory."""
    columns = zip(table.column_names, table.itercolumns())
    return {name: np.array(column.to_numpy(zero_copy_only=False)) for name, column in columns}


def _metadata_of(table: pa.Table) -> dict[str, Any]:
    metadata: dict[str, Any] = json.loads(table.schema.metadata[b"cell"])
    return metadata
