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
        ({"name": "pgd", "eps": 8}, "was 8/255 meant"),
        ({"name": "pgd", "norm": "l2", "eps": 128}, "was 128/255 meant"),
        ({"name": "pgd", "restarts": 2, "random_start": False}, "all 2 restarts are one and the same"),
        ({"name": "MIFGSM", "options": {"eps": 0.1}}, "eps in options: norm = … and eps = … are written beside"),
        ({"name": "APGD", "options": {"norm": "L2"}}, "norm in options"),
        ({"name": "PIFGSM", "options": {"max_epsilon": 0.1}}, "max_epsilon in options"),
        ({"name": "pgd", "eps": math.inf}, "finite number > 0"),
        ({"name": "pgd", "eps": "x"}, "ε must be a number"),
        ({"name": "pgd", "eps": 0}, "finite number > 0"),
        ({"name": "pgd", "eps": math.nan}, "finite number > 0"),
        ({"name": "pgd", "norm": "l0", "eps": 1}, "norm must be one of linf, l2"),
        ({"name": "pgd", "stepz": 3}, "unknown key stepz"),
        ({"name": "pgd", "version": "rand"}, "attack pgd: unknown key version"),
        ({"name": "autoattack", "steps": 3}, "attack autoattack: unknown key steps"),
        ({"name": "MIFGSM", "steps": 50}, "unknown key steps.* options = { … }"),
        ({"name": "pgd", "steps": 0}, "steps must be at least 1"),
        ({"name": "pgd", "steps": "many"}, "steps must be a whole number"),
        ({"norm": "l2"}, "`name` is missing"),
        ({"name": "autoattack", "version": "fast"}, "version must be one of"),
        ({"name": "autoattack", "version": "custom"}, "parts are given with version"),
        ({"name": "autoattack", "version": "custom", "parts": ["pgd"]}, "unknown part pgd"),
    ],
)
def test_attacks_that_make_no_sense_are_refused(table, message):
    with pytest.raises(InputError, match=message):
        read_attacks([table], "cifar")


def test_attacks_without_a_usual_budget_and_of_one_name_are_refused():
    with pytest.raises(InputError, match="no usual ε for l2 on imagenet"):
        read_attacks([{"name": "pgd", "norm": "l2"}], "imagenet")
    options = {"name": "s", "data": "shapes", "models": ("m",), "corruptions": ()}
    for label in ("clean", "gaussian_noise"):
        with pytest.raises(InputError, match=f"an attack is called {label}, as other images are"):
            Suite(**options, attacks=read_attacks([{"name": "pgd", "label": label}], "cifar"))
    with pytest.raises(InputError, match="two attacks are called pgd L∞ 8/255"):
        Suite(**options, attacks=read_attacks([{"name": "pgd"}, {"name": "pgd", "steps": 100}], "cifar"))
    with pytest.raises(InputError, match="again L∞ 8/255 and pgd L∞ 8/255 are the same attack"):
        Suite(**options, attacks=read_attacks([{"name": "pgd"}, {"name": "pgd", "label": "again"}], "cifar"))


def test_budgets_of_the_command_line_replace_those_of_their_norm():
    suite = read_attacks([{"name": "pgd"}, {"name": "pgd", "norm": "l2"}], "cifar")
    changed = replace_eps(suite, (("", 2 / 255), ("", 4 / 255)))
    assert [(a.norm, a.eps) for a in changed] == [("linf", 2 / 255), ("linf", 4 / 255), ("l2", 0.5)]
    assert [(a.norm, a.eps) for a in replace_eps(suite[1:], (("", 0.3),))] == [("l2", 0.3)]
    with pytest.raises(InputError, match="no attack in l2"):
        replace_eps(suite[:1], (("l2", 0.3),))
