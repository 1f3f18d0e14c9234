"""Trust marks: each check on made-up outcomes, and the mirages of the protocol on real models."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from attacked import CPU, measure
from torch import nn

from data_prep import load_images
from robustness.analysis.attacks import Attacks
from robustness.analysis.findings import Findings
from robustness.analysis.trust import judge, judge_rise, judge_transfer
from robustness.attack import Attack
from robustness.measure.loaders.loaded import Wanted
from robustness.measure.subjects import Subject, load_subjects
from robustness.report import exit_code
from robustness.suite import Suite
from robustness.verdicts import INVALID, OK, SUSPECT, Verdict, unite

N = 100


def tried(right: int, count: int) -> np.ndarray:
    """A probe of ``count`` of the images that withstood, of which ``right`` withstood the probe."""
    answer = np.full(N, -1)
    answer[50 : 50 + count] = 0
    answer[50 : 50 + right] = 1
    return answer


def outcomes(**changes: object) -> pd.DataFrame:
    """An attack that nothing speaks against: 100 images, 90 attacked, 50 broken."""
    broken = np.arange(N) < 50
    columns = {
        "attacked": np.arange(N) < 90,
        "correct": ~broken & (np.arange(N) < 90),
        "broken_by": np.where(broken, "restart-0", ""),
        "stages": "restart-0",
        "dropped": False,
        "predicted": 0,
        "predicted_again": 0,
        "distance": 0.03,
        "in_range": True,
        "zero_gradient": 0.0,
        "undefined": 0,
        "unstable": 0,
        "distribution": 0,
        "slope": 1.1,
        "losses": tried(20, 20),
        "weakest": -1,
        "square": -1,
        "transfer": tried(20, 20),
        "fresh": tried(40, 40),
        "averaged": -1,
        "larger": np.where(np.arange(N) < 20, 0, -1),
        "planted": np.where(np.arange(N) < 20, 1, -1),
        "inside": tried(0, 20),
        "flat": tried(0, 20),
        "margin": 0.6,
        "jump": 0.01,
    }
    return pd.DataFrame({**columns, **changes})


def mark(**changes: object) -> Verdict:
    return judge(outcomes(**changes), eps=0.03, num_classes=10)


def test_an_ordinary_attack_is_believed():
    assert mark() == Verdict(OK)


NOTHING_LEFT = {"attacked": False, "correct": False}
NO_PROBES = dict.fromkeys(("losses", "transfer", "fresh", "larger", "planted"), -1)
SPOILT = {"planted": np.where(np.arange(N) < 20, np.arange(N) < 18, -1)}
APGD = {"stages": "apgd-ce,apgd-t,square", "losses": -1}


@pytest.mark.parametrize(
    ("changes", "expected", "reason"),
    [
        ({"zero_gradient": 1.0}, INVALID, "100% of the input gradient is exactly zero"),
        ({**NOTHING_LEFT, **NO_PROBES, "zero_gradient": 1.0}, INVALID, "100% of the input gradient"),
        (
            {"undefined": np.where(np.arange(N) < 20, np.arange(N) < 4, -1)},
            INVALID,
            "20% of the images is not a",
        ),
        ({"losses": tried(14, 20)}, SUSPECT, "APGD with other losses: 6 of 20"),
        ({"losses": tried(0, 20)}, INVALID, "APGD with other losses: 20 of 20"),
        ({**APGD, "losses": tried(14, 20)}, SUSPECT, "PGD with the plain margin: 6 of 20"),
        ({"weakest": tried(2, 6)}, SUSPECT, "APGD with other losses breaks 4 more of the 100 images"),
        ({"weakest": tried(0, 12)}, INVALID, "APGD with other losses breaks 12 more of the 100 images"),
        ({"square": tried(18, 20)}, SUSPECT, "Square: 2 of 20"),
        ({"square": tried(5, 20)}, INVALID, "Square: 15 of 20"),
        ({"transfer": tried(18, 20)}, SUSPECT, "images of other networks: 2 of 20"),
        ({"transfer": tried(8, 20)}, INVALID, "images of other networks: 12 of 20"),
        ({"fresh": tried(38, 40)}, SUSPECT, "a fresh instance of the model: 2 of 40"),
        ({"fresh": tried(0, 40)}, INVALID, "a fresh instance of the model: 40 of 40"),
        ({"larger": np.where(np.arange(N) < 20, np.arange(N) < 6, -1)}, SUSPECT, "6 of 20 images withstand PGD at"),
        ({"larger": np.where(np.arange(N) < 20, 1, -1)}, INVALID, "20 of 20 images withstand PGD at eight times"),
        (SPOILT, SUSPECT, "finds 18 of 20 planted adversarial examples (power 70% to 97%)"),
        ({"planted": np.where(np.arange(N) < 20, 0, -1)}, INVALID, "finds 0 of 20 planted"),
        ({"slope": 0.26}, SUSPECT, "finite differences are 0.26 of what the gradient says"),
        ({"slope": -0.1}, INVALID, "finite differences are -0.1 of"),
        ({"slope": 30.0}, INVALID, "finite differences are 30 of"),
        ({"inside": tried(10, 20)}, SUSPECT, "50% of the survivors lie within half of the budget"),
        ({"flat": tried(20, 20)}, INVALID, "100% of the survivors have no gradient left"),
        (
            {"jump": np.where(np.arange(N) < 20, 0.2, 0.01)},
            SUSPECT,
            "the logits jump on the way to 20% of the survivors",
        ),
        ({"jump": 0.2}, INVALID, "the logits jump on the way to 100% of the survivors"),
        ({"margin": 0.97}, SUSPECT, "survivors keep 97% of their clean margin"),
        *(({name: -1}, SUSPECT, "not checked: ") for name in NO_PROBES),
        ({"unstable": np.arange(N) < 5}, SUSPECT, "5.0% of the images give other logits"),
        (
            {"unstable": 1, "averaged": tried(5, 10)},
            INVALID,
            "100.0% of the images give other logits the second time (averaged over its randomness, APGD leaves about 2",
        ),
        ({"dropped": (np.arange(N) >= 50) & (np.arange(N) < 55)}, SUSPECT, "attempts on 5.0% of the images left the"),
        ({"dropped": np.arange(N) < 70}, INVALID, "attempts on 20.0% of the images left the budget"),
        ({"distribution": 1}, SUSPECT, "the model returns probabilities"),
        (
            {"broken_by": np.where(np.arange(N) < 55, "restart-0", "")},
            SUSPECT,
            "5.0% of the images that the attack turned",
        ),
        ({"distance": np.where(np.arange(N) == 3, 0.031, 0.03)}, INVALID, "1 of 100 images are farther than ε"),
        ({"in_range": np.arange(N) != 3}, INVALID, "1 of 100 images leave"),
        ({"predicted_again": np.where(np.arange(N) < 2, 1, 0)}, SUSPECT, "2.0% of the answers change"),
        (
            {**APGD, "broken_by": np.where(np.arange(N) < 5, "square", np.where(np.arange(N) < 50, "apgd-ce", ""))},
            SUSPECT,
            "Square breaks 5.0% that the",
        ),
        (
            {**APGD, "broken_by": np.where(np.arange(N) < 50, "square", "")},
            INVALID,
            "Square breaks 50.0% that the",
        ),
    ],
)
def test_every_check_raises_its_mark(changes, expected, reason):
    verdict = mark(**changes)
    assert verdict.mark == expected
    assert reason in verdict.reason
    assert len(verdict.reasons) == 1


@pytest.mark.parametrize(("withstand", "expected"), [(0, OK), (1, OK), (6, SUSPECT), (11, INVALID)])
def test_two_classes_excuse_nobody_who_withstands_a_much_larger_budget(withstand, expected):
    """Half of the answers are right by chance, and none under an attack that may turn every image into any other."""
    frame = outcomes(larger=np.where(np.arange(N) < 20, np.arange(N) < withstand, -1))
    assert judge(frame, eps=0.03, num_classes=2).mark == expected


@pytest.mark.parametrize(
    "changes",
    [
        {"zero_gradient": 0.9},
        {"dropped": np.arange(N) < 50},
        {"square": tried(19, 20)},
        {"losses": tried(19, 20)},
        {"weakest": tried(1, 4)},
        {"transfer": tried(19, 20)},
        {"larger": np.where(np.arange(N) < 20, np.arange(N) < 1, -1)},
        {"planted": np.where(np.arange(N) < 20, np.arange(N) < 19, -1)},
        {"slope": np.where(np.arange(N) < 30, 5.0, 1.0)},
        {"slope": np.nan},
        {"margin": np.nan},
        {"jump": np.nan},
        {"jump": np.where(np.arange(N) < 1, 0.9, np.where(np.arange(N) < 5, 0.0, np.nan))},
        {"distance": 0.03 + 5e-7},
        {"predicted_again": np.where(np.arange(N) < 1, 1, 0)},
        {**NOTHING_LEFT, **NO_PROBES},
        {"stages": "apgd-ce,apgd-t,fab-t,square", "losses": -1, "square": -1},
        {"stages": "square,apgd-ce,apgd-dlr", "losses": -1, "broken_by": np.where(np.arange(N) < 50, "square", "")},
        {"unstable": np.arange(N) < 1},
    ],
)
def test_what_chance_and_rounding_do_raises_none(changes):
    assert mark(**changes) == Verdict(OK)


def test_zeros_in_the_gradient_are_told_where_the_attack_lacks_power():
    """A median filter has no gradient for most values, and its attacks succeed: that alone accuses nobody."""
    assert mark(zero_gradient=0.3, **SPOILT).mark == SUSPECT
    verdict = mark(zero_gradient=0.9, **SPOILT)
    assert verdict.mark == INVALID
    assert "90% of the input gradient" in verdict.reason


def test_a_probe_counts_only_for_what_it_was_tried_on():
    """No image that stands in the worst case was probed: that is never green."""
    standing = np.arange(N) >= 70
    verdict = judge(outcomes(), eps=0.03, num_classes=10, standing=standing)
    assert verdict.mark == SUSPECT
    assert all(reason.startswith("not checked: ") for reason in verdict.reasons)
    assert len(verdict.reasons) == 2
    standing[69] = True
    assert judge(outcomes(), eps=0.03, num_classes=10, standing=standing) == Verdict(OK)


def test_a_run_of_an_older_version_lacks_checks_and_is_not_believed():
    verdict = judge(outcomes().drop(columns=[*NO_PROBES, "slope", "margin"]), eps=0.03, num_classes=10)
    assert verdict.mark == SUSPECT
    assert len(verdict.reasons) == 5


def test_transfers_that_beat_the_whitebox_attack_are_told():
    own = np.arange(N) < 40
    assert judge_transfer(own, {"λ = 0.1": np.arange(N) < 39}).mark == OK
    verdict = judge_transfer(own, {"λ = 0.1": np.arange(N) < 30, "λ = 0.2": np.arange(N) < 50})
    assert verdict == Verdict(SUSPECT, ("images crafted at λ = 0.1 leave 30.0%, these 40.0%",))
    assert judge_transfer(own, {"λ = 0.1": np.arange(N) < 10}).mark == INVALID


def test_what_a_run_cannot_be_compared_with_says_nothing():
    """The probes ask in its stead: images of other networks, and a larger budget."""
    assert judge_transfer(np.arange(N) < 40, {}) == judge_rise(0.4, {}) == Verdict(OK)


def test_an_accuracy_that_rises_with_the_budget_is_told():
    assert judge_rise(0.4, {"2/255": 0.5}).mark == OK
    assert judge_rise(0.4, {"2/255": 0.35, "4/255": 0.6}).mark == SUSPECT
    assert judge_rise(0.4, {"2/255": 0.1}) == Verdict(INVALID, ("40.0% is more than the 10.0% at ε = 2/255",))


def test_the_worst_mark_stays_and_no_reason_is_told_twice():
    verdicts = [Verdict(OK), Verdict(INVALID, ("a",)), Verdict(SUSPECT, ("b", "a"))]
    assert unite(verdicts) == Verdict(INVALID, ("a", "b"))
    assert unite([]) == Verdict(OK)


def attack_model(subject: Subject, folder: Path, lambdas: tuple[float, ...] = (), n: int = 12) -> Findings:
    """PGD-10 at ε = 2/255 on a few shapes, measured and judged."""
    suite = Suite(
        name="s",
        data="shapes",
        models=("m",),
        corruptions=(),
        lambdas=lambdas,
        attacks=(Attack(name="pgd", norm="linf", eps=2 / 255, steps=10),),
        probe_images=4,
    )
    measurement, run = measure(suite, [subject], load_images("shapes", split="test").subset(n), folder)
    assert not measurement.failures
    return Findings.of(run)


def rows_of(findings: Findings, threat: str = "whitebox") -> pd.DataFrame:
    assert isinstance(findings.attacks, Attacks)
    return findings.attacks.rows.query("threat == @threat")


def test_a_plain_trained_resnet_raises_no_mark(tmp_path):
    (subject,) = load_subjects(("resnet18-shapes",), Wanted(num_classes=10), device=CPU)
    findings = attack_model(subject, tmp_path)
    assert list(rows_of(findings)["trust"]) == [OK]
    assert exit_code(findings, strict=True) == 0
    assert findings.attacks is not None
    for name in ("worst", "transfers"):
        doubted = getattr(findings.attacks, name).assign(trust=SUSPECT)
        attacks = dataclasses.replace(findings.attacks, **{name: doubted})
        assert exit_code(dataclasses.replace(findings, attacks=attacks), strict=True) == 1, "every mark counts"


class Quantised(nn.Module):
    """Rounds its input to eight levels, whose derivative is zero, before a network's own normalisation."""

    def __init__(self, normalise: nn.Module) -> None:
        super().__init__()
        self.normalise = normalise

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.normalise((images * 7).round() / 7)


