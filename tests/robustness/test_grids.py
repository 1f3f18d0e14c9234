"""Lists and grids as text."""

from __future__ import annotations

import pytest

from data_prep.errors import InputError
from robustness.grids import attach_negatives, format_lam, parse_eps, parse_lambdas, parse_severities


def test_a_range_and_a_list_name_the_same_values():
    assert parse_lambdas("0.1:1.4:14") == parse_lambdas(",".join(f"{k / 10:.1f}" for k in range(1, 15)))
    assert parse_lambdas("0.5,0.1,0.1") == (0.1, 0.5)
    assert [*map(repr, (*parse_lambdas("0"), *parse_lambdas("-0")))] == ["0.0", "0.0"], "one name for one cell"


def test_every_lambda_of_a_grid_is_written_differently_and_as_people_do():
    texts = ["0", "0.1", "0.3", "1", "1.4", "10", "0.1234567", "0.1234568", "1e-10", "1234567.0000000001"]
    lambdas = parse_lambdas(",".join(texts))
    assert sorted(map(format_lam, lambdas), key=float) == sorted({*texts} - {texts[-1]} | {"1234567"}, key=float)
    assert [format_lam(lam) for lam in parse_lambdas("0.1:1.4:14")] == [f"{k / 10:g}" for k in range(1, 15)]


@pytest.mark.parametrize("text", ["-0.1", "nan", "inf", "0.1,-1", "0.1:-1:3"])
def test_lambdas_out_of_range_are_refused(text):
    with pytest.raises(InputError, match="expected a finite λ ≥ 0, got"):
        parse_lambdas(text)


@pytest.mark.parametrize("text", ["a", "0.1:0.2", "0.1:0.2:1", "0.1:0.2:x", "", "1:2:3:4"])
def test_texts_that_are_no_grid_are_refused(text):
    with pytest.raises(InputError, match="λ"):
        parse_lambdas(text)


def test_eps_takes_fractions_and_asks_about_255():
    assert parse_eps("8/255,2/255,0.5") == (("", 2 / 255), ("", 8 / 255), ("", 0.5))
    assert parse_eps("l2:1.5,linf:8/255") == (("l2", 1.5), ("linf", 8 / 255))
    with pytest.raises(InputError, match="norm of ε as linf, l2 or l1"):
        parse_eps("l7:0.5")
    with pytest.raises(InputError, match="did you mean 8/255"):
        parse_eps("8")
    for text in ("0", "-1/255", "nan", "1/0"):
        with pytest.raises(InputError, match="in \\(0, 1\\]"):
            parse_eps(text)


def test_values_that_begin_with_a_minus_stay_with_their_option():
    assert attach_negatives(["--eps", "-1/255", "--n", "3"]) == ["--eps=-1/255", "--n", "3"]
    assert attach_negatives(["--lambdas", "-.1,0.2", "--strict"]) == ["--lambdas=-.1,0.2", "--strict"]
    assert attach_negatives(["--n=3", "-1"]) == ["--n=3", "-1"]


def test_severities():
    assert parse_severities("5,1") == (1, 5)
    for text in ("0", "x", "1.5", ""):
        with pytest.raises(InputError, match="whole numbers"):
            parse_severities(text)
