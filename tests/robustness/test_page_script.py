"""The page's script apart from the browser: its functions run in Node.js with the data of a page."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest
from fabricate import fabricate_run

from robustness.analysis.findings import Findings
from robustness.analysis.page import to_embedded_json
from robustness.analysis.page_data import collect
from robustness.analysis.texts import read_template

NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="needs Node.js; other tests of the page need a browser")
PAGE = """
const document = { getElementById: () => ({ textContent: DATA }) };
const matchMedia = () => ({ matches: false });
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The findings of a run, and a function that evaluates JavaScript expressions in the page of the run."""
    findings = Findings.of(fabricate_run(tmp_path_factory.mktemp("run"), n=200))
    data = json.dumps(to_embedded_json(collect(findings)))

    def evaluate(*expressions: str) -> list[object]:
        script = f"const DATA = {data};{PAGE}{read_template('tools.js')}"
        script += f"console.log(JSON.stringify([{', '.join(expressions)}]));"
        assert NODE is not None
        done = subprocess.run([NODE, "-"], input=script, capture_output=True, text=True, check=True)
        values: list[object] = json.loads(done.stdout)
        return values

    return findings, evaluate


def test_numbers_are_written_like_those_of_the_tables(page):
    _, evaluate = page
    written = evaluate("number(-1.25)", "number(null)", "signed(2)", "range(1, 2)", "range(null, 2)", "percent(8.04)")
    assert written == ["−1.3", "–", "+2.0", "[1.0, 2.0]", "", "8.0\u00a0%"]


def test_ticks_are_round_and_within_the_axis(page):
    _, evaluate = page
    assert evaluate("ticks(0, 1.4, 5)", "ticks(93, 100, 3)") == [[0, 0.5, 1], [95, 100]]


def test_the_page_shows_the_values_of_the_summary(page):
    findings, evaluate = page
    rows = findings.summary[findings.summary["policy"] == "trained"].set_index("perturbation")
    at_trained, against, reference = evaluate(
        "trained('contrast').accuracy", "trained('contrast').versus", "baseline('contrast').accuracy"
    )
    assert at_trained == pytest.approx(100 * rows.loc["contrast", "accuracy"], abs=1e-4)
    assert against == pytest.approx(at_trained - reference, abs=1e-3)


def test_a_difference_is_coloured_by_its_direction(page):
    _, evaluate = page
    values = [f"mood({{ gain_direction: {direction} }}, 'gain')" for direction in (1, 0, -1)]
    assert evaluate(*values) == ["good", "", "bad"]
