"""Models with vices, put together at random, between honest ones: no number is silently wrong, nobody else's moves."""

from __future__ import annotations

import json
import random
import tempfile
from collections import Counter
from functools import cache
from pathlib import Path

import attacked
import numpy as np
import pytest
from hostile import examples
from hypothesis import given
from hypothesis import strategies as st
from vices import CHANGING, FAILING, HARMLESS, VICES, WRAPPERS, Vice, Vicious, describe_globals

from data_prep import load_images
from robustness.analysis.frames import Run
from robustness.measure.foreign import wrap_model
from robustness.measure.loaders.loaded import Wanted
from robustness.measure.subjects import Subject
from robustness.suite import Suite
from sdnet_core.environment import describe_environment

TOLD: Counter[str] = Counter()
"""How the examples ended."""


@cache
def images():
    return load_images("shapes", split="test").subset(12)


def measure(folder: Path, models: dict[str, object]) -> tuple[Run, dict[tuple[str, str], np.ndarray]]:
    """The run of several models, and the predictions of every finished cell."""
    suite = Suite(name="s", data="shapes", models=tuple(models), corruptions=("contrast",), severities=(5,), n=12)
    subjects = [
        Subject(name, wrap_model(name, model, Wanted(num_classes=10)), "", {}) for name, model in models.items()
    ]
    _, run = attacked.measure(suite, subjects, images(), folder, batch_size=5, timeout=60, quiet=True)
    answers = {}
    for cell in run.record["cells"]:
        if cell["status"] == "done":
            frame, _ = run.directory.read_outcome(cell["key"], n=12)
            answers[cell["model"], cell["perturbation"]] = frame["predicted"].to_numpy()
    return run, answers


@cache
def expected() -> dict[tuple[str, str], np.ndarray]:
    with tempfile.TemporaryDirectory() as folder:
        honest = {"before": Vicious([], seed=1), "vicious": Vicious([]), "after": Vicious([], seed=2)}
        run, answers = measure(Path(folder), honest)
        assert not run.missing
        assert all(verdict.mark == "OK" for verdict in run.soundness.values())
        return answers


def check(vices: list[Vice], wrapper: str) -> None:
    kinds = {vice.kind for vice in vices}
    random.seed(1)  # not the seed that a leaking model would leave; measuring draws from it, too
    before = describe_globals()
    with tempfile.TemporaryDirectory() as folder:
        vicious = WRAPPERS[wrapper](Vicious(vices))
        run, answers = measure(
            Path(folder), {"before": Vicious([], seed=1), "vicious": vicious, "after": Vicious([], seed=2)}
        )
        assert describe_globals() == before
        for place in ("clean", "contrast"):
            for name in ("before", "after"):
                assert np.array_equal(answers[name, place], expected()[name, place]), f"{name} has moved"
        cells = [cell for cell in run.record["cells"] if cell["model"] == "vicious"]
        mark = run.soundness["vicious", None].mark
        for cell in cells:
            place = ("vicious", cell["perturbation"])
            if cell["status"] == "failed":
                assert kinds & {FAILING, CHANGING}, f"a harmless model fails: {cell['reason']}"
                assert cell["reason"]
                assert "\n" not in cell["reason"]
                TOLD["failed, with the reason"] += 1
                continue
            assert cell["status"] == "done"
            is_right = np.mean(answers[place] == expected()[place]) > 0.9  # half precision may turn one of twelve
            assert is_right or mark != "OK", "a wrong number without a mark"
            assert FAILING not in kinds, "an answer of a model that has none"
            assert mark == "OK" or CHANGING in kinds, f"a harmless model is accused: {run.soundness}"
            TOLD["right" if is_right and mark == "OK" else "marked"] += 1
        assert json.loads((Path(folder) / "run.json").read_text())["status"] in ("complete", "failed")


@pytest.fixture(autouse=True, scope="module")
def without_git():
    """To ask for the revision takes longer than to measure."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("robustness.measure.measurement.describe_environment", cache(describe_environment))
        yield


def name_group(vice: Vice) -> str:
    """Of the vices that choose what the logits come in, a model has one."""
    return "output" if vice.output is not Vice("", HARMLESS).output else vice.name


@pytest.mark.parametrize("vice", VICES, ids=lambda vice: vice.name)
def test_each_vice_alone(vice):
    check([vice], "none")


@examples(0.2)
@given(
    st.lists(st.sampled_from(VICES), min_size=2, max_size=5, unique_by=name_group), st.sampled_from(sorted(WRAPPERS))
)
def test_vices_together(vices, wrapper):
    check(vices, wrapper)


def test_the_examples_reach_every_end(capsys):
    """Runs after the others; shows how many cells ended how."""
    with capsys.disabled():
        print(f"\nends of the cells: {dict(TOLD)}; vices {len(VICES)} ({Counter(vice.kind for vice in VICES)})")
    assert not TOLD or TOLD.keys() >= {"right", "marked", "failed, with the reason"}
