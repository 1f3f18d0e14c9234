"""Measure how robust image classifiers are: under which perturbations, and at which λ.

``robustness.evaluate`` measures, ``robustness.open_run`` reads an earlier run, ``robustness.Run`` shows its results.
Nothing else is imported until one of them is used, because torch and pandas take seconds to import.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sdnet_core.shadows import check_neighbours

check_neighbours("data_prep", "sdnet_core")

if TYPE_CHECKING:
    from robustness.api import evaluate
    from robustness.runs import Run, Runs, open_run

__all__ = ["Run", "Runs", "evaluate", "open_run"]

_OF_THE_OTHER = (
    *("attack_steps", "attacker", "cifar_models", "data_augmentation", "datasets", "defaults", "helpers"),
    *("imagenet_models", "loaders", "model_utils", "tools", "train"),
)
"""Modules of the package ``robustness`` on PyPI (MadryLab), which has the same name."""


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("robustness.api" if name == "evaluate" else "robustness.runs"), name)
    hint = ""
    if name in _OF_THE_OTHER:
        hint = (
            ": this is the robustness of sdnet-robustness, and the package robustness of PyPI has a module of that "
            "name; one environment holds only one of the two"
        )
    raise AttributeError(f"module 'robustness' has no attribute {name!r}{hint}")
