"""``WhichLam``: one type for numbers, policies and models without λ."""

from __future__ import annotations

import math

import pytest

from robustness.grids import check_lambdas
from robustness.policies import ResidualLaw
from robustness.which_lam import WhichLam

LAW = ResidualLaw(0.01, 0.05, 0.1, 0.4)


@pytest.mark.parametrize(
    ("given", "row", "title", "entry", "identity"),
    [
        (None, {"lam": None, "policy": ""}, "", "", None),
        (0.1, {"lam": 0.1, "policy": ""}, "λ = 0.1", 0.1, 0.1),
        (2, {"lam": 2.0, "policy": ""}, "λ = 2", 2.0, 2.0),
        (
            LAW,
            {"lam": None, "policy": "residual"},
            "the residual λ",
            "residual",
            {"policy": "residual", "slope": 0.01, "intercept": 0.05, "lowest": 0.1, "highest": 0.4},
        ),
    ],
)
def test_a_choice_is_the_same_in_a_call_a_row_and_a_key(given, row, title, entry, identity):
    which = WhichLam.of(given)
    assert which.to_row() == row
    read = WhichLam.from_row({f"crafted_{name}": value for name, value in row.items()}, "crafted_")
    assert (read.value, read.policy) == (which.value, which.policy)
    assert (which.title, which.entry, which.identity()) == (title, entry, identity)
    assert WhichLam.of(which) is which


def test_a_missing_lam_of_a_table_is_none():
    assert WhichLam.from_row({"lam": math.nan, "policy": math.nan}) == WhichLam()


def test_a_lam_of_one_third_is_that_of_the_grid():
    (third,) = check_lambdas([1 / 3])
    assert WhichLam.of(1 / 3) == WhichLam.of(third)
    assert WhichLam.of(1 / 3).value == 0.3333333333
