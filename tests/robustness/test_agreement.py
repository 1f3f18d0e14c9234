"""When the fast form of a network may stand for the exact one."""

from __future__ import annotations

import pytest

from robustness.measure.agreement import Agreement


@pytest.mark.parametrize(
    ("same", "correct_fast", "close"),
    [(1000, 850, True), (998, 849, True), (997, 850, False), (999, 848, False), (999, 852, False)],
)
def test_two_predictions_or_one_right_answer_of_a_thousand_may_change(same, correct_fast, close):
    agreement = Agreement(model="m", n=1000, same=same, correct_exact=850, correct_fast=correct_fast)
    assert agreement.is_close == close
    assert ("leave --speed fast out" in str(agreement)) != close
