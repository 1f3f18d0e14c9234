"""A clear message when another package of the same name comes before ours on the path."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]


def check_neighbours(*names: str) -> None:
    """Check that the packages called ``names`` are in the same folder as this one.

    Raises:
        ImportError: another package comes first on the path. A command (``python -m``) ends with the sentence and exit
            code 2.
    """
    for name in names:
        spec = find_spec(name)
        found = Path(spec.origin).resolve().parents[1] if spec is not None and spec.origin else None
        if found == _ROOT:
            continue
        place = "nothing of it" if spec is None else found or "a folder without __init__.py"
        sentence = (
            f"expected the package {name} of sdnet-robustness in {_ROOT}, got {place}, as another package of that name "
            "comes first on the path; remove it, start from another folder, or use an environment of its own"
        )
        if sys.argv[:1] == ["-m"]:
            print(f"error: {sentence}", file=sys.stderr)
            sys.exit(2)
        raise ImportError(sentence)


def start() -> int:
    """Run the console script ``sdnet``: the commands of the neighbouring package robustness."""
    try:
        check_neighbours("data_prep", "robustness")
    except ImportError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    from data_prep.errors import run_command
    from robustness.__main__ import main

    return run_command(main)
