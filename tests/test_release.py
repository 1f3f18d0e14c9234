"""Contents of the release: every data file of the packages, one version, printed by every command."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

import pytest

from data_prep.command_line import find_version

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
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()


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


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_wheel_made_from_the_sdist_runs_the_demo_outside_the_repository(tmp_path):
    """Nothing is fetched: the build takes the setuptools that is here, the wheel the packages that are here."""

    def call(*words: object, cwd: Path, **environment: str) -> str:
        done = subprocess.run(
            [sys.executable, *map(str, words)], cwd=cwd, env=os.environ | environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    source, outside = tmp_path / "source", tmp_path / "outside"
    outside.mkdir()
    ignored = shutil.ignore_patterns(".*", "*.egg-info", "__pycache__", "build", "dist", "data", "runs", "training")
    shutil.copytree(ROOT, source, ignore=ignored)
    make_sdist = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"
    call("-c", make_sdist, tmp_path, cwd=source)
    (sdist,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    pip = ("-m", "pip", "--disable-pip-version-check")
    alone = ("--no-deps", "--no-index")
    call(*pip, "wheel", *alone, "--no-build-isolation", "--wheel-dir", tmp_path, unpacked, cwd=tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    call(*pip, "install", *alone, "--target", tmp_path / "installed", wheel, cwd=tmp_path)
    here = {"PYTHONPATH": str(tmp_path / "installed")}
    assert str(tmp_path) in call("-c", "import robustness.run as r; print(r.__file__)", cwd=outside, **here)
    call("-m", "robustness.run", "--suite", "demo", "--n", "10", "--corruptions", "fog", cwd=outside, **here)
    out = outside / "results" / "runs" / "demo"
    assert (out / "cells.csv").exists()
    assert (out / "report.html").exists()
