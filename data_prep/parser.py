"""The argument parser of every command."""

from __future__ import annotations

import argparse
from typing import Any


class CommandParser(argparse.ArgumentParser):
    """A parser that keeps the lines of its help as they are and takes options by their whole names only.

    An abbreviation would change its meaning with the next option: ``--data`` once stood for ``--data-dir``.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        defaults: dict[str, Any] = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}
        super().__init__(*arguments, **(defaults | options))
