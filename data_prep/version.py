"""The version of the project, whose only source is ``pyproject.toml``."""

from __future__ import annotations

import argparse
from importlib import metadata

PACKAGE = "sdnet-robustness"


def find_version() -> str:
    """Return the version of the installed package; ``unknown`` for a copy that was never installed."""
    try:
        return metadata.version(PACKAGE)
    except metadata.PackageNotFoundError:
        return "unknown"


def add_version(parser: argparse.ArgumentParser) -> None:
    """Add the option ``--version``."""
    parser.add_argument("--version", action="version", version=f"{PACKAGE} {find_version()}")
