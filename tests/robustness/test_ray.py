"""A run on a Ray cluster of two nodes: whatever dies, the table is the same as on one machine."""

from __future__ import annotations

import inspect
import json
import os
import re
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from tqdm import tqdm

from data_prep.cifar_c import CifarC
from data_prep.errors import InputError, PrerequisiteError, run_command
from robustness import run
from robustness.measure.executors import JobAttempt
from robustness.measure.jobs import Result
from robustness.measure.measurement import Measurement
from robustness.measure.prepare import prepare
from robustness.measure.request import read_suite
from robustness.measure.tasks import Workplace
from robustness.options import RunOptions
from robustness.run_directory import RunDirectory

pytest.importorskip("ray", reason="Ray is not installed: pip install ray")

FRAIL = '''
"""On a node: kills its process once, waits until a node is lost, and has no memory until a batch is small enough."""
import os, signal, time
from pathlib import Path
import torch

class Frail(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.linear = torch.nn.Linear(3, 10)

    def forward(self, images):
        armed = Path(__file__).with_name("armed")
        if armed.exists() and os.getpid() != int(armed.with_name("driver").read_text()):
            if armed.read_text() == "deadly":
                armed.write_text("greedy")
                os.kill(os.getpid(), signal.SIGKILL)
            deadline = time.monotonic() + 60
            while not armed.with_name("open").exists() and time.monotonic() < deadline:
                time.sleep(0.02)
            if len(images) <= 4:
                armed.with_name("relieved").touch()
            elif not armed.with_name("relieved").exists():
                raise torch.OutOfMemoryError("CUDA out of memory")
        return self.linear(images.mean((2, 3)))

def make():
    return Frail()
'''


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the frail model on every node."""
    folder = tmp_path_factory.mktemp("modules")
    (folder / "frail.py").write_text(FRAIL)
    (folder / "driver").write_text(str(os.getpid()))
    return folder


@pytest.fixture(scope="module")
def cluster(folder: Path) -> Iterator[Any]:
    """Two raylets on this machine, a core each."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(folder), str(Path(run.__file__).parents[1])]))
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        cluster.add_node(num_cpus=1)
    yield cluster
    cluster.shutdown()


@pytest.fixture(autouse=True)
def plain_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    """The checks of annotations wrap every function, and Ray asks whether it is a generator."""
    from robustness.measure import ray_executor, ray_worker

    bare = inspect.unwrap(ray_worker.measure_remotely)
    for module in (ray_executor, ray_worker):
        monkeypatch.setattr(module, "measure_remotely", bare)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As many threads as a worker has, so that sums are rounded alike."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def grid(tmp_path: Path) -> Path:
    """Two corruptions at two severities and PGD."""
    path = tmp_path / "grid.toml"
    path.write_text(
        """
        data = "shapes"
        corruptions = ["gaussian_noise", "pixelate"]
        severities = [1, 5]
        lambdas = [0.1, 0.5]
        n = 8
        probe_images = 0
        threats = ["whitebox"]
        [[attacks]]
        name = "pgd"
        eps = "1/255"
        steps = 2
        """
    )
    return path


def read_outcomes(out: Path) -> dict[str, pd.DataFrame]:
    return {path.stem: pd.read_parquet(path) for path in sorted((out / "outcomes").iterdir())}


