"""Rows and robust accuracy of made-up attacks: what each of them is believed, alone and beside others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from attempts import STRONG, WEAK, Attempt, N, crafted, fabricate_attacks
from fabricate import PLAIN, SPARSE

from robustness.analysis.attack_figures import draw_accuracy_by_eps, draw_transfer_matrix
from robustness.analysis.attack_tables import list_reasons, widen_attacks
from robustness.analysis.attacks import Attacks
from robustness.analysis.texts import join_head
from robustness.verdicts import INVALID, OK, SUSPECT


def analyse(folder: Path, *attempts: Attempt) -> Attacks:
    attacks = Attacks.of(fabricate_attacks(folder, *attempts))
    assert attacks is not None
    return attacks


def test_what_a_stronger_attack_took_does_not_speak_against_the_robust_accuracy(tmp_path):
    weak = crafted(WEAK, losses=np.where(WEAK & (np.arange(N) < 30), 0, -1))
    strong = crafted(STRONG, stages="apgd-ce,apgd-t,square", losses=-1)
    attacks = analyse(tmp_path, (PLAIN, "weak", None, None, weak), (PLAIN, "strong", None, None, strong))
    assert attacks.rows.set_index("perturbation")["trust"].to_dict() == {"weak": INVALID, "strong": OK}
    (robust,) = attacks.worst.to_dict("records")
    assert robust["accuracy"] == 0.1
    assert robust["trust"] == OK


def test_what_nothing_else_took_and_unsound_gradients_speak_against_the_robust_accuracy(tmp_path):
    weak = crafted(WEAK, losses=np.where(np.arange(N) >= 80, 0, -1))
    strong = crafted(STRONG, zero_gradient=1.0)
    attacks = analyse(tmp_path, (PLAIN, "weak", None, None, weak), (PLAIN, "strong", None, None, strong))
    (robust,) = attacks.worst.to_dict("records")
    assert "APGD with other losses: 10 of 10 images" in robust["trust_reason"]
    assert "100% of the input gradient" in robust["trust_reason"]
    assert robust["trust"] == INVALID


def test_square_in_an_ensemble_speaks_against_what_it_alone_broke(tmp_path):
    ensemble = crafted(STRONG, stages="apgd-ce,square", broken_by=np.where(STRONG, "", "square"))
    alone = analyse(tmp_path / "1", (PLAIN, "auto", None, None, ensemble)).worst
    assert alone["trust"].tolist() == [INVALID]
    pgd = (PLAIN, "pgd", None, None, crafted(STRONG))
    assert analyse(tmp_path / "2", (PLAIN, "auto", None, None, ensemble), pgd).worst["trust"].tolist() == [OK]


def one_silent_lambda() -> list[Attempt]:
    """At λ = 0.5 the network is silent: transferred images leave as much as any, and that means nothing."""
    return [
        (SPARSE, "pgd", 0.1, 0.1, crafted(STRONG)),
        (SPARSE, "pgd", 0.1, 0.5, crafted(WEAK)),
        (SPARSE, "pgd", 0.5, 0.1, crafted(STRONG)),
        (SPARSE, "pgd", 0.5, 0.5, crafted(WEAK, zero_gradient=1.0)),
        (PLAIN, "pgd", None, None, crafted(STRONG)),
    ]


def test_a_transfer_row_carries_what_marks_the_lambda_that_it_is_shown_at(tmp_path):
    attacks = analyse(tmp_path, *one_silent_lambda())
    rows = attacks.rows.set_index(["model", "threat", "lam"]).sort_index()
    transfer = rows.loc[(SPARSE, "transfer", 0.5)]
    assert transfer["trust"] == INVALID
    assert "100% of the input gradient" in transfer["trust_reason"]
    assert np.isnan(transfer["versus"]), "the baseline was attacked by someone who knows it"
    assert rows.loc[(SPARSE, "whitebox", 0.1), "versus"] == 0
    pairs = attacks.transfers[attacks.transfers["model"] == SPARSE].set_index(["crafted", "shown"])
    assert pairs["trust"].to_dict() == {(0.1, 0.1): OK, (0.1, 0.5): INVALID, (0.5, 0.1): INVALID, (0.5, 0.5): INVALID}


def test_a_difference_has_the_worse_mark_of_its_two_numbers(tmp_path):
    """The baseline, and the training λ, are silent: what is better or worse than they are means nothing."""
    silent, sound = crafted(WEAK, zero_gradient=1.0), crafted(STRONG)
    attacks = analyse(
        tmp_path,
        (SPARSE, "pgd", 0.1, 0.1, silent),
        (SPARSE, "pgd", 0.1, 0.5, sound),
        (SPARSE, "pgd", 0.5, 0.1, silent),
        (SPARSE, "pgd", 0.5, 0.5, sound),
        (PLAIN, "pgd", None, None, silent),
    )
    row = attacks.rows.set_index(["model", "threat", "lam"]).sort_index().loc[(SPARSE, "whitebox", 0.5)]
    assert row["trust"] == OK
    assert row["gain_trust"] == INVALID
    assert row["versus_trust"] == INVALID


def test_marks_are_in_the_figures_and_their_reasons_below_the_table(tmp_path):
    run = fabricate_attacks(tmp_path, *one_silent_lambda())
    attacks = Attacks.of(run)
    assert attacks is not None
    (matrix,) = draw_transfer_matrix(attacks.transfers[attacks.transfers["model"] == SPARSE]).axes
    assert [text.get_text() for text in matrix.texts] == ["10", "90 ✗", "10 ✗", "90 ✗"]
    (panel,) = draw_accuracy_by_eps(run, attacks).axes
    marked = [line.get_ydata() for line in panel.lines if line.get_marker() == "x" and len(line.get_ydata())]
    assert not any(line.get_color() == "#C00000" and line.get_linestyle() != "None" for line in panel.lines)
    assert [list(values) for values in marked] == [[90.0], [10.0 + 80.0]]
    wide = widen_attacks(run, attacks, "linf", whole=True)
    assert wide.loc[f"{SPARSE} λ=0.5", ("pgd L∞ 8/255", "transfer")].endswith("✗")
    assert not any("transfer" in head for head in widen_attacks(run, attacks, "linf", whole=False))
    ((reason, places),) = list_reasons(attacks, "linf").items()
    assert reason.startswith("100% of the input gradient is exactly zero")
    columns = ["pgd L∞ 8/255 whitebox", "pgd L∞ 8/255 transfer", "pgd L∞ 8/255 adaptive", "robust L∞ 8/255"]
    assert places == {f"{SPARSE} λ=0.5": columns}
    assert set(columns) <= set(map(join_head, wide.columns))


def test_a_reason_with_a_semicolon_stays_whole(tmp_path):
    reason = "the checks ended early; nobody knows why"
    found = {"model": PLAIN, "lam": None, "n": 8, "changes": [], "has_weights": True, "error": reason}
    run = fabricate_attacks(tmp_path, (PLAIN, "pgd", None, None, crafted(STRONG)))
    run.record["soundness"] = [found]
    attacks = Attacks.of(run)
    assert attacks is not None
    assert f"not checked before the grid: {reason}" in list_reasons(attacks, "linf")


def test_images_of_another_lambda_that_break_more_count_in_the_worst_case_and_mark_the_whitebox_row(tmp_path):
    attacks = analyse(
        tmp_path,
        (SPARSE, "pgd", 0.1, 0.1, crafted(STRONG)),
        (SPARSE, "pgd", 0.1, 0.5, crafted(STRONG)),
        (SPARSE, "pgd", 0.5, 0.5, crafted(WEAK)),
    )
    rows = attacks.rows.set_index(["threat", "lam"])
    assert rows.loc[("whitebox", 0.5), "trust"] == INVALID
    assert rows.loc[("adaptive", 0.5), "accuracy"] == 0.1
    assert (
        "not checked: APGD with other losses on any image that still stands"
        in rows.loc[("adaptive", 0.5), "trust_reason"]
    )
    assert attacks.worst.set_index("lam").loc[0.5, ["accuracy", "trust"]].tolist() == [0.1, SUSPECT]


def test_comparisons_that_the_run_does_not_hold_are_no_reason(tmp_path):
    attacks = analyse(tmp_path, (PLAIN, "pgd", None, None, crafted(STRONG)))
    (row,) = attacks.rows.to_dict("records")
    assert row["trust"] == OK
    assert row["trust_reason"] == ""
    assert attacks.worst["trust_reason"].tolist() == [""]


def test_the_power_of_the_attack_that_the_images_are_of_stands_in_its_row(tmp_path):
    """18 of 20 planted adversarial examples; the attack on the training λ made the transferred images."""
    weak = crafted(WEAK, planted=np.where(np.arange(N) < 20, np.arange(N) < 18, -1))
    attacks = analyse(
        tmp_path,
        (SPARSE, "pgd", 0.1, 0.1, weak),
        (SPARSE, "pgd", 0.1, 0.5, crafted(STRONG)),
        (SPARSE, "pgd", 0.5, 0.5, crafted(STRONG, planted=-1)),
    )
    rows = attacks.rows.set_index(["threat", "lam"])
    assert rows.loc[("whitebox", 0.1), "attack_power"] == 0.9
    assert (
        0.6 < rows.loc[("whitebox", 0.1), "attack_power_low"] < 0.9 < rows.loc[("whitebox", 0.1), "attack_power_high"]
    )
    assert rows.loc[("transfer", 0.5), "attack_power"] == 0.9
    assert np.isnan(rows.loc[("whitebox", 0.5), "attack_power"])


def test_a_number_that_another_attack_beats_by_more_than_two_points_is_marked(tmp_path):
    """Two points less are chance; 3 make it SUSPECT, 80 INVALID; the stronger attack's own number stands."""
    marks = {}
    for taken in (12, 13, 90):
        strong = crafted(np.arange(N) >= taken)
        attacks = analyse(
            tmp_path / f"{taken}", (PLAIN, "weak", None, None, crafted(WEAK)), (PLAIN, "strong", None, None, strong)
        )
        rows = attacks.rows.set_index("perturbation")
        marks[taken] = rows["trust"].tolist()
        assert attacks.worst["accuracy"].tolist() == [(N - taken) / N]
    assert marks == {12: [OK, OK], 13: [SUSPECT, OK], 90: [INVALID, OK]}
    reason = rows.loc["weak", "trust_reason"]
    assert "strong at ε = 8/255 leaves 10.0%, this attack 90.0%: quote the worst case" in reason


def test_the_worst_case_is_paired_with_that_at_the_lambda_of_training_and_of_the_baseline(tmp_path):
    """10 images of 100 withstand at λ = 0.1 and of the ResNet, at λ = 0.5 the same and 30 more."""
    better = np.arange(N) >= 60
    attacks = analyse(
        tmp_path,
        (SPARSE, "pgd", 0.1, 0.1, crafted(STRONG)),
        (SPARSE, "pgd", 0.5, 0.5, crafted(better)),
        (PLAIN, "pgd", None, None, crafted(STRONG)),
    )
    at_half = attacks.worst[attacks.worst["lam"] == 0.5].iloc[0]
    assert at_half["gain"] == at_half["versus"] == 0.3
    assert at_half["gain_p"] == at_half["versus_p"] == pytest.approx(2 / 2**30)
    at_trained = attacks.worst[attacks.worst["lam"] == 0.1].iloc[0]
    assert np.isnan(at_trained["gain"])
    assert (at_trained["versus"], at_trained["versus_p"], at_trained["versus_trust"]) == (0, 1, OK)
    assert attacks.worst[attacks.worst["model"] == PLAIN][["gain", "versus"]].isna().all(axis=None)
