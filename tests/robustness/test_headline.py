"""The headline and the leaderboard: nothing that the intervals do not show, nothing picked by how it turned out."""

from __future__ import annotations

import numpy as np
import pytest
from attempts import STRONG, WEAK, N, crafted, fabricate_attacks
from fabricate import PLAIN, SPARSE, fabricate_run, make_law

from robustness.analysis.findings import Findings
from robustness.analysis.leaderboard import Rank, rank_values
from robustness.verdicts import SUSPECT

LAW = make_law(0.1, 0.1)


def test_it_claims_only_what_its_interval_shows(tmp_path):
    def answer(model, perturbation, severity, lam, split, n):
        right = {"plain": 20, 0.1: 30, 0.5: 31}[lam or model]
        return {"correct": np.arange(n) < right, "residual": np.full(n, 100.0)}

    text = Findings.of(fabricate_run(tmp_path, answer=answer, law=LAW)).headline
    assert text == (
        "Under 2 corruptions sparse keeps 75.0\u00a0% accuracy [59.8, 85.8], 25.0 points [8.9, 38.7] more than plain; "
        "choosing λ image by image adds nothing measurable."
    )


def test_it_names_the_rule_without_a_fit_before_the_law(tmp_path):
    """Both rules send all images to λ = 0.5, where ten more of forty are right."""

    def answer(model, perturbation, severity, lam, split, n):
        right = np.arange(n) < {"plain": 20, 0.1: 20, 0.5: 30}[lam or model]
        return {"correct": right, "residual": np.full(n, 100.0), "noise_level": np.full(n, 0.6)}

    text = Findings.of(fabricate_run(tmp_path, answer=answer, law=LAW)).headline
    assert "; choosing λ by the noise level of each image adds 25.0 points [" in text


def test_a_law_that_was_fitted_on_the_noises_of_the_suite_is_said_to_be(tmp_path):
    point = {"noise": "gaussian_noise", "severity": 1, "residual": 50.0, "lam": 0.3, "fitted": True}
    point |= {"spread": 0.05, "accuracy": 0.8, "trained_accuracy": 0.7}
    points = [point, {**point, "severity": 2}, {**point, "noise": "speckle_noise"}]
    law = {**LAW, "points": points}
    assert (
        "(by a law fitted on training images under 1 of these 2)"
        in Findings.of(fabricate_run(tmp_path, law=law)).headline
    )


def test_the_noise_sweep_counts_all_four_of_its_noises(tmp_path):
    names = ("gaussian_noise", "shot_noise", "speckle_noise", "impulse_noise")
    run = fabricate_run(tmp_path, corruptions=names, severities=(1,))
    run.record["suite"]["profile"] = "sweep"
    findings = Findings.of(type(run)(run.directory, run.record))
    assert findings.headline.startswith("Under 4 corruptions sparse keeps")
    trained = findings.summary[findings.summary["policy"] == "trained"].set_index("perturbation")["accuracy"]
    assert trained["mean of corruptions"] == pytest.approx(trained[list(names)].mean())
    assert "mean of extra corruptions" not in trained


def test_of_extra_corruptions_alone_it_says_so(tmp_path):
    text = Findings.of(fabricate_run(tmp_path, corruptions=("saturate",))).headline
    assert text.startswith("Under 1 extra corruption sparse keeps")


def test_a_model_at_chance_is_no_baseline(tmp_path):
    """Four classes: 10 of 40 are chance. A baseline that the suite names stays."""

    right = {PLAIN: np.arange(40) < 10, SPARSE: np.arange(40) < 30}
    run = fabricate_run(tmp_path / "a", answer=lambda model, *_: {"correct": right[model]})
    assert run.baseline is None
    assert "more than plain" not in Findings.of(run).headline
    run.record["suite"]["baseline"] = PLAIN
    assert "more than plain" in Findings.of(type(run)(run.directory, run.record)).headline


def test_of_attacks_it_says_the_worst_case_at_the_largest_budget_though_another_attack_left_more(tmp_path):
    run = fabricate_attacks(
        tmp_path,
        (SPARSE, "pgd", 0.1, 0.1, crafted(WEAK)),
        (SPARSE, "auto", 0.1, 0.1, crafted(STRONG)),
        (PLAIN, "pgd", None, None, crafted(STRONG)),
    )
    assert Findings.of(run).headline == (
        "Under every attack of the run within L∞ 8/255 sparse keeps 10.0\u00a0% accuracy [5.5, 17.4], "
        "no measurable difference from plain (trust: OK)."
    )


