"""λ policies: the residual law, what every policy chooses and what it may look at."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from fabricate import answer_at_random, fabricate_run, make_law

from data_prep import corruption_names
from data_prep.corruptions.registry import extra_of_kind
from robustness import policies
from robustness.analysis.decisions import decide
from robustness.analysis.summary import group_settings, summarise
from robustness.analysis.tables import widen
from robustness.policies import POLICIES, Matched, Oracle, Residual, ResidualLaw, Trained, Validated, View

LAW = ResidualLaw(slope=0.01, intercept=0.1, lowest=0.2, highest=0.5)


def test_the_law_is_a_clipped_line_on_arrays_and_tensors_alike():
    residual = np.array([0.0, 10.0, 20.0, 30.0, 100.0])
    expected = [0.2, 0.2, 0.3, 0.4, 0.5]
    np.testing.assert_allclose(LAW.lam(residual), expected)
    torch.testing.assert_close(LAW.lam(torch.from_numpy(residual)), torch.tensor(expected, dtype=torch.float64))


def test_the_law_is_differentiable_where_it_is_not_clipped():
    residual = torch.tensor([5.0, 30.0, 90.0], requires_grad=True)
    LAW.lam(residual).sum().backward()
    assert residual.grad is not None
    assert residual.grad.tolist() == pytest.approx([0.0, 0.01, 0.0])


def make_view(**changes: object) -> View:
    fields: dict[str, object] = {
        "perturbation": "gaussian_noise",
        "severity": 3,
        "lambdas": np.array([0.1, 0.2, 0.5]),
        "trained_lam": 0.1,
        "predicted": np.zeros((3, 4), int),
        "confidence": np.ones((3, 4)),
        "residual": np.array([[0.0, 20.0, 30.0, 90.0]] * 2 + [[5.0] * 4]),
        "sparsity": np.ones((3, 4)),
        "noise_level": np.array([0.0, 0.1, 0.25, 0.6]),
        "law": LAW,
        "selection": {},
    }
    return View(**{**fields, **changes})


def test_trained_and_residual_look_at_the_lambda_of_training():
    assert Trained().choose(make_view()) == 0.1
    np.testing.assert_allclose(Residual().choose(make_view()), [0.2, 0.3, 0.4, 0.5])
    other = make_view(trained_lam=0.3)
    assert Trained().choose(other) is None
    assert Residual().choose(other) is None
    assert Matched().choose(other) is None


def test_matched_never_goes_below_the_lambda_of_training_and_needs_a_noise_level():
    np.testing.assert_allclose(Matched().choose(make_view()), [0.1, 0.1, 0.25, 0.6])
    np.testing.assert_allclose(Matched().choose(make_view(trained_lam=0.2)), [0.2, 0.2, 0.25, 0.6])
    assert Matched().choose(make_view(noise_level=None)) is None
    assert Residual().choose(make_view(law=None)) is None


def test_validated_takes_the_corruption_itself_or_the_extra_one_of_its_kind():
    accuracies = {"speckle_noise": np.array([0.5, 0.7, 0.6]), "clean": np.array([0.9, 0.8, 0.7])}
    assert Validated().choose(make_view(selection=accuracies)) == 0.2
    itself = {**accuracies, "gaussian_noise": np.array([0.1, 0.2, 0.3])}
    assert Validated().choose(make_view(selection=itself)) == 0.5
    assert Validated().choose(make_view(selection=accuracies, perturbation="clean")) == 0.1
    assert Validated().choose(make_view(selection=accuracies, perturbation="fog")) is None


def test_of_equally_good_lambdas_the_one_nearest_to_training_is_taken():
    assert make_view().best(np.array([0.5, 0.7, 0.7])) == 0.2
    assert make_view(trained_lam=0.5).best(np.array([0.7, 0.6, 0.7])) == 0.5


def test_every_corruption_has_an_extra_one_of_its_kind():
    kinds = {name: extra_of_kind(name) for name in corruption_names("standard")}
    assert set(kinds.values()) == set(corruption_names("extra"))
    assert (kinds["impulse_noise"], kinds["fog"]) == ("speckle_noise", "spatter")
    assert extra_of_kind("clean") is None


def test_decisions_take_the_answers_at_the_chosen_lambda(tmp_path):
    """Four images, right at λ = 0.1, 0.1, 0.5, 0.5 only; the law sends the last two to λ = 0.5."""

    def answer(model, perturbation, severity, lam, split, n):
        small = np.array([True, True, False, False])
        level = np.array([0.0, 0.2, 0.4, 0.9])
        right = small if lam == 0.1 else ~small
        return {"correct": right, "residual": np.array([0.0, 10.0, 60.0, 100.0]), "noise_level": level}

    law = make_law(**dataclasses.asdict(LAW))
    run = fabricate_run(tmp_path, answer=answer, n=4, severities=(1,), law=law)
    decisions = {(d.policy, d.lam): d for d in decide(run) if d.perturbation == "contrast" and d.model == "sparse"}
    assert decisions["fixed", 0.1].correct.tolist() == [True, True, False, False]
    assert decisions["fixed", 0.5].correct.tolist() == [False, False, True, True]
    assert decisions["residual", 0.3].correct.all()
    assert decisions["matched", 0.3].correct.all()
    assert decisions["residual", 0.3].nll == pytest.approx(0.25)
    assert decisions["residual", 0.3].sparsity == pytest.approx(0.3)
    assert decisions["trained", 0.1].correct.tolist() == [True, True, False, False]


def test_without_its_whole_lambda_grid_no_selection_counts(tmp_path):
    options = {"selection": ("speckle_noise", "saturate"), "severities": (1, 2)}
    whole = fabricate_run(tmp_path / "whole", **options)
    assert {d.perturbation for d in decide(whole) if d.policy == "validated"} == {"clean", "gaussian_noise", "contrast"}
    gap = fabricate_run(tmp_path / "gap", **options, missing=lambda c: c["key"] == "train-saturate-2-sparse-0.5")
    assert {d.perturbation for d in decide(gap) if d.policy == "validated"} == {"clean", "gaussian_noise"}
    half = fabricate_run(tmp_path / "half", **options, missing=lambda c: c["key"].startswith("train-saturate-2-"))
    assert {d.perturbation for d in decide(half) if d.policy == "validated"} == {"clean", "gaussian_noise"}
    assert half.selection_accuracy["sparse"].loc["saturate"].isna().all()


def attack_cells() -> tuple[dict[str, object], ...]:
    """``transfer`` adds to a grid without the training λ a clean cell at that λ and the images crafted there."""
    clean = {"key": "clean-trained", "model": "sparse", "perturbation": "clean", "severity": 0, "policy": ""}
    clean |= {"lam": 0.1, "trained_lam": 0.1}
    attack = {**clean, "key": "pgd", "perturbation": "pgd", "norm": "linf", "eps": 0.1, "threat": "whitebox"}
    return clean, {**attack, "crafted_lam": 0.1, "crafted_policy": ""}


def test_an_attack_takes_no_policy_from_the_corruptions_and_adds_no_lambda(tmp_path):
    options = {"lambdas": (0.05, 0.2), "selection": ("speckle_noise", "saturate"), "severities": (1, 2)}
    alone = fabricate_run(tmp_path / "alone", **options)
    attacked = fabricate_run(tmp_path / "attacked", **options, extra_cells=attack_cells())
    before, after = (
        [(d.model, d.perturbation, d.severity, d.policy, d.lam) for d in decide(run) if d.lam == d.lam]
        for run in (alone, attacked)
    )
    assert before == after
    assert {policy for _, _, _, policy, _ in after} == {"fixed", "validated", "oracle"}
    assert 0.1 in set(attacked.cells.loc[attacked.cells["perturbation"] == "clean", "lam"]), "attacks still have it"


def test_where_a_lambda_of_the_grid_is_missing_policies_stay_restricted_whatever_is_attacked(tmp_path):
    options = {"lambdas": (0.05, 0.2), "severities": (1, 2), "extra_cells": attack_cells()}
    gap = fabricate_run(tmp_path / "gap", **options, missing=lambda c: c["key"] == "test-clean-0-sparse-0.2")
    assert {d.policy for d in decide(gap) if d.perturbation == "clean" and d.model == "sparse"} == {"fixed"}
    lost = fabricate_run(tmp_path / "lost", **options, missing=lambda c: c["lam"] == 0.2)
    assert {d.policy for d in decide(lost) if d.model == "sparse"} == {"fixed"}, "missing everywhere is missing, too"


def test_permuted_test_labels_change_no_choice_but_the_oracles(tmp_path):
    """The answers stay, the labels move: every policy but the oracle must choose what it chose."""
    rng = np.random.default_rng(0)
    order = rng.permutation(40)

    def permuted(model, perturbation, severity, lam, split, n):
        answers = answer_at_random(model, perturbation, severity, lam, split, n)
        rare = lam == 0.5 if perturbation == "gaussian_noise" else lam == 0.1
        moved = answers["correct"][order] & ~rare if split == "test" else answers["correct"]
        return {**answers, "correct": moved}

    law = make_law(**dataclasses.asdict(LAW))
    options = {"law": law, "selection": ("speckle_noise", "saturate"), "lambdas": (0.1, 0.3, 0.5)}
    chosen = []
    for name, answer in (("asked", answer_at_random), ("permuted", permuted)):
        run = fabricate_run(tmp_path / name, answer=answer, **options)
        chosen.append({(d.policy, d.perturbation, d.severity, d.setting): d.lam for d in decide(run) if d.lam == d.lam})
    before, after = chosen
    assert {key[0] for key in before} == {"fixed", "trained", "validated", "residual", "oracle"}
    keys = [key for key in before if key[0] not in ("oracle", "fixed")]
    assert [before[key] for key in keys] == [after[key] for key in keys]
    oracles = [key for key in before if key[0] == "oracle"]
    assert [before[key] for key in oracles] != [after[key] for key in oracles]


def test_a_policy_of_any_name_that_uses_test_labels_stays_out_of_the_headline_table(tmp_path, monkeypatch):
    class Cheat(Oracle):
        name = "cheat"

    monkeypatch.setattr(policies, "POLICIES", (*POLICIES, Cheat()))
    run = fabricate_run(tmp_path, severities=(1,))
    summary = summarise(run, group_settings(decide(run, policies.POLICIES)))
    assert {"oracle", "cheat"} < set(summary["policy"])
    assert list(widen(summary, run)) == ["sparse λ=0.1 (trained)", "sparse λ=0.5", "plain"]


def test_no_policy_but_the_oracle_is_shown_right_answers(tmp_path):
    seen = {}

    @dataclasses.dataclass(frozen=True)
    class Spy:
        name: str
        uses_test_labels: bool

        def choose(self, view: View) -> None:
            seen[self.name] = view.correct

    decide(fabricate_run(tmp_path), policies=(Spy("blind", False), Spy("seeing", True)))
    assert seen["blind"] is None
    assert seen["seeing"] is not None
    assert [policy.name for policy in POLICIES if policy.uses_test_labels] == ["oracle"]


def test_the_guides_policy_works_as_it_stands(tmp_path, monkeypatch):
    """The example of docs/policies.md, in the place that it names: it decides, and every table shows it."""
    guide = (Path(__file__).parents[2] / "docs" / "policies.md").read_text()
    (source,) = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
    names = dict(vars(policies))
    exec(source, names)
    cautious = names["Cautious"]()
    assert isinstance(cautious, policies.Policy)
    shy = make_view(confidence=np.array([[0.4, 0.6, 0.4, 0.9]] * 3))
    np.testing.assert_allclose(cautious.choose(shy), [0.05, 0.1, 0.05, 0.1])
    monkeypatch.setattr(policies, "POLICIES", (*POLICIES, cautious))
    run = fabricate_run(tmp_path, severities=(1,))
    summary = summarise(run, group_settings(decide(run, policies.POLICIES)))
    assert "sparse cautious" in widen(summary, run)
