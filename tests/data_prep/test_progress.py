"""Progress in a log file: lines now and then, no carriage returns."""

from __future__ import annotations

import re
import sys

from data_prep import progress


def test_a_fast_loop_writes_nothing_to_a_log(capsys):
    assert sum(progress.make_bar(range(10_000))) == 49_995_000
    assert capsys.readouterr().err == ""


def test_a_slow_one_writes_a_line_each_half_minute(capsys, monkeypatch):
    clock = iter(range(0, 10_000, 7))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    with progress.make_bar(total=20, desc="measured", unit="img") as bar:
        for _ in range(20):
            bar.update()
            bar.refresh()
    written = capsys.readouterr().err
    lines = written.splitlines()
    assert 2 <= len(lines) <= 5
    assert "\r" not in written
    assert all(re.match(r"measured:? +\d+% \d+/20img \[", line) for line in lines)


def test_a_quiet_bar_and_closed_output_are_silent(capsys, monkeypatch):
    assert list(progress.make_bar([1, 2], quiet=True)) == [1, 2]
    monkeypatch.setattr(sys, "stderr", None)
    assert list(progress.make_bar([1, 2])) == [1, 2]
