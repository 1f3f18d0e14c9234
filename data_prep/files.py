"""Files that are written whole or not at all."""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LONGEST_NAME = 100
"""Length in bytes; file systems allow 255, and names get a prefix and a suffix."""
_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
"""Names that Windows reserves for devices, whatever their suffix."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Replace ``path`` by the file that the ``with`` block writes to the temporary path it is given.

    An error or a kill leaves ``path`` unchanged. A missing folder is created.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".writing-", ignore_cleanup_errors=True) as folder:
        temporary = Path(folder) / path.name
        yield temporary
        temporary.replace(path)


def as_file_name(text: str) -> str:
    """Turn ``text`` into a file name that is valid on every system; different texts get different names.

    Everything but letters, digits and ``. _ + = @ -`` becomes ``_``. Eight digits of the text's SHA-256 are appended if
    it was changed, is longer than 100 bytes, or names a device or is altered on Windows (``nul``, ``a.``).
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
