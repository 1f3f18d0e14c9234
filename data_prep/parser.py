"""Argument parser of every command."""

from __future__ import annotations

import argparse
from typing import Any


class CommandParser(argparse.ArgumentParser):
    """A parser that keeps the line breaks of its help and accepts only complete option names.

    An abbreviation would change its meaning with the next new option: ``--data`` once stood for ``--data-dir``.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        defaults: dict[str, Any] = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}
        super().__init__(*arguments, **(defaults | options))
