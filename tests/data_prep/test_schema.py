"""Values from files as typed objects, and what is said of those that do not fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypedDict

import msgspec
import pytest

from data_prep.errors import InputError
from data_prep.schema import read
from robustness.policies import ResidualLaw
from robustness.record import check_record

PUBLISHED = sorted((Path(__file__).parents[2] / "results" / "published").glob("*/run.json"))


class Part(TypedDict):
    """A part of a whole."""

    n: int


class Whole(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something in a file."""

    name: str
    parts: list[Part] = []
    share: float = 0.5
    sizes: dict[str, int] = {}

    def __post_init__(self) -> None:
        if self.share > 1:
            raise InputError(f"expected share of at most 1, got {self.share}")


def test_values_become_typed():
    whole = read({"name": "a", "parts": [{"n": 1, "more": "text"}], "share": 1}, Whole, "f")
    assert whole == Whole(name="a", parts=[{"n": 1}], share=1.0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "f: expected the key `name`, got none"),
        ({"name": "a", "nam": 1}, "f: expected keys among name, parts, share, sizes, got nam"),
        ({"name": 1}, "f: expected name as text, got 1"),
        ({"name": "a", "parts": [{"n": 1}, {"n": True}]}, r"f: expected parts\[1\]\.n as a whole number, got True"),
        ({"name": "a", "parts": [{}]}, r"f: expected the key `parts\[0\]\.n`, got none"),
        ({"name": "a", "parts": {}}, "f: expected parts as a list, got {}"),
        ({"name": "a", "sizes": {"x": "y"}}, r"f: expected sizes\[\.\.\.\] as a whole number, got {'x': 'y'}"),
        ({"name": "a", "share": float("nan")}, "f: expected share finite and below 2\\^63, got nan"),
        ({"name": "a", "sizes": {"x": 2**63}}, "f: expected sizes.x finite and below 2\\^63, got 9223372036854775808"),
        ({"name": "a", "share": 2}, r"^expected share of at most 1, got 2\.0$"),
        ([], r"f: expected a table, got \[\]"),
    ],
)
def test_what_does_not_fit_is_named(values, message):
    with pytest.raises(InputError, match=message):
        read(values, Whole, "f")


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.parent.name)
def test_published_records_can_still_be_read(path):
    check_record(json.loads(path.read_text(encoding="utf-8")), str(path))


def test_options_of_a_record_that_are_damaged():
    record = json.loads(PUBLISHED[0].read_text(encoding="utf-8"))
    check_record({**record, "options": {"type": "run", "n": 5}}, "run.json")
    with pytest.raises(
        InputError, match="the options of the run: expected n as a whole number or empty, got 'many'; run"
    ):
        check_record({**record, "options": {"type": "run", "n": "many"}}, "run.json")
    with pytest.raises(
        InputError, match="the options of the run: expected known keys, got colour; run the same command"
    ):
        check_record({**record, "options": {"type": "run", "colour": 1}}, "run.json")


def test_unknown_keys_of_a_dataclass_are_named_with_the_choices():
    fields = {"slope": 1.0, "intercept": 0.0, "lowest": 0.1, "highest": 0.5}
    assert read(fields, ResidualLaw, "its law") == ResidualLaw(**fields)
    with pytest.raises(InputError, match="its law: expected keys among slope, intercept, lowest, highest, got colour"):
        read({**fields, "colour": 1}, ResidualLaw, "its law")
