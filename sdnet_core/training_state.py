"""The state of a training between two epochs, its file, and its curves."""

from __future__ import annotations

import copy
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from data_prep.errors import InputError
from data_prep.files import replacing
from sdnet_core.networks import Network


class MovingAverage:
    """Exponential moving average of a model, θ̄ ← d θ̄ + (1 − d) θ.

    Averaged BatchNorm statistics do not fit averaged weights; training estimates them again before it uses them.

    torch's ``AveragedModel`` would also average the step sizes, whose buffers change shape when a model is prepared.

    Args:
        model: the model to follow; the average begins as a copy of it.
        decay: d, in (0, 1).
    """

    def __init__(self, model: Network, decay: float) -> None:
        self.model, self.decay = copy.deepcopy(model), decay

    @torch.no_grad()
    def update(self, model: Network) -> None:
        """Update the average with ``model``; whole numbers (counts of batches) are copied."""
        for mean, value in zip(self.model.state_dict().values(), model.state_dict().values(), strict=True):
            if mean.is_floating_point():
                mean.lerp_(value, 1 - self.decay)
            else:
                mean.copy_(value)


@dataclass
class TrainingState:
    """Everything that a training needs to resume after an epoch.

    Args:
        model: the network in training.
        optimiser: its optimiser.
        average: the moving average of its weights; None for a training without.
        log: one row for each finished epoch.
    """

    model: Network
    optimiser: torch.optim.Optimizer
    average: MovingAverage | None
    log: list[dict[str, float]] = field(default_factory=list)

    def finish(self) -> Network:
        """Normalise the atoms and converge the step sizes of the final network, the average if there is one."""
        model = self.model if self.average is None else self.average.model
        model.refresh()
        return model

    def write(self, path: Path, identity: str) -> None:
        """Store the state; ``identity`` is what must not change before it is restored."""
        stored = {
            "identity": identity,
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "log": self.log,
        }
        if self.average is not None:
            stored["average"] = self.average.model.state_dict()
        with replacing(path) as temporary:
            torch.save(stored, temporary)

    def restore(self, stored: dict[str, Any]) -> None:
        """Restore what :meth:`write` stored and :func:`read_state` read."""
        self.model.load_state_dict(stored["model"])
        self.optimiser.load_state_dict(stored["optimiser"])
        if self.average is not None:
            self.average.model.load_state_dict(stored["average"])
        self.log = stored["log"]


def read_state(path: Path) -> dict[str, Any]:
    """Read a state written by :meth:`TrainingState.write`, and check the archive's checksums, which torch does not do.

    Raises:
        InputError: the file is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            whole = archive.testzip() is None
        state = torch.load(path, map_location="cpu", weights_only=True) if whole else None
    except Exception as error:  # a damaged file raises a variety of errors
        raise InputError(
            f"expected a whole state of a training in {path}, got a damaged file or none that can be read; give "
            "--fresh to start again"
        ) from error
    if not isinstance(state, dict) or not {"identity", "model", "optimiser", "log"} <= state.keys():
        raise InputError(
            f"expected the state of a training in {path}, got a damaged file or something else; give --fresh to start "
            "again"
        )
    return state


def write_log(out: Path, log: list[dict[str, float]]) -> None:
    """Write ``log.csv`` and ``curves.png``: loss and test accuracy by epoch."""
    from matplotlib.figure import Figure

    frame = pd.DataFrame(log)
    with replacing(out / "log.csv") as temporary:
        frame.to_csv(temporary, index=False)
    figure = Figure(figsize=(7, 3), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(frame["epoch"], frame["train_loss"], color="#0072B2")
    left.set(xlabel="epoch", ylabel="training loss")
    right.plot(frame["epoch"], 100 * frame["test_accuracy"], color="#D55E00")
    right.set(xlabel="epoch", ylabel="test accuracy (%)")
    with replacing(out / "curves.png") as temporary:
        figure.savefig(temporary, dpi=120)
