"""Figures: what they show is what was computed."""

from __future__ import annotations

import json
import re

import numpy as np
import pandas as pd
import pytest
from fabricate import fabricate_run
from matplotlib.text import Text

from data_prep import corruption_names
from robustness.analysis.attack_figures import list_attack_figures
from robustness.analysis.attacks import Attacks
from robustness.analysis.drawings import model_looks, policy_look, save_drawings
from robustness.analysis.figures import (
    draw_accuracy_by_lambda,
    draw_accuracy_by_severity,
    draw_models_by_severity,
    list_figures,
)
from robustness.analysis.findings import Findings
from robustness.analysis.frames import Run
from robustness.analysis.model_figures import draw_against_baseline, draw_law, has_comparison
from robustness.analysis.samples import read_samples
from robustness.analysis.summary import MEAN
from robustness.analysis.write import list_drawings, write_figures
from robustness.laws import FittedLaw, NoiseLevel
from robustness.policies import POLICIES, ResidualLaw
from sdnet_core.style import TEXT_WIDTH, figure_style


def test_the_law_is_drawn_clipped_with_every_level_as_a_point_and_a_line_per_family():
    """Gaussian: λ = 0.01 r exactly; shot: one level apart from a line, R² = 3/4; impulse has two levels only."""
    levels = {
        "gaussian_noise": [(10, 0.1), (20, 0.2), (30, 0.3)],
        "shot_noise": [(10, 0.1), (20, 0.1), (30, 0.4)],
        "impulse_noise": [(5, 0.1), (9, 0.3)],
    }
    points = [
        NoiseLevel(noise, level, float(residual), lam, 0.05, 0.8, 0.7, fitted=True)
        for noise, of_noise in levels.items()
        for level, (residual, lam) in enumerate(of_noise)
    ]
    points.append(NoiseLevel("gaussian_noise", 9, 50.0, 0.9, 0.05, 0.2, 0.1, fitted=False))
    law = FittedLaw(ResidualLaw(0.01, 0.0, 0.2, 0.4), 0.5, tuple(points), {})
    a, b, c = law.families()
    assert (a.slope, a.intercept, a.r_squared) == (pytest.approx(0.01), pytest.approx(0, abs=1e-9), pytest.approx(1))
    assert (b.slope, b.intercept, b.r_squared) == (pytest.approx(0.015), pytest.approx(-0.1), pytest.approx(0.75))
    assert (a.span, c.slope, c.r_squared) == ((10, 30), pytest.approx(0.05), None)
    figure = draw_law(law, "sparse")
    axis = figure.axes[0]
    pooled, *own = (line.get_ydata() for line in axis.lines if line.get_linestyle() == "-")
    assert (min(pooled), max(pooled)) == (pytest.approx(0.2), pytest.approx(0.4))
    np.testing.assert_allclose(own, [[0.1, 0.3], [0.05, 0.35], [0.1, 0.3]])
    shown = np.concatenate([line.get_xydata() for line in axis.lines if line.get_linestyle() == "None"])
    assert sorted(shown.tolist()) == pytest.approx(np.array(sorted([p.residual, p.lam] for p in points)))
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels[0] == "all: λ = 0.01 r + 0, R² = 0.50"
    assert "shot noise: λ = 0.015 r − 0.1, R² = 0.75" in labels
    assert len({line.get_color() for line in axis.lines}) == 4


def test_a_figure_is_printed_at_its_own_size_with_letters_of_seven_points(tmp_path):
    run = fabricate_run(tmp_path, corruptions=tuple(corruption_names("standard")), severities=(1,))
    findings = Findings.of(run)
    with figure_style():
        figures = [
            draw_accuracy_by_lambda(run, findings.summary),
            draw_accuracy_by_severity(run, "sparse"),
            draw_against_baseline(run, findings.summary, "sparse"),
        ]
        for figure in figures:
            assert figure.get_figwidth() == TEXT_WIDTH
            assert min(text.get_fontsize() for text in figure.findobj(Text) if text.get_text()) >= 7
    assert [len(figure.axes) for figure in figures] == [16, 15, 1]


