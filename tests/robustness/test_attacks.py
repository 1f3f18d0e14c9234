"""Attacks as they are asked for: tables, defaults, budgets, what is refused."""

from __future__ import annotations

import math

import pytest

from data_prep.errors import InputError
from robustness.attack import read_attacks, replace_eps
from robustness.suite import Suite


def test_attacks_are_read_from_tables_with_the_defaults_of_the_field():
    attacks = read_attacks([{"name": "pgd"}, {"name": "autoattack", "norm": "l2"}], "cifar")
    assert [(a.norm, a.eps) for a in attacks] == [("linf", 8 / 255), ("l2", 0.5)]
    assert attacks[0].alpha == pytest.approx(1 / 255)
    assert read_attacks([{"name": "pgd", "norm": "l2", "eps": 3.0}], "imagenet")[0].eps == 3, "a usual budget there"
    assert read_attacks([{"name": "pgd"}], "imagenet")[0].eps == 4 / 255
    assert [a.eps for a in read_attacks([{"name": "pgd", "eps": ["2/255", 0.5]}], "cifar")] == [2 / 255, 0.5]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"name": "pgd", "eps": 8}, "did you mean 8/255"),
        ({"name": "pgd", "norm": "l2", "eps": 128}, "did you mean 128/255"),
        ({"name": "pgd", "restarts": 2, "random_start": False}, "all 2 restarts are one and the same"),
        (
            {"name": "MIFGSM", "options": {"eps": 0.1}},
            "expected norm = … and eps = … next to the name, got eps in options",
        ),
        ({"name": "APGD", "options": {"norm": "L2"}}, "norm in options"),
        ({"name": "PIFGSM", "options": {"max_epsilon": 0.1}}, "max_epsilon in options"),
        ({"name": "pgd", "eps": math.inf}, "expected a finite ε > 0"),
        ({"name": "pgd", "eps": "x"}, "expected ε as a number"),
        ({"name": "pgd", "eps": 0}, "expected a finite ε > 0"),
        ({"name": "pgd", "eps": math.nan}, "expected a finite ε > 0"),
        ({"name": "pgd", "norm": "l0", "eps": 1}, "expected a norm \\(linf, l2"),
        ({"name": "pgd", "stepz": 3}, "attack pgd: expected keys among .*, got stepz; rename"),
        ({"name": "pgd", "version": "rand"}, "attack pgd: expected keys among .*, got version"),
        ({"name": "autoattack", "steps": 3}, "attack autoattack: expected keys among .*, got steps"),
        ({"name": "MIFGSM", "steps": 50}, "got steps; write arguments .* options = { … }"),
        ({"name": "pgd", "steps": 0}, "expected steps of at least 1"),
        ({"name": "pgd", "steps": "many"}, "expected steps as a whole number"),
        ({"norm": "l2"}, "expected the key `name`"),
        ({"name": "autoattack", "version": "fast"}, "expected a version "),
        ({"name": "autoattack", "version": "custom"}, "parts are given with version"),
        ({"name": "autoattack", "version": "custom", "parts": ["pgd"]}, "expected parts among .*, got pgd"),
    ],
)
def test_attacks_that_make_no_sense_are_refused(table, message):
    with pytest.raises(InputError, match=message):
        read_attacks([table], "cifar")


def test_attacks_without_a_usual_budget_and_of_one_name_are_refused():
    with pytest.raises(InputError, match="expected eps, since l2 has no usual ε on imagenet, got none"):
        read_attacks([{"name": "pgd", "norm": "l2"}], "imagenet")
    options = {"name": "s", "data": "shapes", "models": ("m",), "corruptions": ()}
    for label in ("clean", "gaussian_noise"):
        with pytest.raises(InputError, match=f"neither clean nor a corruption, got {label}; give it another label"):
            Suite(**options, attacks=read_attacks([{"name": "pgd", "label": label}], "cifar"))
    with pytest.raises(InputError, match="got two called pgd L∞ 8/255"):
        Suite(**options, attacks=read_attacks([{"name": "pgd"}, {"name": "pgd", "steps": 100}], "cifar"))
    with pytest.raises(InputError, match="got again L∞ 8/255 and pgd L∞ 8/255, which are the same"):
        Suite(**options, attacks=read_attacks([{"name": "pgd"}, {"name": "pgd", "label": "again"}], "cifar"))


def test_budgets_of_the_command_line_replace_those_of_their_norm():
    suite = read_attacks([{"name": "pgd"}, {"name": "pgd", "norm": "l2"}], "cifar")
    changed = replace_eps(suite, (("", 2 / 255), ("", 4 / 255)))
    assert [(a.norm, a.eps) for a in changed] == [("linf", 2 / 255), ("linf", 4 / 255), ("l2", 0.5)]
    assert [(a.norm, a.eps) for a in replace_eps(suite[1:], (("", 0.3),))] == [("l2", 0.3)]
    with pytest.raises(InputError, match=r"expected norms of the suite's attacks .*, got l2"):
        replace_eps(suite[:1], (("l2", 0.3),))
