"""A fast part of the zoo in every run, the whole with ``--slow``."""

from __future__ import annotations

import pytest

from redteam.bounds import read_bounds
from redteam.table import ATTACKS, measure
from redteam.zoo import BROKEN, HONEST, ZOO
from robustness.verdicts import INVALID, OK

FAST_BROKEN = ("Rounded", "Detached", "Misled", "Sine", "Remembered", "InputNoise", "OffGrid", "FaintVotes")
FAST_HONEST = ("small", "robust", "Filtered")


def test_the_zoo_is_large_and_every_member_has_a_bound():
    assert len(BROKEN) >= 30
    assert len(HONEST) >= 6
    assert set(read_bounds()) == set(ZOO)


def test_of_a_part_of_the_zoo_no_broken_defence_is_believed_and_no_honest_model_accused():
    lines = list(measure((*FAST_BROKEN, *FAST_HONEST), ATTACKS["pgd"], n=20, probe_images=4))
    assert not [str(line) for line in lines if line.is_wrong]
    assert not [str(line) for line in lines if line.kind != "honest" and line.mark == OK]
    assert not [str(line) for line in lines if line.kind == "honest" and line.mark == INVALID]


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("suite", list(ATTACKS))
def test_of_all_the_zoo_no_broken_defence_is_believed_and_no_honest_model_accused(suite):
    assert not [str(line) for line in measure(list(ZOO), ATTACKS[suite]) if line.is_wrong]
