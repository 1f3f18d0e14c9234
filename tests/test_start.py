"""Commands start fast: nothing heavy is imported before it is used."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import data_prep
import robustness

HEAVY = ("torch", "torchvision", "pandas", "matplotlib", "scipy", "pyarrow", "PIL.ImageDraw")
PARSERS = ("run", "report", "compare", "merge", "fit", "ablate")


def list_heavy(code: str) -> str:
    """The heavy modules that a fresh Python has after ``code``."""
    code = f"import sys\n{code}\nprint(*(name for name in {HEAVY} if name in sys.modules), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stderr.strip()


def test_the_packages_import_nothing_heavy_until_it_is_used():
    assert list_heavy("import robustness, data_prep, sdnet_core") == ""
    assert "torch" in list_heavy("import robustness; robustness.evaluate")


@pytest.mark.parametrize(
    "command",
    [*(f"robustness.{name}" for name in PARSERS), "data_prep.__main__", "sdnet_core.train", "sdnet_core.__main__"],
)
def test_help_imports_nothing_heavy(command):
    code = f"from {command} import main\nsys.argv = ['x', '--help']\ntry:\n    main()\nexcept SystemExit as end:\n"
    assert list_heavy(f"{code}    assert end.code == 0") == ""


def test_the_help_of_visualize_imports_nothing_heavy():
    assert list_heavy("from sdnet_core.visualize import make_parser\nmake_parser()") == ""


def test_the_analysis_of_a_run_needs_no_torch():
    assert "torch" not in list_heavy("import robustness.analysis.write, robustness.analysis.overview").split()


def test_an_unknown_attribute_of_a_package_is_no_attribute():
    with pytest.raises(AttributeError, match="'data_prep' has no attribute 'nonsense'"):
        data_prep.nonsense  # noqa: B018


@pytest.mark.parametrize(("floor", "other"), [("measure", "analysis"), ("analysis", "measure")])
def test_measuring_and_analysis_share_the_run_directory_only(floor, other):
    files = list((Path(robustness.__file__).parent / floor).rglob("*.py"))
    assert len(files) > 20
    imports = re.compile(rf"^\s*(from|import) robustness\.{other}\b", re.MULTILINE)
    assert [file.name for file in files if imports.search(file.read_text(encoding="utf-8"))] == []
