"""Packages of the same name: either side of the conflict gets a sentence."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import robustness

ROOT = Path(__file__).parents[2]


START = "import sys; from sdnet_core.shadows import start; sys.exit(start())"


def call(folder: Path, package: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run Python where a foreign ``package`` is found before this project's."""
    (folder / package).mkdir(exist_ok=True)
    (folder / package / "__init__.py").write_text("")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(folder), str(ROOT)))}
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, cwd=folder, env=environment)


@pytest.mark.parametrize(
    ("package", "words"),
    [
        ("data_prep", ["-m", "robustness.run"]),
        ("data_prep", ["-m", "sdnet_core.train"]),
        ("robustness", ["-c", START]),  # the console script
    ],
)
def test_a_foreign_package_before_ours_is_named(tmp_path, package, words):
    done = call(tmp_path, package, *words, "--help")
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: expected the package {package} of sdnet-robustness in ")
    assert str(tmp_path) in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("module", ["robustness.run", "sdnet_core.train"])
def test_an_import_next_to_a_foreign_data_prep_says_so(tmp_path, module):
    done = call(tmp_path, "data_prep", "-c", f"import {module}")
    assert "ImportError: expected the package data_prep of sdnet-robustness" in done.stderr


def test_who_wants_the_other_robustness_is_told_which_this_is():
    with pytest.raises(AttributeError, match="'datasets': this is the robustness of sdnet-robustness"):
        robustness.datasets  # noqa: B018
    with pytest.raises(AttributeError, match=r"no attribute 'nonsense'$"):
        robustness.nonsense  # noqa: B018
