"""Trust marks: each check on made-up outcomes, and the mirages of the protocol on real models."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from data_prep import load_images
from robustness.analysis.attacks import Attacks
from robustness.analysis.findings import Findings
from robustness.analysis.frames import Run
from robustness.analysis.trust import INVALID, OK, SUSPECT, Verdict, judge, judge_rise, judge_transfer, unite
from robustness.attack import Attack
from robustness.measure.measure import Measurement
from robustness.measure.subjects import Subject, load_subjects
from robustness.report import exit_code
from robustness.run_directory import RunDirectory
from robustness.suite import Suite

CPU = torch.device("cpu")
N = 100


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
        "unstable": False,
        "distribution": False,
        "unbounded": np.where(np.arange(N) < 20, 0, -1),
        "long": np.where((np.arange(N) >= 50) & (np.arange(N) < 70), 1, -1),
        "square": np.where((np.arange(N) >= 50) & (np.arange(N) < 70), 1, -1),
    }
    return pd.DataFrame({**columns, **changes})


def mark(**changes: object) -> Verdict:
    return judge(outcomes(**changes), eps=0.03, num_classes=10)


def tried(right: int, count: int) -> np.ndarray:
    """A probe of ``count`` of the images that withstood, of which ``right`` withstood the probe."""
    answer = np.full(N, -1)
    answer[50 : 50 + count] = 0
    answer[50 : 50 + right] = 1
    return answer


def test_an_ordinary_attack_is_believed():
    assert mark() == Verdict(OK)


@pytest.mark.parametrize(
    ("changes", "expected", "reason"),
    [
        ({"zero_gradient": 0.2}, SUSPECT, "20% of the input gradient is exactly zero"),
        ({"zero_gradient": 1.0}, INVALID, "100% of the input gradient"),
        (
            {"attacked": False, "correct": False, "unbounded": -1, "long": -1, "square": -1, "zero_gradient": 1.0},
            INVALID,
            "100% of the input gradient",
        ),
        ({"square": tried(18, 20)}, SUSPECT, "Square breaks 2 of 20"),
        ({"square": tried(5, 20)}, INVALID, "Square breaks 15 of 20"),
        ({"long": tried(14, 20)}, SUSPECT, "PGD-100 breaks 6 of 20"),
        ({"long": tried(0, 20)}, INVALID, "PGD-100 breaks 20 of 20"),
        (
            {"unbounded": np.where(np.arange(N) < 20, np.arange(N) < 6, -1)},
            SUSPECT,
            "6 of 20 images withstand PGD without",
        ),
        ({"unbounded": np.where(np.arange(N) < 20, 1, -1)}, INVALID, "20 of 20 images withstand PGD without"),
        ({"square": np.full(N, -1)}, SUSPECT, "not checked by Square"),
        ({"long": np.full(N, -1)}, SUSPECT, "not checked by PGD-100"),
        ({"unbounded": np.full(N, -1)}, SUSPECT, "not checked by PGD at ε = 1"),
        ({"unstable": np.arange(N) < 5}, SUSPECT, "5.0% of the images give other logits"),
        ({"dropped": (np.arange(N) >= 50) & (np.arange(N) < 55)}, SUSPECT, "attempts on 5.0% of the images left the"),
        ({"dropped": np.arange(N) < 70}, INVALID, "attempts on 20.0% of the images left the budget"),
        ({"distribution": True}, SUSPECT, "the model returns probabilities"),
        (
            {"broken_by": np.where(np.arange(N) < 55, "restart-0", "")},
            SUSPECT,
            "5.0% of the images that the attack turned",
        ),
        ({"distance": np.where(np.arange(N) == 3, 0.031, 0.03)}, INVALID, "1 of 100 images are farther than ε"),
        ({"in_range": np.arange(N) != 3}, INVALID, "1 of 100 images leave"),
        ({"predicted_again": np.where(np.arange(N) < 2, 1, 0)}, SUSPECT, "2.0% of the answers change"),
        (
            {
                "stages": "apgd-ce,square",
                "broken_by": np.where(np.arange(N) < 5, "square", np.where(np.arange(N) < 50, "apgd-ce", "")),
            },
            SUSPECT,
            "Square breaks 5.0% that the",
        ),
        (
            {"stages": "apgd-ce,square", "broken_by": np.where(np.arange(N) < 50, "square", "")},
            INVALID,
            "Square breaks 50.0% that the",
        ),
        ({"stages": "apgd-ce,square", "square": tried(10, 20)}, INVALID, "Square breaks 10 of 20"),
    ],
)
def test_every_check_raises_its_mark(changes, expected, reason):
    verdict = mark(**changes)
    assert verdict.mark == expected
    assert reason in verdict.reason
    assert len(verdict.reasons) == 1


@pytest.mark.parametrize(("withstand", "expected"), [(0, OK), (1, OK), (6, SUSPECT), (11, INVALID)])
def test_two_classes_excuse_nobody_who_withstands_an_attack_without_a_bound(withstand, expected):
    """Half of the answers are right by chance, and none under an attack that may turn every image into any other."""
    frame = outcomes(unbounded=np.where(np.arange(N) < 20, np.arange(N) < withstand, -1))
    assert judge(frame, eps=0.03, num_classes=2).mark == expected


@pytest.mark.parametrize(
    "changes",
    [
        {"zero_gradient": 0.05},
        {"dropped": np.arange(N) < 50},
        {"square": tried(19, 20)},
        {"long": tried(19, 20)},
        {"unbounded": np.where(np.arange(N) < 20, np.arange(N) < 1, -1)},
        {"distance": 0.03 + 5e-7},
        {"predicted_again": np.where(np.arange(N) < 1, 1, 0)},
        {"attacked": False, "correct": False, "unbounded": -1, "long": -1, "square": -1},
        {"stages": "apgd-ce,apgd-t,fab-t,square", "long": np.full(N, -1), "square": np.full(N, -1)},
        {"stages": "square", "long": np.where(np.arange(N) < 60, 1, -1), "square": np.full(N, -1)},
        {"stages": "square,apgd-ce", "broken_by": np.where(np.arange(N) < 50, "square", "")},
        {"unstable": np.arange(N) < 1},
    ],
)
def test_what_chance_and_rounding_do_raises_none(changes):
    assert mark(**changes) == Verdict(OK)


def test_a_probe_counts_only_for_what_it_was_tried_on():
    """Of the images that stand in the worst case none was probed: the probe says nothing of them."""
    standing = np.arange(N) >= 70
    verdict = judge(outcomes(), eps=0.03, num_classes=10, standing=standing)
    told = tuple(f"not checked: {name} on any image that still stands" for name in ("Square", "PGD-100"))
    assert verdict == Verdict(OK, told)
    standing[69] = True
    assert judge(outcomes(), eps=0.03, num_classes=10, standing=standing) == Verdict(OK)


def test_transfers_that_beat_the_whitebox_attack_are_told():
    own = np.arange(N) < 40
    assert judge_transfer(own, {"λ = 0.1": np.arange(N) < 39}).mark == OK
    verdict = judge_transfer(own, {"λ = 0.1": np.arange(N) < 30, "λ = 0.2": np.arange(N) < 50})
    assert verdict == Verdict(SUSPECT, ("images crafted at λ = 0.1 leave 30.0%, these 40.0%",))
    assert judge_transfer(own, {"λ = 0.1": np.arange(N) < 10}).mark == INVALID


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
    measurement = Measurement(
        suite=suite,
        subjects=[subject],
        images=load_images("shapes", split="test").subset(n),
        archive=None,
        directory=RunDirectory(folder),
        device=CPU,
        batch_size=16,
    )
    measurement.directory.create()
    measurement.find_done()
    measurement.run([])
    assert not measurement.failures
    return Findings.of(Run.open(measurement.directory))


def rows_of(findings: Findings, threat: str = "whitebox") -> pd.DataFrame:
    assert isinstance(findings.attacks, Attacks)
    return findings.attacks.rows.query("threat == @threat")


def test_a_plain_trained_resnet_raises_no_mark(tmp_path):
    (subject,) = load_subjects(("resnet18-shapes",), num_classes=10, device=CPU)
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
    (subject,) = load_subjects(("resnet18-shapes",), num_classes=10, device=CPU)
    subject.network.normalise = Quantised(subject.network.normalise)
    findings = attack_model(subject, tmp_path)
    (row,) = rows_of(findings).to_dict("records")
    assert row["accuracy"] > 0.5, "PGD finds nothing without gradients: that is the mirage"
    assert row["trust"] == INVALID
    assert "100% of the input gradient is exactly zero" in row["trust_reason"]
    assert "withstand PGD without a bound" in row["trust_reason"]
    assert exit_code(findings, strict=False) == 0
    assert exit_code(findings, strict=True) == 1


def test_a_lambda_that_silences_every_code_is_invalid(tmp_path):
    """The mirage of the protocol: at λ = 1e6 every code is zero, PGD fails, and the number is worth nothing.

    The network answers one class for everything: whether that is right of any image makes no difference.
    """
    (subject,) = load_subjects(("sdnet18-shapes",), num_classes=10, device=CPU)
    findings = attack_model(subject, tmp_path, lambdas=(0.1, 1e6))
    assert isinstance(findings.attacks, Attacks)
    whitebox = rows_of(findings)
    assert INVALID not in whitebox.loc[whitebox["lam"] == 0.1, "trust"].tolist()
    for rows in (whitebox, rows_of(findings, "adaptive"), findings.attacks.worst):
        (silent,) = rows[rows["lam"] == 1e6].to_dict("records")
        assert silent["trust"] == INVALID
        assert "100% of the input gradient is exactly zero" in silent["trust_reason"]