def test_a_larger_budget_that_nothing_survives_is_not_passed_over(tmp_path):
    run = fabricate_attacks(tmp_path, (PLAIN, "pgd", None, None, crafted(np.zeros(N, bool))))
    assert "keeps 0.0\u00a0% accuracy [0.0, 3.7]" in Findings.of(run).headline


def test_of_many_lambdas_none_is_called_better_by_the_luck_of_the_draw(tmp_path):
    """Seven more images of 100: p = 0.016, better if λ = 0.5 were the only other λ, but not as the best of five."""
    better = np.arange(N) >= 83
    lucky = {0.5: better, 0.2: STRONG, 0.3: STRONG, 0.4: STRONG, 0.6: STRONG}

    def say(*lams):
        own = [(SPARSE, "pgd", lam, lam, crafted(lucky.get(lam, STRONG))) for lam in (0.1, *lams)]
        return Findings.of(fabricate_attacks(tmp_path / f"{len(lams)}", *own, lambdas=(0.1, *lams))).headline

    assert "; the other λ is measurably better (trust" in say(0.5)
    assert "; none of the 5 other λs is measurably better, all tested together (trust" in say(*lucky)


def test_unfinished_attacks_give_no_number(tmp_path):
    run = fabricate_attacks(tmp_path, (PLAIN, "pgd", None, None, crafted(STRONG)))
    run.record["models"] = run.record["models"][1:]
    gone = next(cell for cell in run.record["cells"] if cell.get("norm"))
    run.record["cells"].append({**gone, "key": "absent", "perturbation": "other", "status": "missing"})
    assert "%" not in Findings.of(run).headline.partition("within L∞ 8/255")[2]


def foreign(tmp_path, **right):
    """Models without λ that get so many of 40 images right, the same ones first."""

    answer = {name: {"correct": np.arange(40) < count} for name, count in right.items()}
    return Findings.of(fabricate_run(tmp_path, answer=lambda model, *_: answer[model], names=tuple(right)))


def test_models_that_cannot_be_told_apart_share_their_ranks(tmp_path):
    findings = foreign(tmp_path, a=10, b=38, c=37)
    board = findings.board.table.set_index("model")
    assert list(board.index) == ["b", "c", "a"]
    assert board[["rank_from", "rank_to"]].to_numpy().tolist() == [[1, 2], [1, 2], [3, 3]]
    assert board["alike"].tolist() == ["c", "b", ""]
    assert findings.headline == (
        "Under 2 corruptions b keeps 95.0\u00a0% accuracy [83.5, 98.6]; c cannot be told apart from it "
        "(3 models, all pairs tested)."
    )
    assert "b keeps most of 2 models: 95.0" in foreign(tmp_path / "two", a=10, b=38).headline


def test_ranks_are_of_all_pairs_together():
    """Eight images of 100 tell one pair apart (p = 0.008); of 30 models there are 435 pairs."""
    base = np.zeros(100)
    ahead = np.where(np.arange(100) < 8, 1.0, 0.0)
    two = rank_values({"a": base, "b": ahead})
    assert (two["b"].first, two["b"].last) == (1, 1)
    many = rank_values({**{f"m{i}": base for i in range(29)}, "b": ahead})
    assert (many["b"].first, many["b"].last) == (1, 30)
    assert rank_values({"a": base})["a"] == Rank(1, 1, [])
    assert rank_values({}) == {}


def test_what_is_invalid_is_not_ranked(tmp_path):
    run = fabricate_attacks(
        tmp_path,
        (PLAIN, "pgd", None, None, crafted(STRONG)),
        (SPARSE, "pgd", 0.1, 0.1, crafted(WEAK, zero_gradient=1.0)),
    )
    board = Findings.of(run).board
    table = board.table.set_index("model")
    assert board.measure == "robust_linf_0.03137"
    assert table["rank_from"].isna().to_dict() == {SPARSE: True, PLAIN: False}
    assert table.loc[SPARSE, "robust_linf_0.03137_trust"] not in ("OK", SUSPECT)
