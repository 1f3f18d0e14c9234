"""RobustBench with current packages: it imports a module that the package index knows by another name."""

from __future__ import annotations

import importlib
import sys
import warnings
from types import ModuleType

from data_prep.errors import PrerequisiteError


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
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if not others:
                sys.modules["autoattack"] = importlib.import_module("pyautoattack")
            return importlib.import_module("robustbench")
    except ImportError as error:
        raise PrerequisiteError(
            f"RobustBench cannot be imported ({error}): in the project's folder, run pip install '.[attacks]'"
        ) from error
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "autoattack" and name not in others]:
            del sys.modules[name]