def test_a_model_that_quantises_its_input_is_found_out(tmp_path):
    (subject,) = load_subjects(("resnet18-shapes",), Wanted(num_classes=10), device=CPU)
    subject.network.normalise = Quantised(subject.network.normalise)
    findings = attack_model(subject, tmp_path)
    (row,) = rows_of(findings).to_dict("records")
    assert row["accuracy"] > 0.5, "PGD finds nothing without gradients: that is the mirage"
    assert row["trust"] == INVALID
    assert "100% of the input gradient is exactly zero" in row["trust_reason"]
    assert "withstand PGD at eight times" in row["trust_reason"]
    assert exit_code(findings, strict=False) == 0
    assert exit_code(findings, strict=True) == 1


def test_a_lambda_that_silences_every_code_is_invalid(tmp_path):
    """The mirage of the protocol: at λ = 1e6 every code is zero, PGD fails, and the number is worth nothing.

    The network answers one class for everything: whether that is right of any image makes no difference.
    """
    (subject,) = load_subjects(("sdnet18-shapes",), Wanted(num_classes=10), device=CPU)
    findings = attack_model(subject, tmp_path, lambdas=(0.1, 1e6))
    assert isinstance(findings.attacks, Attacks)
    whitebox = rows_of(findings)
    assert INVALID not in whitebox.loc[whitebox["lam"] == 0.1, "trust"].tolist()
    for rows in (whitebox, rows_of(findings, "adaptive"), findings.attacks.worst):
        (silent,) = rows[rows["lam"] == 1e6].to_dict("records")
        assert silent["trust"] == INVALID
        assert "100% of the input gradient is exactly zero" in silent["trust_reason"]
