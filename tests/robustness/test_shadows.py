"""Packages of the same name: either side of the conflict gets a sentence."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import robustness

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("command", ["robustness.run", "sdnet_core.train"])
def test_a_foreign_data_prep_before_ours_is_named(tmp_path, command):
    (tmp_path / "data_prep").mkdir()
    (tmp_path / "data_prep" / "__init__.py").write_text("")
    path = os.pathsep.join((str(tmp_path), str(ROOT)))
    options = {"capture_output": True, "text": True, "cwd": tmp_path, "env": {**os.environ, "PYTHONPATH": path}}
    done = subprocess.run([sys.executable, "-m", command, "--help"], **options)
    assert done.returncode == 2
    assert done.stderr.startswith("error: expected the package data_prep of sdnet-robustness in ")
    assert str(tmp_path) in done.stderr
    assert "Traceback" not in done.stderr
    done = subprocess.run([sys.executable, "-c", f"import {command}"], **options)
    assert "ImportError: expected the package data_prep of sdnet-robustness" in done.stderr


def test_who_wants_the_other_robustness_is_told_which_this_is():
    with pytest.raises(AttributeError, match="'datasets': this is the robustness of sdnet-robustness"):
        robustness.datasets  # noqa: B018
    with pytest.raises(AttributeError, match=r"no attribute 'nonsense'$"):
        robustness.nonsense  # noqa: B018


def test_the_console_script_names_a_foreign_robustness_before_ours(tmp_path):
    (tmp_path / "robustness").mkdir()
    (tmp_path / "robustness" / "__init__.py").write_text("")
    path = os.pathsep.join((str(tmp_path), str(ROOT)))
    script = "import sys; from sdnet_core.shadows import start; sys.exit(start())"
    options = {"capture_output": True, "text": True, "cwd": tmp_path, "env": {**os.environ, "PYTHONPATH": path}}
    done = subprocess.run([sys.executable, "-c", script, "--help"], **options)
    assert done.returncode == 2
    assert done.stderr.startswith("error: expected the package robustness of sdnet-robustness in ")
    assert "Traceback" not in done.stderr
