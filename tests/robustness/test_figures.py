"""Figures: what they show is what was computed."""

from __future__ import annotations

import numpy as np
import pytest
from fabricate import fabricate_run

from robustness.analysis.findings import Findings
from robustness.analysis.model_figures import draw_against_baseline, draw_law
from robustness.laws import FittedLaw, NoiseLevel
from robustness.policies import ResidualLaw


def test_the_law_is_drawn_clipped_with_every_level_as_a_point():
    points = [NoiseLevel("shot_noise", level, 10.0 * level, 0.1 * level, 0.8, 0.7, level < 4) for level in range(1, 6)]
    figure = draw_law(FittedLaw(ResidualLaw(0.01, 0.0, 0.2, 0.4), 0.5, tuple(points), {}), "sparse")
    axis = figure.axes[0]
    line = axis.lines[0].get_ydata()
    assert (min(line), max(line)) == (pytest.approx(0.2), pytest.approx(0.4))
    shown = np.concatenate([np.asarray(c.get_offsets()) for c in axis.collections])
    assert sorted(shown.tolist()) == pytest.approx(np.array([[p.residual, p.lam] for p in points]))


def test_the_difference_to_the_baseline_is_drawn_per_corruption_and_policy(tmp_path):
    run = fabricate_run(tmp_path, selection=("speckle_noise", "saturate"), severities=(1,))
    summary = Findings.of(run).summary
    figure = draw_against_baseline(run, summary, "sparse")
    assert figure is not None
    axis = figure.axes[0]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["gaussian noise", "contrast"]
    drawn = {bars.get_label(): bars.lines[0].get_xdata() for bars in axis.containers}
    assert set(drawn) == {"trained", "validated"}
    trained = summary[(summary["policy"] == "trained") & summary["perturbation"].isin(run.corruptions)]
    np.testing.assert_allclose(drawn["trained"], 100 * trained["versus"])
    assert draw_against_baseline(run, summary, "plain") is None
