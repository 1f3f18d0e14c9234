from __future__ import annotations

from pathlib import Path

import pytest
from filelock import FileLock, Timeout

from data_prep.command_line import parse_names
from data_prep.errors import InputError
from data_prep.files import is_hidden, locked


def test_names_are_split_at_commas_without_blanks_and_repetitions() -> None:
    assert parse_names("a, b,,a ,c") == ("a", "b", "c")
    assert parse_names(" ,") == ()


def test_a_comma_in_a_path_belongs_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lr=0.1,wd=5e-4,b=8").mkdir()
    (tmp_path / "lr=0.1,wd=5e-4,b=8" / "m.py").write_text("")
    (tmp_path / "resnet18").mkdir()
    assert parse_names("lr=0.1,wd=5e-4,b=8") == ("lr=0.1,wd=5e-4,b=8",)
    assert parse_names("resnet18,lr=0.1,wd=5e-4,b=8, resnet50") == ("resnet18", "lr=0.1,wd=5e-4,b=8", "resnet50")
    assert parse_names("lr=0.1,wd=5e-4,b=8/m.py:build,x") == ("lr=0.1,wd=5e-4,b=8/m.py:build", "x")
    assert parse_names("timm:x@lr=0.1,wd=5e-4,b=8/m.py,x") == ("timm:x@lr=0.1,wd=5e-4,b=8/m.py", "x")
    assert parse_names("lr=0.1,wd=5e-4") == ("lr=0.1", "wd=5e-4")  # which is not there


def test_a_backslash_keeps_a_comma_together() -> None:
    assert parse_names(r"mine\,yours,theirs") == ("mine,yours", "theirs")


def test_a_name_of_any_length_is_a_name() -> None:
    long = "x" * 5000
    assert parse_names(f"{long},{long}y") == (long, f"{long}y")


def test_what_systems_leave_is_hidden() -> None:
    hidden = [".DS_Store", "._x.jpg", "Thumbs.db", "THUMBS.DB", "desktop.ini", "__MACOSX", ".git"]
    assert all(map(is_hidden, hidden))
    assert not any(map(is_hidden, ["x.jpg", "thumbs.db.jpg", "_x", "DS_Store"]))


def test_a_comma_in_a_known_name_belongs_to_it() -> None:
    known = ("lr=0.1,wd=5e-4", "lr=0.1")
    assert parse_names("lr=0.1,wd=5e-4,lr=0.1", known) == known
    assert parse_names("lr=0.1,wd", known) == ("lr=0.1", "wd")


def test_a_lock_is_refused_or_waited_for_with_a_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def acquire(lock: FileLock, timeout: float = -1) -> None:
        asked.append(timeout)
        if timeout == 0:
            raise Timeout(lock.lock_file)

    asked: list[float] = []
    with (
        locked(tmp_path / ".lock"),
        pytest.raises(InputError, match="choose another"),
        locked(tmp_path / ".lock", "choose another"),
    ):
        pass
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(FileLock, "acquire", acquire)
    with locked(tmp_path / ".lock"):
        assert asked == [0, -1]
    assert capsys.readouterr().err == f"note: waiting for another process that writes to {tmp_path}\n"
