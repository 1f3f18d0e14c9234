"""Disks that are full, limited or read-only: one sentence, exit code 2, and the same command goes on."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from disturbed import finish, start_run

Remount = Callable[[str], None]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[tuple[Path, Remount]]:
    """A file system of 64 KiB, and a function that mounts it anew with other options."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(options: str) -> None:
        words = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        try:
            subprocess.run(words, check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"no tmpfs can be mounted here: {getattr(error, 'stderr', '') or error}")

    mount("size=64k")
    yield folder, lambda options: mount(f"remount,{options}")
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_stops_the_run_and_more_space_lets_it_go_on(undisturbed, small_disk, tmp_path):
    disk, remount = small_disk
    arguments = (*undisturbed.arguments, "--out", disk / "run")
    finished = []
    for size in ("64k", "160k"):
        remount(f"size={size}")
        code = finish(start_run(*arguments, log=tmp_path / "log"))
        said = (tmp_path / "log").read_text()
        assert code == 2, said
        assert "error: the disk is full" in said
        assert "Traceback" not in said
        finished.append(len(undisturbed.check(disk / "run")))
    assert 0 < finished[0] < finished[1] < len(undisturbed.outcomes)
    remount("size=64m")
    assert finish(start_run(*arguments, log=tmp_path / "log")) == 0
    undisturbed.check_finished(disk / "run")


def test_a_limit_on_the_size_of_files_is_told_as_a_full_disk(undisturbed, tmp_path):
    arguments = (*undisturbed.arguments, "--out", tmp_path / "run")
    assert finish(start_run(*arguments, log=tmp_path / "log", largest_file=8 << 10)) == 2
    said = (tmp_path / "log").read_text()
    assert "error: the disk is full" in said
    assert "Traceback" not in said
    undisturbed.check(tmp_path / "run")
    assert finish(start_run(*arguments, log=tmp_path / "log")) == 0
    undisturbed.check_finished(tmp_path / "run")


def test_an_output_that_becomes_read_only_is_named_and_keeps_what_it_holds(undisturbed, small_disk, tmp_path):
    disk, remount = small_disk
    remount("size=64m")
    arguments = (*undisturbed.arguments, "--out", disk / "run")
    assert finish(start_run(*arguments, "--corruptions", "pixelate", log=tmp_path / "log")) == 0
    before = undisturbed.check(disk / "run")
    remount("ro")
    assert finish(start_run(*arguments, log=tmp_path / "log")) == 2
    said = (tmp_path / "log").read_text()
    assert "cannot be written" in said
    assert "Traceback" not in said
    remount("rw")
    assert undisturbed.check(disk / "run") == before
    assert finish(start_run(*arguments, log=tmp_path / "log")) == 0
    undisturbed.check_finished(disk / "run")
