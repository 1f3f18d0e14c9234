"""The shipped models and the forms in which models run, by name, without importing torch."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

SUFFIX = ".safetensors"
SPEEDS = ("exact", "fast")
"""Forms of a network for evaluation; see :mod:`sdnet_core.speed`."""


def shipped_models() -> dict[str, Path]:
    """List the names and paths of the models that come with the package."""
    folder = Path(str(files("sdnet_core") / "weights"))
    return {path.stem: path for path in sorted(folder.glob(f"*{SUFFIX}"))}
