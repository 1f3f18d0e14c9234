"""Input that nobody should write, drawn by Hypothesis, and the result that is expected.

Every property takes a bounded number of examples, the same ones every time; ``--slow`` takes a hundred times as many.
"""

from __future__ import annotations

import contextlib
import io
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

from data_prep.errors import UsageError, run_command
from data_prep.sources import load_images


class Call:
    """Calls a function when it is unpickled."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


def make_png(side: int, *, bits: int = 8, colour: int = 2, rows: bytes = b"") -> bytes:
    """A PNG of side × side, written by hand. colour: 2 RGB, 4 LA, 6 RGBA."""
    header = struct.pack(">IIBBBBB", side, side, bits, colour, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    parts = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


_FUZZ = settings.get_profile("fuzz")
load_once = cache(load_images)


def examples(share: float) -> settings:
    """A share of the examples of the profile, for properties that take longer."""
    return settings(_FUZZ, max_examples=max(1, round(_FUZZ.max_examples * share)))


@contextlib.contextmanager
def told_in_a_sentence() -> Iterator[None]:
    """The block works, or fails with a message for people."""
    try:
        yield
    except UsageError as error:
        told = str(error).replace("\nor try what needs no data", "")
    else:
        return
    assert 0 < len(told) < 3000
    assert "\n" not in told


def check_command(main: Callable[[list[str]], int], words: list[str]) -> int:
    """A command ends with a code that is documented, and with a sentence where that is 2."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as said:
        try:
            code = run_command(lambda: main(words))
        except SystemExit as stop:
            code = int(stop.code or 0)
    assert code in (0, 1, 2)
    assert "Traceback" not in said.getvalue()
    assert code != 2 or "error: " in said.getvalue()
    return code


words = (
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)
    | st.from_regex(r"[-+0-9.:,e/ a-z²٣]{0,16}", fullmatch=True)
    | st.sampled_from(
        ["a" * 5000, ":", "..", ".a:b", "os:getcwd", "json:loads", "meta", "/", ",", "-1", "1e9", "\udcff"]
    )
    | st.sampled_from(
        ["nan", "inf", "0.5", str(10**20), "://", "s3://", "x://y", "127.0.0.1:1", "auto:1", "ray", "fast"]
    )
)
"""Texts that could follow an option."""


anything = leaf = (
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.sampled_from([10**400, -1, 0, 1, 2**63])
    | st.floats()
    | st.text(max_size=8)
)
for _ in range(2):  # st.recursive draws differently for the same choices where it reaches its limit of leaves
    anything = leaf | st.lists(anything, max_size=3) | st.dictionaries(st.text(max_size=5), anything, max_size=3)
"""Values that JSON and TOML can hold."""


@st.composite
def damage(draw: st.DrawFn, whole: bytes) -> bytes:
    """``whole`` cut, with bytes changed, or with a piece repeated."""
    content = bytearray(whole)
    for _ in range(draw(st.integers(0, 3))):
        content[draw(st.integers(0, len(content) - 1))] = draw(st.integers(0, 255))
    match draw(st.integers(0, 3)):
        case 0:
            return bytes(content[: draw(st.integers(0, len(content)))])
        case 1:
            start = draw(st.integers(0, len(content) - 1))
            return bytes(content[:start] + content[max(0, start - 64) :])
    return bytes(content)


def change_somewhere(draw: Callable[[Any], Any], value: Any) -> Any:
    """``value`` with one node, however deep, replaced by anything or taken out."""
    if isinstance(value, dict | list) and value and draw(st.integers(0, 9)):
        key = draw(st.sampled_from(list(value) if isinstance(value, dict) else list(range(len(value)))))
        if draw(st.integers(0, 9)) == 0:
            del value[key]
        else:
            value[key] = change_somewhere(draw, value[key])
        return value
    return draw(anything)
