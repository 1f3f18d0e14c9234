"""Files that appear whole or not at all."""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LONGEST_NAME = 100
"""Bytes; a file system takes 255, and a name gets words before and behind it."""
_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
"""Names that Windows keeps for devices, whatever suffix they have."""


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
    """``text`` as a name that every system can have for a file; no two texts have the same.

    Everything but letters, digits and ``. _ + = @ -`` becomes ``_``. What was changed, is longer than 100 bytes, or is
    a device or unlike itself on Windows (``nul``, ``a.``) has eight digits of its SHA-256 behind it.
    """
    name = re.sub(r"[^\w.+=@-]", "_", text)
    short = name.encode()[:_LONGEST_NAME].decode(errors="ignore")
    is_usable = short == text and text and not text.endswith(".") and not _DEVICE.fullmatch(text)
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:8]
    return text if is_usable else f"{short.rstrip('.')}-{digest}"


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
