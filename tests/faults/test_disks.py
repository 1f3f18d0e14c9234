"""Disks that are full, limited or read-only: one sentence, exit code 2, and the same command goes on."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import numpy as np
import pytest
from disturbed import finish, start_run

from data_prep import arrays as disks
from data_prep.errors import PrerequisiteError

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


def check_stopped(process: ForkServerProcess, log: Path, reason: str) -> None:
    code, said = finish(process), log.read_text()
    assert code == 2, said
    assert reason in said
    assert "Traceback" not in said


def test_a_full_disk_stops_the_run_and_more_space_lets_it_go_on(undisturbed, small_disk, tmp_path):
    disk, remount = small_disk
    arguments = (*undisturbed.arguments, "--out", disk / "run")
    finished = []
    for size in ("64k", "160k"):
        remount(f"size={size}")
        check_stopped(start_run(*arguments, log=tmp_path / "log"), tmp_path / "log", "error: the disk is full")
        finished.append(len(undisturbed.check(disk / "run")))
    assert 0 < finished[0] < finished[1] <= len(undisturbed.outcomes)
    remount("size=64m")
    assert finish(start_run(*arguments, log=tmp_path / "log")) == 0
    undisturbed.check_finished(disk / "run")


def test_a_limit_on_the_size_of_files_is_told_as_a_full_disk(undisturbed, tmp_path):
    arguments = (*undisturbed.arguments, "--out", tmp_path / "run")
    process = start_run(*arguments, log=tmp_path / "log", largest_file=8 << 10)
    check_stopped(process, tmp_path / "log", "error: the disk is full")
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
    check_stopped(start_run(*arguments, log=tmp_path / "log"), tmp_path / "log", "cannot be written")
    remount("rw")
    assert undisturbed.check(disk / "run") == before
    assert finish(start_run(*arguments, log=tmp_path / "log")) == 0
    undisturbed.check_finished(disk / "run")


def test_room_for_an_array_is_there_before_it_is_written_or_its_lack_is_told(small_disk, monkeypatch):
    """A write into a file without room behind it would end the process by SIGBUS."""
    disk, _ = small_disk
    array = disks.allocate_array(disk / "fits.npy", np.uint8, (8, 1024), "--out")
    assert array.shape == (8, 1024)
    assert (disk / "fits.npy").stat().st_blocks * 512 >= array.nbytes
    with pytest.raises(PrerequisiteError, match=r"free disk in .* choose another --out"):
        disks.allocate_array(disk / "large.npy", np.uint8, (80, 1024), "--out")
    monkeypatch.setattr(disks, "check_space", lambda *_: None)  # as where another program takes the room meanwhile
    with pytest.raises(OSError, match="No space left"):
        disks.allocate_array(disk / "large.npy", np.uint8, (80, 1024), "--out")
