"""Tidy tables from made-up answers, checked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from fabricate import fabricate_run

from data_prep import corruption_names
from robustness.analysis.decisions import decide
from robustness.analysis.findings import Findings
from robustness.analysis.metrics import ALEXNET_ERRORS
from robustness.analysis.summary import MEAN, MEAN_OF_EXTRA, group_settings, summarise, tabulate_policies
from robustness.grids import parse_lambdas


def pick(frame, **fields):
    for name, value in fields.items():
        frame = frame[frame[name] == value]
    assert len(frame) == 1
    return frame.iloc[0]


def answer_by_hand(model, perturbation, severity, lam, split, n):
    """The ResNet gets 20 of 40 images right, the SDNet the same and 10 more at λ = 0.5, and 5 fewer at λ = 0.1."""
    count = 20 if model == "plain" else 30 if lam == 0.5 else 15
    return {"correct": np.arange(n) < count, "residual": np.zeros(n)}


def test_differences_are_paired_with_the_lambda_of_training_and_with_the_baseline(tmp_path):
    policies = Findings.of(fabricate_run(tmp_path, answer=answer_by_hand)).policies
    row = pick(policies, perturbation="contrast", severity=2, policy="fixed", lam=0.5)
    assert (row["n"], row["accuracy"]) == (40, 0.75)
    assert row["gain"] == pytest.approx(15 / 40)
    assert row["gain_p"] == pytest.approx(2 / 2**15)
    assert row["versus"] == pytest.approx(10 / 40)
    assert row["versus_p"] == pytest.approx(2 / 2**10)
    assert 0.08 < row["versus_low"] < 0.25 < row["versus_high"] <= 0.4
    assert row["nll"] == pytest.approx(0.75 * 0.25 + 0.25 * 1.5)
    assert row["ece"] == pytest.approx(0, abs=1e-6)
    assert row["sparsity"] == pytest.approx(0.5)
    plain = pick(policies, perturbation="contrast", severity=2, policy="none")
    assert plain[["gain", "versus", "lam", "residual"]].isna().all()


def test_means_over_corruptions_have_intervals_and_need_every_cell(tmp_path):
    names = ("gaussian_noise", "contrast", "saturate")
    options = {"corruptions": names, "severities": (1, 3)}
    whole = Findings.of(fabricate_run(tmp_path / "whole", **options)).summary
    trained = whole[(whole["policy"] == "trained")].set_index("perturbation")
    assert trained.loc[MEAN, "accuracy"] == pytest.approx(
        trained.loc[["gaussian_noise", "contrast"], "accuracy"].mean()
    )
    assert trained.loc[MEAN_OF_EXTRA, "accuracy"] == pytest.approx(trained.loc["saturate", "accuracy"])
    assert trained.loc[MEAN, "ci_low"] < trained.loc[MEAN, "accuracy"] < trained.loc[MEAN, "ci_high"]
    assert trained.loc[MEAN, "versus_low"] < trained.loc[MEAN, "versus"] < trained.loc[MEAN, "versus_high"]
    gap = fabricate_run(tmp_path / "gap", **options, missing=lambda c: c["key"] == "test-contrast-3-sparse-0.1")
    summary = Findings.of(gap).summary
    assert set(summary.loc[summary["perturbation"] == MEAN, "policy"]) == {"fixed", "none"}, (
        "no policy decides on half a grid"
    )
    assert pick(summary, perturbation="contrast", policy="trained")["severities"] == 1


def test_scores_by_hand(tmp_path):
    """Errors 25 %, 62.5 % and 50 % everywhere, clean ones too: mCE 50, 125 and 100; no added error to relate."""
    run = fabricate_run(tmp_path, answer=answer_by_hand, corruptions=corruption_names("standard"))
    scores = Findings.of(run).scores.set_index(["policy", "lam"])
    half = scores.loc[("fixed", 0.5)]
    assert (half["clean_accuracy"], half["mean_error"]) == (0.75, pytest.approx(0.25))
    assert half["mce"] == pytest.approx(50)
    assert half["mce_low"] < 50 < half["mce_high"]
    assert scores.loc[("trained", 0.1), "mce"] == pytest.approx(125)
    assert np.isnan(half["mce_alexnet"])
    assert "ImageNet-C" in half["refused"]
    plain = Findings.of(run).scores.set_index("policy").loc["none"]
    assert (plain["mce"], plain["mce_low"], plain["mce_high"]) == (100, 100, 100)


def test_relative_mce_takes_the_clean_error_off(tmp_path):
    """Clean errors 0; under corruption 10 of 40 against 20 of 40: what corruptions add is half."""

    def answer(model, perturbation, severity, lam, split, n):
        wrong = 0 if perturbation == "clean" else 20 if model == "plain" else 10
        return {"correct": np.arange(n) >= wrong}

    run = fabricate_run(tmp_path, answer=answer, corruptions=corruption_names("standard"))
    assert pick(Findings.of(run).scores, policy="trained")["relative_mce"] == pytest.approx(50)


def test_mce_is_refused_with_what_is_missing(tmp_path):
    names = corruption_names("standard")
    gap = fabricate_run(tmp_path / "gap", corruptions=names, missing=lambda c: c["key"] == "test-fog-4-sparse-0.5")
    scores = Findings.of(gap).scores
    assert pick(scores, policy="fixed", lam=0.1)["mce"] > 0
    refused = pick(scores[scores["refused"].str.contains("fog 4 missing")], policy="fixed")
    assert np.isnan(refused["mce"])
    few = Findings.of(fabricate_run(tmp_path / "few")).scores
    assert few["mce"].isna().all()
    assert few["refused"].str.contains("15 standard corruptions at 5 severities").all()


def test_alexnets_errors_count_for_imagenet_only(tmp_path):
    """A model that errs like AlexNet, to one image of 40, has an mCE (AlexNet) of 100."""

    def answer(model, perturbation, severity, lam, split, n):
        return {"correct": np.arange(n) >= round(n * ALEXNET_ERRORS.get(perturbation, 0.4))}

    suite = {"name": "imagenetc", "description": "", "profile": "imagenet", "lambdas": [0.1, 0.5], "seed": 0}
    suite |= {"corruptions": corruption_names("standard"), "severities": []}
    run = fabricate_run(tmp_path, answer=answer, corruptions=suite["corruptions"], record={"suite": suite})
    row = pick(Findings.of(run).scores, policy="none")
    assert row["mce_alexnet"] == pytest.approx(100, abs=2)
    assert row["refused"] == ""


def test_a_named_baseline_takes_the_place_of_the_first_model_without_lambda(tmp_path):
    suite = {"name": "s", "description": "", "profile": "cifar", "lambdas": [0.1, 0.5], "seed": 0, "severities": []}
    suite |= {"corruptions": ["gaussian_noise", "contrast"], "baseline": "sparse"}
    summary = Findings.of(fabricate_run(tmp_path, answer=answer_by_hand, record={"suite": suite})).summary
    assert pick(summary, perturbation="contrast", policy="none")["versus"] == pytest.approx(5 / 40)
    assert summary.loc[summary["model"] == "sparse", "versus"].isna().all()


def test_without_corruptions_the_scores_still_tell_the_lambdas_apart(tmp_path):
    scores = Findings.of(fabricate_run(tmp_path, corruptions=())).scores
    fixed = scores[scores["policy"] == "fixed"]
    assert list(fixed["lam"]) == [0.1, 0.5]
    assert pick(scores, policy="trained")["lam"] == 0.1
    assert pick(scores, policy="none")["lam"] != 0.1


def test_lambdas_that_differ_after_six_digits_keep_their_own_rows(tmp_path):
    run = fabricate_run(tmp_path, lambdas=parse_lambdas("1:1.00001:11"), severities=(1,))
    fixed = Findings.of(run).policies.query("policy == 'fixed' and perturbation == 'contrast'")
    assert list(fixed["lam"]) == list(parse_lambdas("1:1.00001:11"))


def test_attacks_stay_out_of_the_tables_of_corruptions(tmp_path):
    attack = {"key": "attack", "model": "plain", "perturbation": "pgd", "severity": 0, "lam": None, "trained_lam": None}
    attack |= {"norm": "linf", "eps": 8 / 255, "threat": "whitebox", "trust": "OK", "trust_reason": ""}
    attack |= {"policy": "", "crafted_lam": None, "crafted_policy": ""}
    run = fabricate_run(tmp_path, extra_cells=(attack,))
    settings = group_settings(decide(run))
    assert list(run.cells.loc[run.cells["threat"].notna(), "perturbation"]) == ["pgd"]
    for frame in (run.corrupted, tabulate_policies(run, settings), summarise(run, settings)):
        assert "pgd" not in set(frame["perturbation"])
