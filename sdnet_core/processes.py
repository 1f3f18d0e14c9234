"""Training in several processes, each with its share of every batch: ``torchrun --nproc-per-node N``.

Every process holds the same model and draws the same batches. Gradients are averaged and BatchNorm uses the statistics
of the whole batch, so the steps equal the steps of a single process with the same batch, up to rounding.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from data_prep.errors import InputError


@dataclass(frozen=True)
class Processes:
    """The group of processes of one training, seen from one of them.

    Args:
        rank: number of this process; process 0 writes files and progress.
        size: number of processes.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """True for the process that writes files and progress."""
        return self.rank == 0

    def share(self, batch: Tensor) -> Tensor:
        """Return this process's N/size consecutive rows of ``batch`` (N, ...).

        Raises:
            InputError: N is not a multiple of the number of processes.
        """
        if len(batch) % self.size:
            raise InputError(
                f"expected a batch divisible among {self.size} processes, got {len(batch)} images; choose another "
                "batch_size or number of processes"
            )
        return batch.tensor_split(self.size)[self.rank]

    def add(self, value: Tensor) -> Tensor:
        """Sum ``value`` over all processes."""
        return _add(value) if self.size > 1 else value

    def send(self, value: Any) -> Any:
        """Return the first process's ``value`` in every process."""
        box = [value]
        if self.size > 1:
            dist.broadcast_object_list(box)
        return box[0]

    def parallelise(self, model: nn.Module) -> nn.Module:
        """Wrap ``model`` so that each call first copies the first process's buffers to all, and gradients are averaged.

        Its BatchNorm layers are replaced in place by synchronised ones. ``model`` itself can still be called when
        nothing needs to be synchronised.
        """
        if self.size == 1:
            return model
        _synchronise_norms(model)
        return DistributedDataParallel(model)


ALONE = Processes()
"""Group of a single process."""


@contextmanager
def join_processes(device: torch.device) -> Iterator[Processes]:
    """Connect the processes that torchrun started (NCCL on GPUs, Gloo on CPUs); without torchrun, this one alone."""
    if not dist.is_torchelastic_launched():
        yield Processes()
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Processes(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()


def own_device(device: torch.device) -> torch.device:
    """Select this process's GPU on its machine; the CPU is returned unchanged."""
    if device.type == "cuda" and device.index is None and dist.is_torchelastic_launched():
        return torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    return device


class GlobalBatchNorm(nn.BatchNorm2d):
    """BatchNorm with the mean and variance of the batches of all processes, which must be equal in size.

    It is for CPUs, which torch's ``nn.SyncBatchNorm`` does not support. Two exchanges, the mean and then the variance
    around it, avoid cancellation.
    """

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Compute γ (x − m)/√(v + ε) + β; in eval mode m and v are the running statistics."""
        if not self.training:
            return super().forward(x)
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.momentum is not None
        assert self.num_batches_tracked is not None
        n_processes = dist.get_world_size()
        values = x.to(torch.promote_types(x.dtype, torch.float32))
        mean = _Sum.apply(values.mean((0, 2, 3))) / n_processes
        centred = values - mean.view(-1, 1, 1)
        variance = _Sum.apply(centred.square().mean((0, 2, 3))) / n_processes
        n = n_processes * x.numel() // x.shape[1]
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (n / (n - 1)), self.momentum)
            self.num_batches_tracked.add_(1)
        scale = self.weight * (variance + self.eps).rsqrt()
        y: Tensor = (centred * scale.view(-1, 1, 1) + self.bias.view(-1, 1, 1)).to(x.dtype)
        return y


class _Sum(torch.autograd.Function):
    """Sum over the processes; its gradient is the sum of their gradients."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:  # noqa: ARG004
        return _add(value)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ARG004
        return _add(gradient)


def _add(value: Tensor) -> Tensor:
    total = value.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total


def _synchronise_norms(model: nn.Module) -> None:
    """Replace the BatchNorms in ``model``, in place, by ones that keep their parameters and buffers."""
    if next(model.parameters()).is_cuda:
        nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
        return
    for parent in list(model.modules()):
        for name, norm in parent.named_children():
            if isinstance(norm, nn.BatchNorm2d):
                synchronised = GlobalBatchNorm(norm.num_features, eps=norm.eps, momentum=norm.momentum)
                for key, value in [*norm.named_parameters(), *norm.named_buffers()]:
                    setattr(synchronised, key, value)
                setattr(parent, name, synchronised)
