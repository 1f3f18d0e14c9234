"""The worker on a node of a Ray cluster: a job in, messages out, and no lasting files."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import ray
import torch
from ray.exceptions import RaySystemError
from tqdm import tqdm

from data_prep.errors import InputError, PrerequisiteError
from robustness.measure.cells import hash_identity
from robustness.measure.executors import execute_job, telling_out_of_memory
from robustness.measure.jobs import Job, Result
from robustness.measure.perturbations import Archive
from robustness.measure.tasks import Workplace
from robustness.run_directory import RunDirectory
from sdnet_core.environment import describe_environment


@dataclass(frozen=True)
class Shipment:
    """Data that every node gets once, through the object store: all jobs with their models and images."""

    jobs: tuple[Job, ...]
    archive: Archive | None
    timeout: float | None = None


@dataclass(frozen=True)
class Arrival:
    """The first message of a job, which names its node. hardware: the node's GPU or processor."""

    node: str
    address: str
    hardware: str


@dataclass(frozen=True)
class Delivery:
    """Any further message: a result, and its adversarial images if they were crafted for it."""

    result: Result
    adversarial: bytes | None


def measure_remotely(
    shipment: list[ray.ObjectRef[Shipment]],
    index: int,
    keys: frozenset[str],
    batch_size: int,
    device: str,
    crafted: bytes | None,
) -> Iterator[Arrival | Delivery]:
    """Measure some cells of a job on this node: report the node first, then yield the results one by one.

    Args:
        shipment: reference to the shipment, in a list so that Ray does not fetch it again for every job.
        index: index of the job in the shipment.
        keys: keys of the requested cells.
        batch_size: images per forward pass.
        device: ``cpu`` or ``cuda``: the GPU, or share of one, that Ray gave to this process.
        crafted: adversarial images of the job that the run directory already has.

    Raises:
        OutOfMemory: the job does not fit at this batch size.
        PrerequisiteError: this node lacks a package or the -C archive.
        InputError: this node has other versions, and would measure something else.
    """
    address = ray.util.get_node_ip_address()
    yield Arrival(ray.get_runtime_context().get_node_id(), address, _name_hardware(device))
    content = _load(shipment[0], device, address)
    job = content.jobs[index].restrict(keys)
    assert job is not None
    _check_same(job, address)
    with tempfile.TemporaryDirectory(prefix="sdnet-robustness-") as folder:
        directory = RunDirectory(Path(folder))
        path = job.tasks[0].image_file(directory)
        if path is not None and crafted is not None:
            path.parent.mkdir()
            path.write_bytes(crafted)
        bar: tqdm[Any] = tqdm(disable=True)
        workplace = Workplace(
            content.archive, directory, torch.device(device), batch_size, bar, timeout=content.timeout
        )
        for result in execute_job(job, workplace):
            found = path.read_bytes() if path is not None and path.exists() else None
            told = replace(result, environment=_describe(device))
            yield Delivery(told, found if found != crafted else None)
            crafted = found


@lru_cache(maxsize=1)
def _load(shipment: ray.ObjectRef[Shipment], device: str, address: str) -> Shipment:
    """Load the shipment with its models on ``device``, once per worker process."""
    try:
        content: Shipment = ray.get(shipment)
    except RaySystemError as error:
        reason = str(error).partition("\n")[0]
        raise PrerequisiteError(
            f"the node {address} cannot read the models and images of the run ({reason}); install the same packages on "
            "every node"
        ) from error
    if content.archive is not None and not content.archive.folder.is_dir():
        raise PrerequisiteError(
            f"expected the official corruptions in {content.archive.folder} on every node, got no such folder on "
            f"{address}; put them there, as on a shared file system"
        )
    torch.backends.cudnn.allow_tf32 = False  # as on the machine that loaded the models
    with telling_out_of_memory():
        for network in {id(task.subject): task.subject.network for job in content.jobs for task in job.tasks}.values():
            network.to(device)
    return content


@lru_cache(maxsize=1)
def _describe(device: str) -> dict[str, Any]:
    return describe_environment(torch.device(device))


def _name_hardware(device: str) -> str:
    hardware = _describe(device)["hardware"]
    return str(hardware.get("gpu", hardware["processor"]))


def _check_same(job: Job, address: str) -> None:
    """Check that this node would measure exactly the requested cells."""
    for cell in job.cells:
        if hash_identity(cell.identity()) != cell.key:
            raise InputError(
                f"the node {address} has another version of this project or of an attack library, and would measure "
                f"{job.title} differently; install the same versions on every node"
            )