@pytest.mark.slow
@pytest.mark.usefixtures("without_figures", "one_thread")
def test_a_node_a_worker_and_the_memory_are_lost_and_the_table_is_the_same(
    cluster, grid, models, folder, tmp_path, monkeypatch
):
    """One of two nodes dies while it measures; a worker is killed; a model runs out of memory."""
    from robustness.measure import ray_executor

    monkeypatch.syspath_prepend(folder)
    serial, out = tmp_path / "serial", tmp_path / "ray"
    named = f"{models}/sparse.safetensors,{models}/plain.safetensors,frail:make"
    options = ["--suite", str(grid), "--models", named, "--batch-size", "8"]
    assert run.main([*options, "--out", str(serial), "--device", "cpu"]) == 0

    (victim,) = cluster.worker_nodes
    welcome, report = ray_executor._Campaign._welcome, Measurement._report
    running_now: dict[Any, Any] = {}
    killed: list[tuple[str, int]] = []
    told: list[str] = []

    def kill() -> None:
        """The second node, once a worker has died and while a job is under way there."""
        there = [r for r in running_now.values() if r.arrival is not None and r.arrival.node == victim.node_id]
        if there and not killed and any("WorkerCrashedError" in event for event in told):
            killed.append((there[0].attempt.job.title, len(told)))
            cluster.remove_node(victim, allow_graceful=False)

    def greet(campaign: Any, running: Any, arrival: Any) -> None:
        nonlocal running_now
        running_now = campaign._running
        welcome(campaign, running, arrival)
        kill()

    def listen(measurement: Measurement, event: str) -> None:
        told.append(event)
        report(measurement, event)
        if killed and re.search(r"(NodeDied|WorkerCrashed)Error", event):
            (folder / "open").touch()
        kill()

    monkeypatch.setattr(Measurement, "_report", listen)
    monkeypatch.setattr(ray_executor._Campaign, "_welcome", greet)
    (folder / "armed").write_text("deadly")
    arguments = [*options, "--out", str(out), "--executor", "ray", "--ray-address", cluster.address, "--timeout", "250"]
    assert run_command(lambda: run.main(arguments)) == 0
    assert killed, "the second node was to be killed while it measured"

    record = json.loads((out / "run.json").read_text())
    assert record["events"] == told
    for expected in ("WorkerCrashedError", "out of memory", "attempt 2 of 4 at batch size 4"):
        assert any(expected in event for event in told), (expected, told)
    title, before = killed[0]
    (lost, *_) = [event for event in told[before:] if event.startswith(f"{title}: ")]
    assert re.search(r"(NodeDied|WorkerCrashed)Error: .* on .*; attempt \d of 4", lost), told
    ours, theirs = read_outcomes(out), read_outcomes(serial)
    assert ours.keys() == theirs.keys()
    narrow = {cell["key"] for cell in record["cells"] if cell["model"] == "frail:make"}
    for key, frame in theirs.items():
        pd.testing.assert_frame_equal(ours[key], frame, check_exact=key not in narrow)
    crafted = [sorted(path.name for path in (folder / "adversarial").iterdir()) for folder in (out, serial)]
    assert crafted[0] == crafted[1]
    assert len(crafted[0]) == 4
    for name in crafted[0]:
        with np.load(serial / "adversarial" / name) as one, np.load(out / "adversarial" / name) as two:
            np.testing.assert_array_equal(one["codes"], two["codes"])
    cells = [pd.read_csv(folder / "cells.csv").drop(columns="seconds") for folder in (out, serial)]
    pd.testing.assert_frame_equal(*cells)


def test_memory_mapped_images_are_shared_by_the_processes_of_a_node(cluster, tmp_path):
    """Pickled as it is, each process would hold a copy of its own."""
    import ray

    from robustness.measure.ray_executor import _connected

    np.save(tmp_path / "pixels.npy", np.full((100, 32, 32, 3), 7, np.uint8))
    images = {"pixels": np.load(tmp_path / "pixels.npy", mmap_mode="r")[10:]}

    def look(box: list[Any]) -> tuple[str, bool, int]:
        pixels = ray.get(box[0])["pixels"]
        return type(pixels).__name__, pixels.flags.owndata, int(pixels.sum())

    with _connected(cluster.address):
        seen = ray.get(ray.remote(inspect.unwrap(look)).remote([ray.put(images)]))
    assert seen == ("ndarray", False, 7 * 90 * 32 * 32 * 3)


def test_a_node_with_other_versions_or_without_the_archive_is_refused(grid, models, tmp_path, monkeypatch):
    from robustness.measure import ray_worker

    options = ["--suite", str(grid), "--models", f"{models}/plain.safetensors"]
    options = run.read_options(run.make_parser().parse_args(options))
    job = prepare(read_suite(options), options).jobs[-1]
    ray_worker._check_same(job, "10.0.0.1")
    monkeypatch.setattr("robustness.measure.cells.library_of", lambda attack: "torchattacks 0.1")
    assert job.cells[0].key
    with pytest.raises(InputError, match=r"the node 10\.0\.0\.1 has another version"):
        ray_worker._check_same(job, "10.0.0.1")
    shipment = ray_worker.Shipment((), CifarC(tmp_path / "CIFAR-10-C"))
    monkeypatch.setattr(ray_worker.ray, "get", lambda reference: shipment)
    with pytest.raises(PrerequisiteError, match=r"got no such folder on"):
        ray_worker._load(ray_worker.ray.ObjectRef.nil(), "cpu", "10.0.0.1")


