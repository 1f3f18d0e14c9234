"""Data of the page: how to cite and repeat a run, its colours, its size, its JSON."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from fabricate import SPARSE, fabricate_run

import robustness
from data_prep import corrupt, corruption_names, load_images
from robustness.analysis.findings import Findings
from robustness.analysis.page import to_embedded_json, write_page
from robustness.analysis.page_data import collect


def test_the_way_to_cite_is_that_of_the_citation_file(tmp_path):
    cff = (Path(__file__).parents[2] / "CITATION.cff").read_text()
    cite = collect(Findings.of(fabricate_run(tmp_path)))["cite"]
    title, authors = re.search(r'^title: "(.*)"', cff, re.M)[1], re.findall(r'^  - name: "(.*)"', cff, re.M)
    assert f"title = {{{title}}}" in cite
    assert f"author = {{{{{' and '.join(authors)}}}}}" in cite
    for name, given in re.findall(r"family-names: (.*?), given-names: (.*?)}", cff):
        assert f"{name}, {given}" in re.sub(r"\s+", " ", cite)
    for field in ("collection-title", "    title", "    year"):
        assert re.search(rf'{field}: "?(.*?)"?$', cff, re.M)[1] in cite
    assert not re.search(r"^(url|doi|date-released|repository-code):", cff, re.M), "then the report should cite it, too"


def test_the_command_to_run_it_again_names_no_folder_of_this_machine(tmp_path):
    asked = ["--suite", "/home/me/my suite.toml", "--out=/data/runs/a", "--data-dir", "/data", "--models", "/m/a.st,b"]
    run = fabricate_run(tmp_path / "a", record={"asked": [*asked, "--eps", "2/255,8/255"]})
    rerun = collect(Findings.of(run))["rerun"]
    assert rerun.splitlines()[0] == (
        "python -m robustness.run --suite 'my suite.toml' --out=a --data-dir data --models a.st,b --eps 2/255,8/255"
    )
    assert rerun.splitlines()[-1] == "python -m robustness.report a"


@pytest.mark.parametrize(
    ("asked", "command"),
    [
        ([], ""),
        (["-m", "robustness.ablate", "--recipe", "/m/r.toml"], "python -m robustness.ablate --recipe r.toml"),
        (["-m", "antigravity"], "python -m robustness.run -m antigravity"),
    ],
)
def test_an_ablation_is_repeated_by_its_own_command_and_a_record_names_no_other_module(tmp_path, asked, command):
    run = fabricate_run(tmp_path / "a", record={"asked": asked})
    assert collect(Findings.of(run))["rerun"].splitlines()[0] == command


def test_every_colour_of_text_can_be_read_on_both_backgrounds():
    """WCAG 2: a contrast of 4.5 : 1 at least, in the light and in the dark."""
    css = (Path(robustness.__file__).parent / "analysis/template/page.css").read_text()

    def luminance(colour):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return np.dot([0.2126, 0.7152, 0.0722], linear)

    blocks = re.findall(r":root \{(.*?)\}", css, re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", block))
        for name in ("ink", "soft", "faint", "model", "baseline", "good", "bad", "warn"):
            for ground in ("paper", "card"):
                high, low = sorted((luminance(colours[name]), luminance(colours[ground])), reverse=True)
                assert (high + 0.05) / (low + 0.05) >= 4.5, (name, ground)


def test_the_report_of_a_whole_cifar10c_run_is_below_five_megabytes(tmp_path):
    """15 corruptions, 5 severities, 14 λs, and six sample images under everything, as noisy at every λ as they came."""
    names, lambdas = corruption_names("standard"), tuple(round(0.1 * i, 1) for i in range(1, 15))
    run = fabricate_run(tmp_path, corruptions=tuple(names), lambdas=lambdas, n=20)
    images = load_images("shapes", split="test").subset(6)
    noisy = [corrupt(images.pixels, name, severity=5, indices=images.indices) for name in names]
    perturbed = np.stack([images.pixels, *noisy])
    run.directory.write_samples(
        {
            "titles": np.array(json.dumps([["clean", 0], *([name, 5] for name in names)])),
            "classes": np.array(json.dumps(list("abcdef"))),
            "model": np.array(SPARSE),
            "lambdas": np.array(lambdas),
            "perturbed": perturbed,
            "reconstructed": np.repeat(perturbed[:, :, None], len(lambdas), axis=2),
        }
    )
    write_page(Findings.of(run))
    assert 1e6 < (tmp_path / "report.html").stat().st_size < 5e6


def test_embedded_json_cannot_end_its_element():
    text = to_embedded_json({"a": "</script>", "b": [float("nan"), np.float32(0.5), np.int64(2)], "c": "\u2028"})
    assert "<" not in text
    assert json.loads(text) == {"a": "</script>", "b": [None, 0.5, 2], "c": "\u2028"}
