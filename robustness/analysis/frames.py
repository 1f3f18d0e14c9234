"""Outcomes as tidy pandas frames."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from robustness.analysis.statistics import wilson_interval
from robustness.laws import FittedLaw
from robustness.run_directory import RunDirectory

CELL_COLUMNS = [
    *("model", "data", "source", "perturbation", "severity", "norm", "eps", "threat", "lam", "n"),
    *("accuracy", "ci_low", "ci_high", "residual", "sparsity", "trust", "trust_reason", "seconds"),
]
"""Columns of ``cells.csv``; those of attacks are empty for corruptions."""


@dataclass(frozen=True)
class Run:
    """A run directory that was read: its record, and the outcomes of its finished cells."""

    directory: RunDirectory
    record: dict[str, Any]

    @classmethod
    def open(cls, directory: RunDirectory) -> Run:
        """Read a run directory; raises PrerequisiteError or InputError if it is none."""
        return cls(directory, directory.read_record())

    @cached_property
    def _measured(self) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
        rows, outcomes = [], {}
        for cell in self.record["cells"]:
            found = self.directory.read_outcome(cell["key"], n=cell["n"])
            if found is None:
                continue
            frame, metadata = found
            outcomes[cell["key"]] = frame
            correct = int(frame["correct"].sum())
            low, high = wilson_interval(correct, len(frame))
            rows.append(
                {
                    **cell,
                    "accuracy": correct / len(frame),
                    "ci_low": low,
                    "ci_high": high,
                    "residual": float(frame["residual"].mean()) if "residual" in frame else math.nan,
                    "sparsity": float(frame["sparsity"].mean()) if "sparsity" in frame else math.nan,
                    "seconds": metadata["seconds"],
                }
            )
        columns = [*CELL_COLUMNS, "key", "trained_lam", "policy", "crafted_lam", "crafted_policy", "split"]
        return pd.DataFrame(rows).reindex(columns=columns).astype({"lam": float, "trained_lam": float}), outcomes

    @cached_property
    def missing(self) -> dict[str, str]:
        """Why there is no outcome, by the key of every cell that was asked for and has none."""
        why = {
            "missing": "not measured yet",
            "elsewhere": "in another shard",
            "done": "its file in outcomes/ is damaged or gone",
        }
        return {
            cell["key"]: cell["reason"] or why.get(cell["status"], cell["status"])
            for cell in self.record["cells"]
            if cell["key"] not in self._measured[1]
        }

    @cached_property
    def cells(self) -> pd.DataFrame:
        """One row per finished cell: :data:`CELL_COLUMNS`, ``key`` and ``trained_lam``; accuracies are fractions.

        The cells of the selection, which are of training images, are in :attr:`selection`.
        """
        measured = self._measured[0]
        return pd.DataFrame(measured[measured["split"] == self.record["data"]["split"]]).reset_index(drop=True)

    @cached_property
    def selection(self) -> pd.DataFrame:
        """Cells of training images, which λ may be chosen on; columns as in :attr:`cells`."""
        measured = self._measured[0]
        return pd.DataFrame(measured[measured["split"] != self.record["data"]["split"]])

    @cached_property
    def selection_accuracy(self) -> dict[str, pd.DataFrame]:
        """Per model, accuracy on training images: a row per perturbation (mean over the severities), a column per λ.

        NaN where a severity that was asked for is missing.
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
        """The model that the others are compared with: the suite's, or the first one without λ; None if all have λ."""
        if named := self.record["suite"].get("baseline"):
            return str(named)
        plain = self.corrupted.loc[self.corrupted["lam"].isna(), "model"]
        return next((model for model in self.models if model in set(plain)), None)

    @cached_property
    def corrupted(self) -> pd.DataFrame:
        """The rows of :attr:`cells` that are of clean and corrupted images, without those of attacks."""
        return self.cells[self.cells["threat"].isna()]

    @property
    def models(self) -> list[str]:
        """Names of the models, in the order asked."""
        return [model["name"] for model in self.record["models"]]

    @property
    def corruptions(self) -> list[str]:
        """Names of the corruptions, in the order asked."""
        return list(self.record["suite"]["corruptions"])

    def correct(self, keys: list[str]) -> np.ndarray:
        """Right answers of several cells, bool (len(keys), n), images in the same order in every row."""
        return np.stack([self._measured[1][key]["correct"].to_numpy() for key in keys])

    def outcome(self, key: str) -> pd.DataFrame:
        """Rows per image of one cell."""
        return self._measured[1][key]