def test_colours_belong_to_names():
    assert policy_look("residual") == policy_look("residual") != policy_look("trained")
    assert policy_look("my own").colour not in {policy_look(policy.name).colour for policy in POLICIES}


def test_the_colour_of_a_model_is_that_of_its_name_whatever_its_place():
    names = ["mine", "yours", "theirs", "another"]
    looks = model_looks(names)
    assert looks == model_looks(names[::-1])
    assert len({look.colour for look in looks.values()}) == 4
    assert model_looks(["mine"])["mine"] == model_looks(["mine", "mine"])["mine"]
    many = model_looks([f"m{i}" for i in range(40)])
    assert len({(look.colour, look.marker) for look in many.values()}) == 40


def test_models_are_drawn_against_severity_with_their_intervals(tmp_path):
    """Without λ there is no other curve; of ten models the best eight are drawn."""
    right = {f"m{i}": 20 + i for i in range(10)}

    def answer(model, perturbation, severity, lam, split, n):
        return {"correct": np.arange(n) < right[model] - severity}

    run = fabricate_run(tmp_path, names=tuple(right), answer=answer)
    with figure_style():
        figure = draw_models_by_severity(Findings.of(run))
    panel = figure.axes[0]
    assert {line.get_label() for line in panel.lines} == {f"m{i}" for i in range(2, 10)}
    best = next(line for line in panel.lines if line.get_label() == "m9")
    np.testing.assert_allclose(best.get_ydata(), [100 * (29 - level) / 40 for level in range(1, 6)])
    assert len(panel.collections) == 8
    assert [drawing.name for drawing in list_figures(Findings.of(run))] == ["accuracy_by_severity"]


def test_figures_of_a_single_model_are_written_for_few_models_only(tmp_path, monkeypatch):
    findings = Findings.of(fabricate_run(tmp_path, corruptions=("contrast",), severities=(1,)))
    listed = [drawing.name for drawing in list_drawings(findings)]
    assert {"accuracy_by_lambda", "accuracy_by_severity_sparse"} <= {*listed}
    written: list[str] = []
    monkeypatch.setattr("robustness.analysis.drawings.save_figure", lambda *given, pdf: written.append(given[2]))
    write_figures(findings, pdf=False)
    assert written == listed
    written.clear()
    monkeypatch.setattr("robustness.analysis.write.MOST_OWN", 1)
    write_figures(findings, pdf=False)
    assert written == [name for name in listed if not name.endswith("_sparse")]


def test_names_that_mean_something_to_the_drawing_library_are_drawn_as_they_are(tmp_path):
    """A formula that cannot be parsed, and a label that legends leave out."""
    names = ("a$b^$c", "_mine", "\\frac{$%")
    run = fabricate_run(tmp_path, names=names, severities=(1, 2))
    save_drawings(list_figures(Findings.of(run)), run, pdf=False)
    with figure_style():
        figure = draw_models_by_severity(Findings.of(run))
    assert {text.get_text().strip() for text in figure.legends[0].texts} == {*names}


def test_two_models_never_write_the_same_file(tmp_path):
    """Names that differ in a blank, in case, or at the 200th letter; none of them is one that Windows refuses."""
    names = ("my model", "my_model", "Net", "net", "nul", "x" * 200 + "a", "x" * 200 + "b")
    run = fabricate_run(tmp_path, corruptions=())
    run.record["models"] = [{**run.record["models"][0], "name": name} for name in names]
    stems = [Run(run.directory, run.record).file_names[name] for name in names]
    assert len({stem.casefold() for stem in stems}) == len(names)
    assert all(re.fullmatch(r"[\w.+=@-]{1,120}", stem) for stem in stems)
    assert stems[1] == "my_model"
    assert stems[4] != "nul"


