"""Jobs on a Ray cluster: models and images reach every node once, and lost work is repeated on another node."""

from __future__ import annotations

import math
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import ray
from ray.exceptions import OutOfMemoryError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from data_prep.errors import InputError, PrerequisiteError
from data_prep.files import replacing
from robustness.measure.executors import JobAttempt, OutOfMemory
from robustness.measure.jobs import Job, Result
from robustness.measure.loaders.functions import list_own_modules
from robustness.measure.ray_worker import Arrival, Delivery, Shipment, measure_remotely
from robustness.measure.tasks import Workplace

_WAIT_SECONDS = 5.0
_WORDS = ("auto", "local")
"""Words that Ray accepts as an address: the cluster that runs on this machine, and a new one."""
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
"""First bytes from an HTTP/2 client, and an empty frame of settings."""


@dataclass
class RayExecutor:
    """Measures jobs on a Ray cluster; this process alone writes to the run directory.

    The models of the jobs must be on the CPU. Every node needs this project, the same versions of the libraries that
    the cells name, and, for official corruptions, the -C archive at the same path.

    Args:
        address: HOST:PORT of a running cluster, ``auto`` for the cluster on this machine; None for the cluster of
            ``RAY_ADDRESS``, or else a new Ray on this machine alone.
        gpus_per_task: share of a GPU for each job: 0.5 puts two on each GPU, 0 measures on CPUs, one core each. None:
            1 where the cluster has a GPU, otherwise 0.

    Raises:
        PrerequisiteError: no cluster answers at the address, or it has no GPU for a job.
        InputError: a share that is negative, or above 1 and not a whole number.
    """

    address: str | None = None
    gpus_per_task: float | None = None
    name: str = field(default="ray", init=False)

    def __post_init__(self) -> None:
        share = self.gpus_per_task
        if share is not None and not (0 <= share <= 1 or (1 < share < math.inf and share == int(share))):
            raise InputError(
                f"expected --gpus-per-task from 0 to 1, or a whole number, got {share:g}; give another share"
            )

    def execute(self, jobs: Sequence[Job], workplace: Workplace) -> Iterator[Result]:
        """See :class:`~robustness.measure.executors.Executor`."""
        with _connected(self.address):
            yield from _Campaign(jobs, workplace, self._choose_share()).run()

    def _choose_share(self) -> float:
        """Choose the GPUs per job; raise PrerequisiteError if the cluster has too few."""
        there = ray.cluster_resources().get("GPU", 0)
        share = min(there, 1) if self.gpus_per_task is None else self.gpus_per_task
        if share > there:
            raise PrerequisiteError(
                f"expected {share:g} GPUs for a job, got a Ray cluster with {there:g}; add nodes, or give a smaller "
                "--gpus-per-task (0 measures on CPUs)"
            )
        return float(share)


@contextmanager
def _connected(address: str | None) -> Iterator[None]:
    """Connect to the cluster during the block, and disconnect at its end unless the connection already existed."""
    if ray.is_initialized():
        yield
        return
    given = address or os.environ.get("RAY_ADDRESS")
    if given and given not in _WORDS:
        _check_address(given)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # send no usage statistics
    try:
        ray.init(address=address, log_to_driver=False, logging_level="WARNING")
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise PrerequisiteError(
            f"expected Ray at {given or 'this machine'}, got: {_first_line(error)}; check --ray-address"
        ) from error
    # Send a memory-mapped array as a plain one: only plain arrays are shared by the processes of a node.
    ray.util.register_serializer(np.memmap, serializer=np.asarray, deserializer=lambda array: array)
    send_own_modules()
    try:
        yield
    finally:
        ray.shutdown()


def send_own_modules() -> None:
    """Send the code of files that models came from along with the models: other machines cannot import it by name."""
    for module in list_own_modules().values():
        ray.cloudpickle.register_pickle_by_value(module)


