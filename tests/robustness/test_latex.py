"""LaTeX tables: nothing in them that LaTeX would take for a command, or would not know."""

from __future__ import annotations

import re

import pandas as pd
import pytest
from fabricate import fabricate_run

from data_prep import corruption_names
from robustness.analysis.findings import Findings
from robustness.analysis.latex import escape, to_latex
from robustness.analysis.tables import write_tables
from robustness.analysis.texts import to_markdown

HOSTILE = r"50 % of C:\new_{x}^2 ~ $5 & #1 for λ ≥ 0.5 − 1 – ‖x‖² ∞ ✗ é 漢"


def find_foul(text: str) -> list[str]:
    """Find characters outside ASCII, and special characters that are neither escaped nor meant."""
    body = re.sub(r"\$[^$]*\$|\\[a-zA-Z]+|\\\\|\\[%&_#${},]", "", text)
    return re.findall(r"[^\x00-\x7f]|[#^_%$\\]|(?<! )&|&(?! )", body)


def test_every_special_character_is_escaped():
    assert escape(HOSTILE) == (
        r"50 \% of C:\textbackslash{}new\_\{x\}\textasciicircum{}2 \textasciitilde{} \$5 \& \#1 "
        r"for $\lambda$ $\geq$ 0.5 $-$ 1 -- $\|$x$\|$$^2$ $\infty$ $\times$ e ?"
    )
    assert find_foul(escape(HOSTILE)) == []
    assert find_foul("a_b 漢 50% $x") == ["_", "漢", "%", "$"]


def test_long_tables_go_over_pages_and_wide_ones_are_shrunk():
    long = pd.DataFrame({"a": ["1.0"] * 41}, index=pd.Index([f"row {i}" for i in range(41)], name="x"))
    text = to_latex(long, "c", "t_1")
    assert text.splitlines()[:2] == ["% packages: booktabs, longtable", r"\begin{longtable}{lr}"]
    assert r"\caption{c}\label{tab:t-1}\\" in text
    assert text.count(r"x & a \\") == 2, "a head on every page"
    narrow = pd.DataFrame({"a": ["1" * 60]}, index=pd.Index(["r"], name="x"))
    assert "resizebox" not in to_latex(narrow, "c", "t")
    wide = pd.DataFrame({"a": ["1" * 60], "b": ["1" * 12]}, index=pd.Index(["r"], name="x"))
    text = to_latex(wide, "c", "t")
    assert "graphicx" in text.splitlines()[0]
    assert r"\resizebox{\textwidth}{!}{%" in text


def test_columns_of_a_model_stand_below_its_name():
    heads = [("a", "λ=0.1"), ("a", "λ=0.2"), ("a", "b"), ("a b", "c"), ("", "d")]
    table = pd.DataFrame({head: ["1"] for head in heads}, index=pd.Index(["r"], name="x"))
    text = to_latex(table, "c", "t")
    assert r" & \multicolumn{3}{c}{a} & \multicolumn{1}{c}{a b} & \multicolumn{1}{c}{} \\" in text
    assert r"\cmidrule(lr){2-4}\cmidrule(lr){5-5}" in text
    assert r"x & $\lambda$=0.1 & $\lambda$=0.2 & b & c & d \\" in text
    assert to_markdown(table).splitlines()[0] == "| x | a λ=0.1 | a λ=0.2 | a b | a b c | d |"


@pytest.mark.parametrize("severities", [(3,), (1, 2, 3, 4, 5)])
def test_the_tables_of_a_run_with_any_title_are_clean(tmp_path, severities):
    run = fabricate_run(tmp_path, corruptions=tuple(corruption_names("standard")), severities=severities, n=20)
    run.record["data"]["title"] = HOSTILE
    write_tables(Findings.of(run))
    texts = {path.name: path.read_text() for path in (tmp_path / "tables").glob("*.tex")}
    assert set(texts) == {"summary.tex", "severities_sparse.tex", "leaderboard.tex"}
    for text in texts.values():
        assert find_foul("".join(text.splitlines(keepends=True)[1:]).replace("{!}{%", "{!}{")) == []
        rows = [line for line in text.splitlines() if " & " in line and "multicolumn" not in line]
        assert len({len(re.findall(r"(?<!\\)&", row)) for row in rows if "caption" not in row}) == 1
    assert ("longtable" in texts["severities_sparse.tex"]) == (len(severities) == 5)