def test_a_worker_that_dies_after_its_last_result_costs_nothing(grid, models, tmp_path, monkeypatch):
    from ray.exceptions import WorkerCrashedError

    from robustness.measure import ray_executor, ray_worker

    options = RunOptions(suite=str(grid), models=(f"{models}/plain.safetensors",))
    job = prepare(read_suite(options), options).jobs[0]
    last = Result(job.title, {}, tuple(cell.key for cell in job.cells), "not finite")

    def stream() -> Iterator[ray_worker.Delivery]:
        yield ray_worker.Delivery(last, None)
        raise WorkerCrashedError

    told: list[str] = []
    campaign = object.__new__(ray_executor._Campaign)
    campaign._workplace = Workplace(
        None, RunDirectory(tmp_path), torch.device("cpu"), 8, tqdm(disable=True), told.append
    )
    messages = stream()
    campaign._running = {messages: ray_executor._Running(0, JobAttempt(job, 8))}
    monkeypatch.setattr(ray_executor.ray, "get", lambda message: message)
    assert list(campaign._receive(messages)) == [last]
    assert list(campaign._receive(messages)) == []
    assert not campaign._running
    assert not told


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--gpus-per-task", "0.5"), "are for --executor ray"),
        (("--executor", "ray", "--gpus-per-task", "1.5"), r"from 0 to 1, or a whole number, got 1\.5; give"),
        (("--executor", "ray", "--gpus-per-task", "-1"), "expected --gpus-per-task from 0 to 1"),
        (("--executor", "ray", "--gpus-per-task", "nan"), "expected --gpus-per-task from 0 to 1"),
        (("--executor", "ray", "--gpus-per-task", "inf"), "expected --gpus-per-task from 0 to 1"),
        (("--executor", "ray", "--device", "cpu"), "--device is for --executor local"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        run.main([*options, "--dry-run"])


@pytest.mark.parametrize(
    ("address", "error", "message"),
    [
        ("127.0.0.1:1", PrerequisiteError, r"expected a Ray cluster at 127\.0\.0\.1:1"),
        ("127.0.0.1:99999", PrerequisiteError, "expected a Ray cluster at"),
        ("nonsense", InputError, "expected --ray-address HOST:PORT"),
        ("ray://head:10001", InputError, "expected --ray-address HOST:PORT"),
    ],
)
def test_addresses_without_a_cluster_are_named_at_once(grid, models, tmp_path, address, error, message):
    options = ["--suite", str(grid), "--models", f"{models}/plain.safetensors", "--out", str(tmp_path / "run")]
    with pytest.raises(error, match=message):
        run.main([*options, "--executor", "ray", "--ray-address", address])


def refuse(**options: object) -> None:
    raise ConnectionError("no cluster here\nand more")


def listen(answer: bytes, listener: socket.socket) -> None:
    """Take one connection, answer it with ``answer`` and keep it open until the other side closes it."""
    connection, _ = listener.accept()
    with connection:
        connection.sendall(answer)
        while connection.recv(100):
            pass


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b""])
def test_a_listener_that_is_not_ray_is_named_within_seconds(answer, monkeypatch):
    from robustness.measure import ray_executor

    monkeypatch.setattr(ray_executor, "_WAIT_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=listen, args=(answer, listener))
        thread.start()
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(
            PrerequisiteError, match=rf"expected a Ray cluster at {address}, got none \((what listens|timed out)"
        ):
            ray_executor._check_address(address)
        thread.join()


def test_a_cluster_answers_and_the_word_auto_is_left_to_ray(cluster, monkeypatch):
    from robustness.measure import ray_executor

    ray_executor._check_address(cluster.address)
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    monkeypatch.setattr(ray_executor.ray, "init", refuse)
    with pytest.raises(PrerequisiteError, match="Ray at auto, got: no cluster here"), ray_executor._connected(None):
        pass


def test_ray_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "robustness.measure.ray_executor", None)
    with pytest.raises(PrerequisiteError, match="--executor ray needs the package ray"):
        run.main(["--executor", "ray", "--dry-run"])


def test_a_node_without_the_module_of_a_model_is_named(cluster, grid, tmp_path, monkeypatch):
    (tmp_path / "elsewhere.py").write_text(FRAIL)
    monkeypatch.syspath_prepend(tmp_path)
    options = ["--suite", str(grid), "--models", "elsewhere:make", "--out", str(tmp_path / "run")]
    with pytest.raises(PrerequisiteError, match=r"cannot read the models .*No module named 'elsewhere'"):
        run.main([*options, "--executor", "ray", "--ray-address", cluster.address])


def test_a_job_that_needs_more_gpus_than_there_are_is_refused(cluster, grid, models, tmp_path):
    options = ["--suite", str(grid), "--models", f"{models}/plain.safetensors", "--out", str(tmp_path / "run")]
    with pytest.raises(PrerequisiteError, match=r"expected 0\.5 GPUs for a job, got a Ray cluster with 0"):
        run.main([*options, "--executor", "ray", "--ray-address", cluster.address, "--gpus-per-task", "0.5"])
