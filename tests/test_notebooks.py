"""The notebooks of the documentation run, their claims hold, and their stored outputs come from a run."""

from __future__ import annotations

import re

import nbformat
import pytest
from notebooks import NOTEBOOKS, execute

NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def read_words(cell: nbformat.NotebookNode) -> str:
    """The text that a cell shows, without its numbers, which another machine may round to other ones."""
    texts = [output.get("text") or output.get("data", {}).get("text/html", "") for output in cell.outputs]
    return NUMBER.sub("#", " ".join(texts))


def count_figures(cell: nbformat.NotebookNode) -> int:
    return sum("image/png" in output.get("data", {}) for output in cell.outputs)


def test_there_are_notebooks():
    assert [path.stem for path in NOTEBOOKS] == ["lambda_explained", "own_model"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_shows_what_it_stores(path):
    stored = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    shown = [cell for cell in execute(path).cells if cell.cell_type == "code"]
    for before, after in zip(stored, shown, strict=True):
        assert not [output for output in after.outputs if output.get("name") == "stderr"]
        assert read_words(before) == read_words(after), before.source
        assert count_figures(before) == count_figures(after), before.source
