"""A checksum inside a parquet file, over all of its bytes, that shows without parsing whether the file is whole.

The seal lies between the pages and the footer. Readers find the footer from the end and the pages by their positions,
so they skip the seal: a sealed file is an ordinary parquet file.
"""

from __future__ import annotations

import zlib

_MARK = b"CRC1"
_LENGTH = len(_MARK) + 4
_TAIL = 8
"""Number of bytes after the footer: its length (4, little-endian) and the magic number of the format."""


def seal(content: bytes, name: str) -> bytes:
    """Return ``content``, a parquet file, with the CRC-32 of ``name`` and of itself in front of its footer."""
    start = _find_footer(content)
    return content[:start] + _MARK + _checksum(content[:start], content[start:], name) + content[start:]


def is_whole(content: bytes, name: str) -> bool:
    """Check that ``content`` is exactly what :func:`seal` returned for this ``name``."""
    end = _find_footer(content)
    start = end - _LENGTH
    if start < 0 or content[start : start + len(_MARK)] != _MARK:
        return False
    return content[start + len(_MARK) : end] == _checksum(content[:start], content[end:], name)


def _find_footer(content: bytes) -> int:
    return len(content) - _TAIL - int.from_bytes(content[-_TAIL:-4], "little")


def _checksum(before: bytes, after: bytes, name: str) -> bytes:
    return zlib.crc32(after, zlib.crc32(before, zlib.crc32(name.encode()))).to_bytes(4, "little")
