"""Models that raise, answer nonsense or hang: their cells are named with the reason, and no other cell is lost."""

from __future__ import annotations

import io
import json
import signal

import faulty_models
import pandas as pd
import pytest
import torch
from disturbed import finish, read_outcomes, read_table, start_run

from data_prep.errors import InputError
from robustness import run
from robustness.measure import time_limit as limits

REASONS = {
    "raises": "RuntimeError: the weights are on fire",
    "raises_os_error": "OSError: [Errno 5] Input/output error: '/its/own/file'",
    "has_a_class_too_few": "EvaluationError: logits of shape (20, 9) for 20 images of 10 classes",
    "forgets_the_batch": "EvaluationError: logits of shape (1, 10) for 20 images of 10 classes",
    "answers_without_a_tensor": "expected logits (N, 10), got NoneType from the model; return them as "
    "a tensor, as .logits or under the key logits",
    "is_nan_at_half": "EvaluationError: the logits of 20 of 20 images are not finite at λ = 0.5",
}
"""Message about each of the ``faulty_models``."""


def test_models_that_fail_cost_no_cell_of_another_nor_of_the_lambdas_at_which_they_work(undisturbed, models, tmp_path):
    names, out = [f"{models}/plain.safetensors", *(f"faulty_models:{fault}" for fault in REASONS)], tmp_path / "run"
    arguments = (*undisturbed.arguments, "--out", out, "--models", ",".join(names))
    assert finish(start_run(*arguments, log=tmp_path / "log")) == 1
    said, cells = (tmp_path / "log").read_text(), json.loads((out / "run.json").read_text())["cells"]
    for fault, reason in REASONS.items():
        assert f"cells are missing: {reason}\n" in said
        own = [cell for cell in cells if cell["model"] == f"faulty_models:{fault}"]
        failed = [cell for cell in own if cell["status"] == "failed"]
        assert len(failed) == (len(own) if fault != "is_nan_at_half" else 7)
        assert all(reason in cell["reason"] for cell in failed if not cell.get("norm"))
    table = read_table(out)
    plain = table[table["model"] == "plain"].reset_index(drop=True)
    expected = undisturbed.table[undisturbed.table["model"] == "plain"].reset_index(drop=True)
    pd.testing.assert_frame_equal(plain, expected)
    assert set(table["model"]) == {"plain", "faulty_models:is_nan_at_half"}
    assert set(table["lam"].dropna()) == {0.1}
    missing = sum(cell["status"] != "done" for cell in cells)
    assert f"{missing} cells are missing" in (out / "report.html").read_text()


def test_a_model_that_hangs_is_given_up(undisturbed, models, tmp_path):
    """Only the model that hangs uses its time up, as it sets off the alarm itself; the other has a minute."""
    names, log = f"faulty_models:hangs_until_its_alarm,{models}/plain.safetensors", tmp_path / "log"
    arguments = (*undisturbed.arguments, "--out", tmp_path / "run", "--models", names, "--timeout", "60")
    few = ("--corruptions", "pixelate", "--severities", "5", "--lambdas", "0.1")
    assert finish(start_run(*arguments, *few, log=log)) == 1
    assert "3 of 6 cells are missing: TimeLimitError: took longer than --timeout 60 s" in log.read_text()
    assert set(read_table(tmp_path / "run")["model"]) == {"plain"}


def test_the_limit_is_raised_again_for_a_model_that_swallows_it(monkeypatch):
    monkeypatch.setattr(limits, "_AGAIN", 0.1)
    with pytest.raises(limits.TimeLimitError), limits.time_limit(0.1):
        faulty_models.hangs_and_swallows()(torch.zeros(9, 3, 8, 8), lam=0.1)


def test_a_model_that_hangs_in_native_code_ends_the_process_and_keeps_what_was_finished(undisturbed, models, tmp_path):
    names, out = [f"{models}/plain.safetensors", "faulty_models:hangs_in_native_code"], tmp_path / "run"
    arguments = (*undisturbed.arguments, "--out", out, "--corruptions", "pixelate", "--severities", "5")
    arguments += ("--timeout", "5")
    assert finish(start_run(*arguments, "--models", names[0], log=tmp_path / "log")) == 0
    finished = read_outcomes(out)
    assert len(finished) == 3
    assert finish(start_run(*arguments, "--models", ",".join(names), log=tmp_path / "log", grace=0.5)) == 1
    assert "Timeout" in (tmp_path / "log").read_text()
    assert read_outcomes(out).keys() == finished.keys()


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf"])
def test_time_limits_that_are_none_are_refused(seconds):
    with pytest.raises(InputError, match="expected --timeout as a number of seconds"):
        run.main(["--timeout", seconds, "--dry-run"])


def test_a_limit_works_where_standard_error_is_no_file(monkeypatch):
    """As in a notebook."""
    monkeypatch.setattr("sys.stderr", io.StringIO())
    with pytest.raises(limits.TimeLimitError), limits.time_limit(0.1):
        spin_after_an_inner_limit()


def spin_after_an_inner_limit() -> None:
    with limits.time_limit(60), limits.time_limit(None):
        pass
    while True:
        pass


def test_a_limit_restores_the_alarm_of_its_surroundings():
    before = signal.getitimer(signal.ITIMER_REAL)[0], signal.getsignal(signal.SIGALRM)
    with pytest.raises(limits.TimeLimitError, match=r"took longer than --timeout 0\.2 s"), limits.time_limit(0.2):
        spin_after_an_inner_limit()
    assert signal.getitimer(signal.ITIMER_REAL)[0] == pytest.approx(before[0], abs=5)
    assert signal.getsignal(signal.SIGALRM) is before[1]
