"""Files that appear whole or not at all."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """``with replacing(path) as temporary``: what is written to ``temporary`` becomes ``path`` at the end.

    An error or a kill leaves ``path`` as it was; the folder is made if it is not there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".writing-", ignore_cleanup_errors=True) as folder:
        temporary = Path(folder) / path.name
        yield temporary
        temporary.replace(path)


def as_file_name(text: str) -> str:
    """``text`` as a file name: everything but letters, digits and ``. _ + = @ : -`` becomes ``_``."""
    return re.sub(r"[^\w.+=@:-]", "_", text)


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
