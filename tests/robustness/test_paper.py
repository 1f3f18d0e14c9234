"""The paper's table: layout, bold only for a significant lead, published figures only where they are comparable."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from fabricate import fabricate_run, make_law

import robustness
from robustness.analysis.findings import Findings
from robustness.analysis.paper import differences, find_published, tabulate_severities
from robustness.analysis.tables import write_severities

LAW = make_law(0.0, 0.5)
CIFAR = {"name": "cifar10", "title": "cifar10 (JPEG q75)", "split": "test", "n": 40, "source": "generated"}
CIFAR |= {"fingerprint": "f", "classes": list("abcd")}


def answer(model, perturbation, severity, lam, split, n):
    """The law always says 0.5: 30 of 40 right there; 10 fewer at λ = 0.1; under contrast one image tells them apart."""
    right = {"plain": 20, 0.1: 20, 0.5: 30} if perturbation != "contrast" else {"plain": 20, 0.1: 20, 0.5: 21}
    return {"correct": np.arange(n) < right[lam or model], "residual": np.zeros(n)}


def test_the_best_is_bold_only_beyond_doubt(tmp_path):
    run = fabricate_run(tmp_path, answer=answer, law=LAW)
    table = tabulate_severities(Findings.of(run), "sparse").set_index(["corruption", "severity"])
    assert list(table.index[:7]) == [("clean", "0"), *(("gaussian_noise", s) for s in [*"12345", "mean"])]
    noise, contrast = table.loc[("gaussian_noise", "3")], table.loc[("contrast", "mean")]
    assert list(noise[["baseline", "trained", "adaptive", "best"]]) == [50, 50, 75, "adaptive"]
    assert list(contrast[["baseline", "trained", "adaptive", "best"]]) == [50, 50, 52.5, ""]
    write_severities(Findings.of(run), "sparse", tmp_path)
    markdown, latex = ((tmp_path / f"severities_sparse.{suffix}").read_text() for suffix in ("md", "tex"))
    assert "| clean | 50.0 | 50.0 | **75.0** |" in markdown
    assert "| gaussian_noise 3 | 50.0 | 50.0 | **75.0** |" in markdown
    assert "| contrast mean | 50.0 | 50.0 | 52.5 |" in markdown
    assert r"gaussian\_noise 3 & 50.0 & 50.0 & \textbf{75.0} \\" in latex
    assert r"\begin{table}" in latex
    assert r"\label{tab:severities-sparse}" in latex
    assert "ublished" not in markdown


def test_a_handful_of_images_makes_nothing_bold(tmp_path):
    """5 to 0 of 40: the interval is open to zero, McNemar's p is 0.06; 8 to 0 make it 0.008."""

    def answer_closely(model, perturbation, severity, lam, split, n):
        ahead = 8 if perturbation == "contrast" else 5
        return {"correct": np.arange(n) < (20 + ahead if lam == 0.5 else 20), "residual": np.zeros(n)}

    findings = Findings.of(fabricate_run(tmp_path, answer=answer_closely, law=LAW, severities=(1,)))
    gains = findings.summary[findings.summary["policy"] == "residual"].set_index("perturbation")
    assert gains.loc["gaussian_noise", "gain_low"] < 0 < gains.loc["contrast", "gain_low"]
    assert gains.loc["gaussian_noise", "gain_p"] == 0.0625
    assert gains.loc["mean of corruptions", "gain_p"] == 2 / 2**8, "eight images differ, all one way"
    best = tabulate_severities(findings, "sparse").set_index(["corruption", "severity"])["best"]
    assert list(best["gaussian_noise"]) == ["", ""], "neither severity 1 nor the mean of that one cell"
    assert list(best["contrast"]) == ["adaptive", "adaptive"]


def test_published_means_stand_beside_ours_where_the_protocol_is_theirs(tmp_path):
    run = fabricate_run(tmp_path / "cifar", answer=answer, law=LAW, record={"data": CIFAR})
    table = tabulate_severities(Findings.of(run), "sparse").set_index(["corruption", "severity"])
    published = ["published_baseline", "published_trained", "published_tuned"]
    assert list(table.loc[("gaussian_noise", "mean"), published]) == [44.43, 50.58, 64.92]
    assert table.loc[("gaussian_noise", "3"), published].isna().all()
    assert table.loc[("contrast", "mean"), published].isna().all()
    assert list(table.loc[("clean", "0"), published[:2]]) == [95.54, 95.20], "both of one source"
    assert np.isnan(table.loc[("clean", "0"), "published_tuned"])
    clauses = "; ".join(differences(run, "sparse"))
    for clause in ("JPEG q75", "40 of 10,000", "generated here", "width 8 instead of 64", "other trainings"):
        assert clause in clauses
    few = fabricate_run(tmp_path / "few", severities=(1, 5), record={"data": CIFAR})
    few.record["suite"]["severities"] = [1, 5]
    assert list(find_published(few, "sparse").index) == ["clean"], "clean images have no severities"
    assert "generated here" not in "; ".join(differences(few, "sparse"))
    assert find_published(fabricate_run(tmp_path / "shapes"), "sparse").empty


def test_every_published_figure_has_its_source():
    paths = list((Path(robustness.__file__).parent / "analysis" / "published").glob("*.csv"))
    assert {path.name for path in paths} == {"clean.csv", "corruptions.csv"}
    for path in paths:
        table = pd.read_csv(path)
        assert table["source"].notna().all()
        assert table["accuracy"].between(0, 100).all()
