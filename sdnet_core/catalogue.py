"""What comes with the package, by name, without torch: models and how they can be run."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

SUFFIX = ".safetensors"
SPEEDS = ("exact", "fast")
"""Forms of a network for evaluation: :mod:`sdnet_core.speed`."""


def shipped_models() -> dict[str, Path]:
    """Names and paths of the models that come with the package."""
    folder = Path(str(files("sdnet_core") / "weights"))
    return {path.stem: path for path in sorted(folder.glob(f"*{SUFFIX}"))}