def test_the_difference_to_the_baseline_is_drawn_per_corruption_and_policy(tmp_path):
    run = fabricate_run(tmp_path, selection=("speckle_noise", "saturate"), severities=(1,))
    summary = Findings.of(run).summary
    figure = draw_against_baseline(run, summary, "sparse")
    assert figure is not None
    axis = figure.axes[0]
    assert [label.get_text() for label in axis.get_yticklabels()] == [
        "gaussian noise",
        "contrast",
        "mean of corruptions",
    ]
    drawn = {bars.get_label(): bars.lines[0].get_xdata() for bars in axis.containers}
    assert set(drawn) == {"trained", "validated"}
    trained = summary[(summary["policy"] == "trained") & summary["perturbation"].isin([*run.corruptions, MEAN])]
    np.testing.assert_allclose(drawn["trained"], 100 * trained["versus"])
    assert not has_comparison(summary, "plain")


def test_sample_images_of_an_attack_carry_its_mark_and_those_of_an_earlier_version_are_left_out(tmp_path, capsys):
    run = fabricate_run(tmp_path, corruptions=())
    own = {"model": "sparse", "perturbation": "pgd", "norm": "linf", "eps": 8 / 255, "lam": 0.1}
    rows = [
        {**own, "threat": "whitebox", "trust": "SUSPECT", "trust_reason": "Square beats it"},
        *({**own, **other, "threat": "whitebox", "trust": "INVALID", "trust_reason": "another row"}
          for other in ({"model": "plain"}, {"perturbation": "mine"}, {"norm": "l2"}, {"eps": 4 / 255}, {"lam": 0.5})),
        {**own, "threat": "transfer", "trust": "INVALID", "trust_reason": "another threat"},
    ]  # fmt: skip
    attacks = Attacks(pd.DataFrame(rows), pd.DataFrame(), pd.DataFrame(columns=["model", "perturbation", "norm"]))
    run.directory.write_samples({name: np.array(value) for name, value in own.items()}, "attack_samples")
    (note,) = (drawing.note for drawing in list_attack_figures(run, attacks) if drawing.name == "adversarial_images")
    assert note.startswith("sparse, pgd L∞ 8/255, whitebox at training λ; ")
    assert note.endswith("|z(x′) − z(x)|. Marked SUSPECT: Square beats it.")

    run.directory.write_samples(
        {name: np.array(value) for name, value in {**own, "model": "x"}.items()}, "attack_samples"
    )
    assert [drawing.name for drawing in list_attack_figures(run, attacks)] == ["accuracy_by_eps"], "of another run"

    run.directory.write_samples({"title": np.array("sparse, pgd L∞ 8/255"), "eps": np.array(8 / 255)}, "attack_samples")
    assert [drawing.name for drawing in list_attack_figures(run, attacks)] == ["accuracy_by_eps"]
    assert "note: the figure adversarial_images is left out, as an earlier version" in capsys.readouterr().err


@pytest.mark.parametrize(
    "change",
    [
        {"model": np.array("another")},
        {"titles": np.array(json.dumps([["clean", 0], ["fog", 5]]))},
        {"lambdas": None},
        {"codes": None},
        {"titles": None, "clean": np.zeros(3)},
    ],
)
def test_sample_images_of_another_run_or_version_are_left_out(change, tmp_path):
    """They were shown as this run's, or ended the report in a KeyError."""
    run = fabricate_run(tmp_path, corruptions=("contrast",), severities=(5,), n=8)
    own = {
        "titles": np.array(json.dumps([["clean", 0], ["contrast", 5]])),
        "classes": np.array(json.dumps(["cat", "dog"])),
        "model": np.array("sparse"),
        "lambdas": np.array([0.1, 0.5]),
        "perturbed": np.zeros((2, 2, 8, 8, 3), np.uint8),
        "reconstructed": np.zeros((2, 2, 2, 8, 8, 3), np.uint8),
        "atoms": np.zeros((4, 3, 3, 3), np.float32),
        "codes": np.zeros((2, 2, 8, 8), np.float16),
        "code_atoms": np.arange(2),
    }

    def list_names() -> set[str]:
        return {drawing.name for drawing in list_figures(Findings.of(run))} & {"samples", "dictionary"}

    run.directory.write_samples(own)
    assert list_names() == {"samples", "dictionary"}
    run.directory.write_samples({name: value for name, value in {**own, **change}.items() if value is not None})
    assert list_names() == set()
    assert ("codes" in change) == (read_samples(run) is not None)
