"""Robust accuracy at every ε from one search."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from attempts import EPS, STRONG, N, crafted, fabricate_attacks
from fabricate import PLAIN

from data_prep.errors import InputError
from robustness.analysis.attacks import Attacks
from robustness.analysis.curves import tabulate_curves, write_curves
from robustness.attack import read_attacks
from robustness.suite import Suite

_DISTANCES = np.linspace(0.001, EPS, N)


def searched(tmp_path, search: pd.DataFrame):
    run = fabricate_attacks(
        tmp_path,
        (PLAIN, "smallest", None, None, search),
        (PLAIN, "pgd", None, None, crafted(STRONG)),
    )
    attacks = Attacks.of(run)
    assert attacks is not None
    return run, attacks


def test_robust_accuracy_at_an_epsilon_is_the_share_of_images_whose_smallest_perturbation_is_larger(tmp_path):
    search = crafted(STRONG, stages="minimum", distance=_DISTANCES, attacked=np.arange(N) >= 10)
    search["broken_by"] = np.where(STRONG, "", "minimum")
    run, attacks = searched(tmp_path, search)
    curves = tabulate_curves(run, attacks).set_index("eps")
    smallest = np.where(STRONG, np.inf, _DISTANCES)
    smallest[:10] = 0.0
    for eps, row in curves.iterrows():
        assert row["robust"] == (smallest > eps).mean()
        assert row["ci_low"] <= row["robust"] <= row["ci_high"]
    assert curves["robust"].is_monotonic_decreasing
    assert curves["robust"].iloc[0] == 0.9, "what is wrong without an attack is not robust"
    assert curves["fixed"].dropna().to_dict() == {EPS: 0.1}, "the attack at a fixed ε is a check"
    write_curves(run, attacks, pdf=False)
    assert (run.directory.path / "figures" / "robust_curve.png").is_file()
    assert len(pd.read_csv(run.directory.path / "tables" / "robust_curve.csv")) == len(curves)


def test_runs_without_a_search_have_no_curve(tmp_path):
    run, attacks = searched(tmp_path, crafted(STRONG))
    write_curves(run, attacks, pdf=False)
    assert not list((run.directory.path).rglob("robust_curve*"))


def test_images_that_just_fool_one_network_are_shown_to_no_other():
    options = {"name": "s", "data": "shapes", "models": ("m",), "corruptions": ()}
    attacks = read_attacks([{"name": "minimum"}], "cifar")
    assert Suite(**options, attacks=attacks, threats=("whitebox",)).attacks == attacks
    with pytest.raises(InputError, match=r'attack minimum: images that just fool.*threats = \["whitebox"\]'):
        Suite(**options, attacks=attacks)