def _check_address(address: str) -> None:
    """Check that a gRPC server answers at the address: Ray itself would try for minutes, then end the process.

    Raises:
        InputError: the address is not HOST:PORT.
        PrerequisiteError: nothing answers there, or something other than gRPC.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or "/" in host:
        raise InputError(
            f"expected --ray-address HOST:PORT, as ray start --head prints it, or auto, got {address!r}; give one of "
            "them"
        )
    try:
        with socket.create_connection((host, int(port)), timeout=_WAIT_SECONDS) as connection:
            if os.environ.get("RAY_USE_TLS", "0") == "0":
                connection.sendall(_PREFACE)
                answer = connection.recv(len(_PREFACE))
                if answer[3:4] != b"\x04":  # a frame of settings
                    raise OSError("what listens there is not Ray")
    except (OSError, OverflowError, UnicodeError) as error:
        raise PrerequisiteError(
            f"expected a Ray cluster at {address}, got none ({error}); start one with ray start --head"
        ) from error


@dataclass
class _Running:
    """A job handed to Ray. arrival: its node; None while it waits."""

    index: int
    attempt: JobAttempt
    arrival: Arrival | None = None


class _Campaign:
    """The jobs of one call, all handed to Ray at once, and again after a failure."""

    def __init__(self, jobs: Sequence[Job], workplace: Workplace, gpus: float) -> None:
        self._jobs, self._workplace, self._gpus = jobs, workplace, gpus
        self._shipment = ray.put(Shipment(tuple(jobs), workplace.archive, workplace.timeout))
        self._measure = ray.remote(num_returns="streaming", max_retries=0, num_cpus=1, num_gpus=gpus)(measure_remotely)
        self._running: dict[Any, _Running] = {}
        self._seen: set[str] = set()

    def run(self) -> Iterator[Result]:
        """Yield every result as soon as it arrives."""
        for index, job in enumerate(self._jobs):
            self._submit(index, JobAttempt(job, self._workplace.batch_size))
        is_waiting = False
        while self._running:
            streams = list(self._running)
            ready, _ = ray.wait(streams, num_returns=len(streams), timeout=0, fetch_local=False)
            if not ready:  # wait for the next message
                ready, _ = ray.wait(streams, timeout=_WAIT_SECONDS, fetch_local=False)
            for stream in ready:
                yield from self._receive(stream)
            if not ready:
                self._workplace.bar.refresh()
            is_lost = not ready and not self._find_nodes()
            if is_lost and not is_waiting:
                self._workplace.report("no node is left that a job fits on: waiting for one")
            is_waiting = is_lost

    def _submit(self, index: int, attempt: JobAttempt, avoid: str | None = None) -> None:
        """Start a job, on another node than ``avoid`` if there is one."""
        assert attempt.job is not None
        task, others = attempt.job.tasks[0], self._find_nodes(avoid) if avoid else []
        path = task.image_file(self._workplace.directory)
        stream = self._measure.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(others[index % len(others)], soft=True)
            if others
            else "DEFAULT"
        ).remote(
            [self._shipment],
            index,
            frozenset(cell.key for cell in attempt.job.cells),
            attempt.batch_size,
            "cuda" if self._gpus else "cpu",
            path.read_bytes() if path is not None and path.exists() else None,
        )
        self._running[stream] = _Running(index, attempt)

    def _find_nodes(self, avoid: str | None = None) -> list[str]:
        """Find the nodes that a job fits on, without ``avoid``."""
        alive = [node for node in ray.nodes() if node["Alive"] and node["NodeID"] != avoid]
        return [n["NodeID"] for n in alive if n["Resources"].get("GPU", 0) >= self._gpus and n["Resources"].get("CPU")]

    def _receive(self, stream: Any) -> Iterator[Result]:
        """Handle the next message of a job: pass results on, and repeat what failed.

        A killed worker may have run out of memory: from the second time on, its job uses half the batch size.
        """
        running = self._running[stream]
        try:
            message = ray.get(next(stream))
        except StopIteration:
            del self._running[stream]
            yield from self._try_again(running, "its worker stopped early", halve=False)
        except RayTaskError as error:
            del self._running[stream]
            if not isinstance(error.cause, OutOfMemory | OSError):
                raise error.cause from error
            halve, blamed = isinstance(error.cause, OutOfMemory), getattr(error.cause, "keys", ())
            yield from self._try_again(running, str(error.cause), halve=halve, blamed=blamed)
        except RayError as error:
            del self._running[stream]
            is_short = isinstance(error, OutOfMemoryError) or running.attempt.number > 1
            halve = is_short and running.attempt.batch_size > 1
            yield from self._try_again(running, _summarise(error), halve=halve)
        else:
            if isinstance(message, Arrival):
                self._welcome(running, message)
            else:
                yield self._accept(running.attempt, message)

    def _welcome(self, running: _Running, arrival: Arrival) -> None:
        """Record that a job has started."""
        running.arrival = arrival
        if arrival.node not in self._seen:
            self._seen.add(arrival.node)
            self._workplace.report(f"node {arrival.address} measures: {arrival.hardware}")
        self._workplace.bar.set_description(f"{len(self._running)} jobs on {len(self._seen)} nodes")

    def _accept(self, attempt: JobAttempt, delivery: Delivery) -> Result:
        """Accept a result; adversarial images are stored before the outcomes that belong to them."""
        assert attempt.job is not None
        task = next(t for t in attempt.job.tasks if any(cell.key in delivery.result.keys for cell in t.cells))
        path = task.image_file(self._workplace.directory)
        if delivery.adversarial is not None and path is not None:
            with replacing(path) as temporary:
                temporary.write_bytes(delivery.adversarial)
        before = attempt.job.size
        attempt.accept(delivery.result)
        self._workplace.bar.update(before - (attempt.job.size if attempt.job is not None else 0))
        return delivery.result

    def _try_again(
        self, running: _Running, reason: str, *, halve: bool, blamed: tuple[str, ...] = ()
    ) -> Iterator[Result]:
        """Hand a job's remaining cells to Ray once more; after the last attempt, return the failure as a result."""
        if running.attempt.job is None:
            return
        where = f" on {running.arrival.address}" if running.arrival else ""
        failure = running.attempt.again(f"{reason}{where}", halve=halve, report=self._workplace.report, blamed=blamed)
        if failure is not None:
            yield failure
        if running.attempt.job is not None:
            self._submit(running.index, running.attempt, avoid=running.arrival.node if running.arrival else None)


def _summarise(error: RayError) -> str:
    """Return the first sentence of Ray's message."""
    return f"{type(error).__name__}: {_first_line(error).split('. ')[0].rstrip('.')}"


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
