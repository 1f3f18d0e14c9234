"""Models of RobustBench: ``robustbench:NAME``, ``robustbench:NAME@L2``, ``robustbench:NAME@corruptions``."""

from __future__ import annotations

import importlib
import sys
import warnings
from importlib import metadata
from pathlib import Path
from types import ModuleType

import torch

from data_prep.errors import InputError, PrerequisiteError
from robustness.measure.loaders.address import Address
from robustness.measure.loaders.libraries import NO_DOWNLOAD
from robustness.measure.loaders.loaded import Loaded, Wanted
from robustness.measure.loaders.weights import read_tensors

_BENCHMARK_DATA = {10: "cifar10", 100: "cifar100", 1000: "imagenet"}
_THREATS = ("Linf", "L2", "corruptions")


def load_robustbench(address: Address, wanted: Wanted) -> Loaded:
    """Load a model of RobustBench's zoo, for the data set that the number of classes implies.

    Raises:
        PrerequisiteError: the package or the weights are missing.
        InputError: no such model, or its file does not hold its weights.
    """
    name, _, threat = address.name.partition("@")
    threat = threat or _THREATS[0]
    data = _BENCHMARK_DATA.get(wanted.num_classes)
    if data is None:
        raise InputError(
            f"expected data of {sorted(_BENCHMARK_DATA)} classes, for which RobustBench has models, got "
            f"{wanted.num_classes}; choose other data or models"
        )
    import_robustbench()
    zoo = importlib.import_module("robustbench.model_zoo.enums")
    names = importlib.import_module("robustbench.model_zoo").model_dicts[zoo.BenchmarkDataset(data)]
    if threat not in _THREATS or name not in names[zoo.ThreatModel(threat)]:
        raise InputError(
            f"expected a model of RobustBench for {data} under {threat!r}, got {name!r}; give robustbench:NAME@THREAT "
            f"with a name of its leaderboard and one of {', '.join(_THREATS)}"
        )
    folder = Path(torch.hub.get_dir()) / "robustbench"
    place = folder / data / threat / f"{name}.pt"
    placed = [path for path in (place, *sorted(place.parent.glob(f"{name}.pt_m*.pt"))) if path.is_file()]
    for path in placed:
        read_tensors(path)
    load = importlib.import_module("robustbench.utils").load_model
    try:
        model = load(model_name=name, model_dir=str(folder), dataset=data, threat_model=threat)
    except NO_DOWNLOAD as error:
        raise PrerequisiteError(
            f"the weights of robustbench:{name} cannot be downloaded ({error}); put them into {place}"
        ) from error
    except Exception as error:
        if not placed:
            raise
        held = ", ".join(map(str, placed))
        raise InputError(
            f"expected the weights of robustbench:{name} in {held}, got others; remove it and download it again"
        ) from error
    return Loaded(model=model, version=f"robustbench {metadata.version('robustbench')}")


def import_robustbench() -> ModuleType:
    """Import ``robustbench`` and return it.

    Version 1.1.1 imports ``autoattack``, which is published as ``pyautoattack``. While RobustBench is being imported,
    ``pyautoattack`` answers to that name and deprecation warnings are hidden; afterwards both are undone.

    Raises:
        PrerequisiteError: RobustBench, or a package that it imports, is not installed.
    """
    if (loaded := sys.modules.get("robustbench")) is not None:
        return loaded
    others = {name for name in sys.modules if name.partition(".")[0] == "autoattack"}
    try:
        with warnings.catch_warnings(action="ignore"):
            if not others:
                sys.modules["autoattack"] = importlib.import_module("pyautoattack")
            return importlib.import_module("robustbench")
    except ImportError as error:
        raise PrerequisiteError(
            f"RobustBench cannot be imported ({error}); in the project's folder, run pip install '.[attacks]'"
        ) from error
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "autoattack" and name not in others]:
            del sys.modules[name]
