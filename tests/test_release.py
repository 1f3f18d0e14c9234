"""What is shipped: every data file of the packages, one version, said by every command."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from data_prep.version import find_version

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
COMMANDS = ["data_prep", "sdnet_core", "sdnet_core.train"]
COMMANDS += [f"robustness.{name}" for name in ("run", "report", "compare", "merge", "fit")]


def test_the_wheel_has_every_file_of_the_packages():
    """setuptools takes Python files by itself, and others by these patterns only."""
    for package, patterns in PROJECT["tool"]["setuptools"]["package-data"].items():
        folder = ROOT / package
        kept = {path for pattern in patterns for path in folder.glob(pattern)}
        there = {path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
        assert there == kept, "a data file would be missing from the wheel"


def test_the_version_is_written_once_and_the_changelog_knows_it():
    version = PROJECT["project"]["version"]
    assert find_version() in (version, "unknown")
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize("command", ["data_prep", "robustness.report"])
def test_commands_say_their_version(command):
    words = [sys.executable, "-m", command, "--version"]
    said = subprocess.run(words, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert said == f"sdnet-robustness {find_version()}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_version(command):
    source = ROOT / Path(*command.split("."))
    file = source / "__main__.py" if source.is_dir() else source.with_suffix(".py")
    assert "add_version(parser)" in file.read_text()
