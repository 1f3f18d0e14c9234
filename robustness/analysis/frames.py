"""Outcomes as tidy pandas frames."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_prep.errors import InputError
from data_prep.files import as_file_name
from robustness.analysis.columns import ACCURACY, to_key
from robustness.class_order import OtherOrder, find_other_order
from robustness.laws import FittedLaw
from robustness.record import CellRecord
from robustness.run_directory import Columns, RunDirectory
from robustness.statistics import wilson_intervals
from robustness.verdicts import OK, OKAY, Verdict, judge_soundness, unite

CELL_COLUMNS = [
    *("model", "data", "source", "perturbation", "severity", "norm", "eps", "threat", "lam", "n"),
    *(*ACCURACY, "residual", "sparsity", "trust", "trust_reason", "seconds"),
]
"""Columns of ``cells.csv``; the columns of attacks are empty for corruptions."""
_OF_CELLS = ("key", "trained_lam", "policy", "crafted_lam", "crafted_policy", "split", "shift", "sequence")
"""Further columns of :attr:`Run.cells`."""
_ANSWERS = ("predicted", "confidence", "nll", "correct", "residual", "sparsity", "noise_level", "top5")
_KEPT_BYTES = 1 << 29
"""Bytes of predictions kept in memory; further cells are read again when λ policies are decided."""


class _Measured(NamedTuple):
    """The finished cells of a run.

    Args:
        cells: a row per cell.
        correct: (N,) correct predictions, by key.
        kept: columns of several cells, and the row of this one, by key; no more than :data:`_KEPT_BYTES`.
        environments: number of cells by environment, as JSON.
    """

    cells: pd.DataFrame
    correct: dict[str, np.ndarray]
    kept: dict[str, tuple[Columns, int]]
    environments: Counter[str]


@dataclass(frozen=True)
class Run:
    """A run directory in memory: its record and the outcomes of its finished cells."""

    directory: RunDirectory
    record: dict[str, Any]

    @classmethod
    def open(cls, directory: RunDirectory) -> Run:
        """Read a run directory; raise PrerequisiteError or InputError if it is not one."""
        return cls(directory, directory.read_record())

    @cached_property
    def _measured(self) -> _Measured:
        """Everything that is read from the outcomes once."""
        asked: dict[str, dict[str, Any]] = {cell["key"]: cell for cell in self.record["cells"]}
        cells: list[dict[str, Any]] = []
        values: list[NDArray[np.float64]] = []
        correct: dict[str, np.ndarray] = {}
        kept: dict[str, tuple[Columns, int]] = {}
        environments: Counter[str] = Counter()
        room = _KEPT_BYTES
        for batch in self.directory.read_batches({key: cell["n"] for key, cell in asked.items()}, _ANSWERS):
            answers = batch.columns
            room -= sum(column.nbytes for column in answers.values())
            right = answers["correct"]
            accuracy = right.sum(axis=1) / right.shape[1]
            columns = [accuracy, *wilson_intervals(accuracy, right.shape[1]).T]
            columns += [
                answers[name].mean(axis=1) if name in answers else np.full(len(right), np.nan)
                for name in ("residual", "sparsity")
            ]
            columns.append(np.array([metadata["seconds"] for metadata in batch.metadata], dtype=np.float64))
            for key, metadata in zip(batch.keys, batch.metadata, strict=True):
                self._check_cell(asked[key], metadata.get("identity"))
            cells += (asked[key] for key in batch.keys)
            values.append(np.stack(columns, axis=1))
            environments.update(json.dumps(metadata.get("environment")) for metadata in batch.metadata)
            correct |= zip(batch.keys, right, strict=True)
            if room >= 0:
                kept |= {key: (answers, row) for row, key in enumerate(batch.keys)}
        names = [*ACCURACY, "residual", "sparsity", "seconds"]
        measured = pd.DataFrame(np.concatenate([np.empty((0, len(names))), *values]), columns=names)
        described = pd.DataFrame(cells, columns=list(CellRecord.__annotations__))
        table = pd.concat([described, measured], axis=1).reindex(columns=[*CELL_COLUMNS, *_OF_CELLS])
        return _Measured(table.astype({"lam": float, "trained_lam": float}), correct, kept, environments)

    @cached_property
    def _marked(self) -> pd.DataFrame:
        """A row per finished cell, with the verdict on its model where that decides the cell's trust."""
        table = self._measured.cells.copy()
        places = zip(table["model"], table["lam"], table["norm"].isna())
        verdicts = [self.soundness.get((model, to_key(lam))) if own else None for model, lam, own in places]
        table["trust"] = [verdict.mark if verdict else None for verdict in verdicts]
        table["trust_reason"] = [verdict.reason if verdict else None for verdict in verdicts]
        return table

    def _check_cell(self, cell: dict[str, Any], identity: dict[str, Any] | None) -> None:
        """Check that the record gives a cell the model, λ and images that it was measured with, if its outcome says.

        Raises:
            InputError: the record gives the cell other values, since ``run.json`` was edited or damaged.
        """
        if identity is None:
            return
        lam, perturbation = identity["lam"], identity["perturbation"]
        measured = {"model": identity["model"]["name"], "n": identity["data"]["n"]}
        measured["lam"] = None if isinstance(lam, dict) else lam  # None for a policy
        if attack := perturbation.get("attack"):
            measured |= {name: attack[name] for name in ("norm", "eps")}
        else:
            measured |= {"perturbation": perturbation["name"], "severity": perturbation["severity"]}
        for name, value in measured.items():
            if cell.get(name) != value:
                raise InputError(
                    f"expected {name} {value} of the cell {cell['key'][:8]} in {self.directory.path / 'run.json'}, got "
                    f"{cell.get(name)}, since the file was changed; run the same command again to rebuild it"
                )

    @cached_property
    def soundness(self) -> dict[tuple[str, float | None], Verdict]:
        """Verdicts on the models themselves, by model and λ, of the checks before the grid and :attr:`other_orders`.

        Runs of older versions have no checks before the grid.
        """
        found = {(row["model"], row["lam"]): judge_soundness(row) for row in self.record.get("soundness", ())}
        for place, other in self.other_orders.items():
            found[place] = unite([found.get(place, OKAY), other.verdict])
        return found

    @cached_property
    def other_orders(self) -> dict[tuple[str, float | None], OtherOrder]:
        """Orders of the classes that fit clean predictions better than the order of the data, by model and λ."""
        names, found = self.record["data"]["classes"], {}
        cells = self._measured.cells
        is_clean = (cells["perturbation"] == "clean") & (cells["split"] == self.record["data"]["split"])
        clean = cells[is_clean & cells[["threat", "shift", "sequence"]].isna().all(axis=1)]
        for key, model, lam in zip(clean["key"], clean["model"], clean["lam"]):
            rows = self._read_again(key)
            other = find_other_order(rows["predicted"], rows["label"], names)
            if other is not None:
                found[model, to_key(lam)] = other
        return found

    @cached_property
    def environments(self) -> list[tuple[dict[str, Any], int]]:
        """Environments of the finished cells with the number of cells on each, the most frequent first.

        Cells of older versions do not name theirs; they count for the first session of the record.
        """
        sessions = self.record.get("sessions") or [self.record]
        texts: Counter[str] = Counter()
        for text, count in self._measured.environments.items():
            texts[json.dumps(sessions[0]["environment"]) if text == "null" else text] += count
        found = [(json.loads(text), count) for text, count in texts.most_common()]
        return found or [(self.record["environment"], 0)]

    @cached_property
    def doubts(self) -> dict[str, Verdict]:
        """Verdicts on the models that are in doubt themselves at some λ, with all reasons; their rows are marked."""
        of_model = {
            name: unite(it for (model, _), it in self.soundness.items() if model == name) for name in self.models
        }
        return {name: verdict for name, verdict in of_model.items() if verdict.mark != OK}

    @cached_property
    def missing(self) -> dict[str, str]:
        """Reasons why requested cells have no outcome, by key."""
        why = {
            "missing": "not measured yet",
            "elsewhere": "in another shard",
            "done": "its file in outcomes/ is damaged or gone",
        }
        return {
            cell["key"]: cell["reason"] or why.get(cell["status"], cell["status"])
            for cell in self.record["cells"]
            if cell["key"] not in self._measured.correct
        }

    @cached_property
    def cells(self) -> pd.DataFrame:
        """One row per finished cell: :data:`CELL_COLUMNS`, ``key`` and ``trained_lam``; accuracies are fractions.

        The cells of the selection, which show training images, are in :attr:`selection`.
        """
        measured = self._marked
        return pd.DataFrame(measured[measured["split"] == self.record["data"]["split"]]).reset_index(drop=True)

    @cached_property
    def selection(self) -> pd.DataFrame:
        """Cells of the training images that λ may be chosen on; columns as in :attr:`cells`."""
        measured = self._marked
        return pd.DataFrame(measured[measured["split"] != self.record["data"]["split"]])

    @cached_property
    def selection_accuracy(self) -> dict[str, pd.DataFrame]:
        """Accuracy on training images by model: a row per perturbation (mean over the severities), a column per λ.

        NaN if a requested severity is missing.
        """
        fields = ["key", "model", "perturbation", "severity", "lam"]
        asked = [cell for cell in self.record["cells"] if cell["split"] != self.record["data"]["split"]]
        planned = pd.DataFrame([[cell[name] for name in fields] for cell in asked], columns=fields)
        cells = planned.merge(self.selection[["key", "accuracy"]], how="left", on="key")
        groups = cells.groupby(["model", "perturbation", "lam"])["accuracy"]
        means = groups.agg(lambda values: values.mean(skipna=False))
        return {str(model): table.droplevel("model").unstack("lam") for model, table in means.groupby("model")}

    @cached_property
    def laws(self) -> dict[str, FittedLaw]:
        """The residual laws of the models that have one."""
        return {m["name"]: FittedLaw.from_json(m["law"]) for m in self.record["models"] if m.get("law")}

    @cached_property
    def baseline(self) -> str | None:
        """The model that the others are compared with: the suite's, or the first model without λ; None if all have λ.

        A model at chance level on clean images is not a baseline: it was not trained, or trained on other classes.
        """
        if named := self.record["suite"].get("baseline"):
            return str(named)
        plain = self.corrupted.loc[self.corrupted["lam"].isna()]
        chance = 1 / len(self.record["data"]["classes"])
        lost = plain.loc[(plain["perturbation"] == "clean") & (plain["ci_low"] <= chance), "model"]
        return next((model for model in self.models if model in {*plain["model"]} - {*lost}), None)

    @cached_property
    def corrupted(self) -> pd.DataFrame:
        """The rows of :attr:`cells` for clean and corrupted images at the λs of :attr:`grids`."""
        others = self.cells[["threat", "shift", "sequence"]].notna().any(axis=1)
        rows = self.cells[~others]
        asked = {(model, lam) for model, grid in self.grids.items() for lam in grid.tolist()}
        return rows.loc[[lam != lam or (model, lam) in asked for model, lam in zip(rows["model"], rows["lam"])]]

    @property
    def shifted(self) -> pd.DataFrame:
        """The rows of :attr:`cells` for natural shifts and for the clean images of their classes."""
        return self.cells[self.cells["shift"].notna()]

    @property
    def sequences(self) -> pd.DataFrame:
        """The rows of :attr:`cells` for perturbation sequences; accuracies refer to the first frames."""
        return self.cells[self.cells["sequence"].notna()]

    @cached_property
    def grids(self) -> dict[str, NDArray[np.float64]]:
        """The requested λs, increasing, by model, finished or not; NaN for a model without λ.

        Attacked clean images are also evaluated at the training λ; if it is not in the suite's grid, it serves the
        attacks only.
        """
        named = {None, *self.record["suite"].get("lambdas", [])}
        grids: dict[str, set[float]] = {}
        for cell in self.record["cells"]:
            lam = cell["lam"]
            is_asked = cell["perturbation"] != "clean" or len(named) == 1 or lam in named
            if is_asked and cell["split"] == self.record["data"]["split"] and cell.get("threat") is None:
                grids.setdefault(cell["model"], set()).add(math.nan if lam is None else lam)
        return {model: np.array(sorted(grid), dtype=np.float64) for model, grid in grids.items()}

    @property
    def models(self) -> list[str]:
        """Names of the models, in the requested order."""
        return [model["name"] for model in self.record["models"]]

    @property
    def corruptions(self) -> list[str]:
        """Names of the corruptions, in the requested order."""
        return list(self.record["suite"]["corruptions"])

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """(N,) true class of every image."""
        return self.outcome(str(self.cells["key"].iloc[0]))["label"].to_numpy(dtype=np.int64)

    @cached_property
    def file_names(self) -> dict[str, str]:
        """Name for the files of every model, distinct even if case is ignored."""
        names = {model: as_file_name(model) for model in self.models}
        taken = Counter(name.casefold() for name in names.values())
        return {
            model: name if taken[name.casefold()] == 1 else as_file_name(f"{model}\0") for model, name in names.items()
        }

    def correct(self, keys: list[str]) -> np.ndarray:
        """Return correct predictions of several cells, bool (len(keys), n), images in the same order in every row."""
        return np.stack([self._measured.correct[key] for key in keys])

    def answers(self, keys: list[str]) -> Columns:
        """Return the columns that λ policies compare, (len(keys), n) each, images in the same order in every row.

        ``predicted, confidence, nll, correct`` and, if all of the cells have them, ``residual, sparsity, noise_level,
        top5``.
        """
        cells = [self._find_answers(key) for key in keys]
        names = [name for name in cells[0][0] if all(name in columns for columns, _ in cells)]
        return {name: np.stack([columns[name][row] for columns, row in cells]) for name in names}

    def outcome(self, key: str) -> pd.DataFrame:
        """Return one cell's rows per image, with every column."""
        if key not in self._frames:
            self._frames[key] = pd.DataFrame(self._read_again(key))
        return self._frames[key]

    def identity(self, key: str) -> dict[str, Any]:
        """Return what a cell's key was made of; empty for outcomes that do not say."""
        return dict(self._read_whole(key)[1].get("identity", {}))

    @cached_property
    def _frames(self) -> dict[str, pd.DataFrame]:
        return {}

    def _find_answers(self, key: str) -> tuple[Columns, int]:
        """Return columns with the answers of a cell, and its row in them."""
        if key in self._measured.kept:
            return self._measured.kept[key]
        again = self._read_again(key)
        return {name: again[name][None] for name in _ANSWERS if name in again}, 0

    def _read_again(self, key: str) -> Columns:
        """Read the columns of a cell again; raise InputError if it is no longer whole."""
        return self._read_whole(key)[0]

    def _read_whole(self, key: str) -> tuple[Columns, dict[str, Any]]:
        found = self.directory.read_columns(key, n=len(self._measured.correct[key]))
        if found is None:
            raise InputError(
                f"expected {self.directory.path}/outcomes to stay the same while it is read, got a change; report again"
            )
        return found
