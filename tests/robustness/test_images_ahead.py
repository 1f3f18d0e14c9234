"""Images that a second thread makes ahead of time: the same outcomes, the same failures, nothing left behind."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from tqdm import tqdm

from data_prep import load_images
from data_prep.errors import InputError
from robustness.measure import perturbations
from robustness.measure.executors import LocalExecutor
from robustness.measure.images_ahead import ImagesAhead, prepare_images
from robustness.measure.jobs import Job, plan_jobs
from robustness.measure.plan import plan_tasks
from robustness.measure.subjects import Subject
from robustness.measure.tasks import Workplace
from robustness.run_directory import RunDirectory
from robustness.suite import Suite
from sdnet_core import build_model, weights_fingerprint

IMAGES = load_images("shapes", split="test").subset(12)


@pytest.fixture
def workplace(tmp_path: Path) -> Workplace:
    return Workplace(None, RunDirectory(tmp_path), torch.device("cpu"), 4, tqdm(disable=True))


@pytest.fixture
def jobs() -> list[Job]:
    """Clean images, then noise and blur at two severities each, for two models."""
    suite = Suite(
        name="s", data="shapes", models=("m",), corruptions=("gaussian_noise", "defocus_blur"), severities=(1, 3)
    )
    subjects = []
    for seed in range(2):
        torch.manual_seed(seed)
        network = build_model("sdnet18", width=2).eval()
        subjects.append(Subject(f"model {seed}", network, weights_fingerprint(network), {}))
    return plan_jobs(plan_tasks(suite, subjects, IMAGES, archive=None), [])


def measure(jobs: list[Job], workplace: Workplace, *, overlap: bool) -> dict[str, pd.DataFrame | str]:
    """Outcomes of all cells, or the reasons why there are none, by key."""
    found: dict[str, pd.DataFrame | str] = {}
    for result in LocalExecutor(overlap=overlap).execute(jobs, workplace):
        found |= {key: frame for key, (frame, _) in result.outcomes.items()} | dict.fromkeys(
            result.failed, result.reason
        )
    assert not list(workplace.directory.path.iterdir())
    return found


def remember_threads(monkeypatch: pytest.MonkeyPatch, fails_at: tuple[str, int] | None = None) -> list[str]:
    """Note the thread of every corruption of a batch; let one of them fail."""
    threads: list[str] = []
    corrupt = perturbations.corrupt

    def note(pixels: torch.Tensor, name: str, *, severity: int, **options: object) -> torch.Tensor:
        threads.append(threading.current_thread().name)
        if (name, severity) == fails_at:
            raise InputError("damaged")
        return corrupt(pixels, name, severity=severity, **options)

    monkeypatch.setattr(perturbations, "corrupt", note)
    return threads


def test_outcomes_are_the_same_whichever_thread_makes_the_images(monkeypatch, jobs, workplace):
    alone = measure(jobs, workplace, overlap=False)
    threads = remember_threads(monkeypatch)
    ahead = measure(jobs, workplace, overlap=True)
    assert len(ahead) == len(alone) == 2 * 5
    for key, frame in ahead.items():
        pd.testing.assert_frame_equal(frame, alone[key])
    assert all(name.startswith("images-ahead") for name in threads)
    assert len(threads) == 4 * len(IMAGES) // workplace.batch_size


def test_without_an_accelerator_no_image_is_made_ahead(monkeypatch, jobs, workplace):
    threads = remember_threads(monkeypatch)
    list(LocalExecutor().execute(jobs, workplace))
    assert set(threads) == {threading.current_thread().name}


def test_a_failure_ahead_of_time_is_the_failure_of_its_own_job(monkeypatch, jobs, workplace):
    threads = remember_threads(monkeypatch, fails_at=("defocus_blur", 1))
    found = measure(jobs, workplace, overlap=True)
    failed = {cell.key for job in jobs for cell in job.cells if job.title == "test defocus_blur 1"}
    assert {key for key, outcome in found.items() if isinstance(outcome, str)} == failed
    assert all(found[key] == "damaged" for key in failed)
    assert [name for name in threads if not name.startswith("images-ahead")] == [threading.current_thread().name]


def test_images_of_a_job_that_was_not_begun_are_made_when_they_are_taken(jobs, workplace):
    with ImagesAhead() as ahead, prepare_images(jobs[1], workplace) as expected:
        ahead.start(jobs[2], workplace)
        with ahead.take(jobs[1], workplace) as images:
            np.testing.assert_array_equal(images.pixels[0:12], expected.pixels[0:12])


def test_an_early_end_stops_the_thread_between_two_batches(monkeypatch, jobs, workplace):
    begun, may_end = threading.Event(), threading.Event()
    threads = remember_threads(monkeypatch)
    noted = perturbations.corrupt

    def wait(*arguments: object, **options: object) -> torch.Tensor:
        begun.set()
        assert may_end.wait(30)
        return noted(*arguments, **options)

    monkeypatch.setattr(perturbations, "corrupt", wait)
    with ImagesAhead() as ahead:
        ahead.start(jobs[1], workplace)
        assert begun.wait(30)
        threading.Timer(0.2, may_end.set).start()
    assert len(threads) == 1, "of three batches"
    assert not list(workplace.directory.path.iterdir())
