"""The version of the project: written in ``pyproject.toml``, nowhere else."""

from __future__ import annotations

import argparse
from importlib import metadata

PACKAGE = "sdnet-robustness"


def find_version() -> str:
    """The version of the installed package; ``unknown`` for a copy that was never installed."""
    try:
        return metadata.version(PACKAGE)
    except metadata.PackageNotFoundError:
        return "unknown"


def add_version(parser: argparse.ArgumentParser) -> None:
    """Declare ``--version``."""
    parser.add_argument("--version", action="version", version=f"{PACKAGE} {find_version()}")
