"""Rank, world size, and operations on a batch that is sharded over the ranks of the default process group."""

from __future__ import annotations

import os
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = [
    "from_main_process",
    "gather",
    "is_distributed",
    "is_main_process",
    "mean_over_processes",
    "own_part",
    "rank",
    "wait_for_everyone",
    "world_size",
]


@torch.no_grad()
def mean_over_processes(values: Tensor) -> Tensor:
    """Mean of a constant over the samples of all processes.

    Args:
        values: one number a sample, (N,); N may differ between ranks.

    Returns:
        Scalar without gradient, equal in all processes; the plain mean where there is only one.
    """
    if world_size() == 1:
        return values.mean()
    total = torch.stack([values.sum(), values.new_tensor(float(len(values)))])
    dist.all_reduce(total)
    return total[0] / total[1]


def is_distributed() -> bool:
    """Whether a default process group exists; it may hold a single process."""
    return dist.is_available() and dist.is_initialized()


def rank() -> int:
    """Rank of this process in the default process group; 0 without a group."""
    return dist.get_rank() if is_distributed() else 0


def world_size() -> int:
    """Number of processes in the default process group; 1 without a group."""
    return dist.get_world_size() if is_distributed() else 1


def from_main_process(values: Tensor) -> Tensor:
    """The values of rank 0, on every rank. Collective call.

    Args:
        values: on the CPU or on the device of the rank, of one shape and type on all ranks.
    """
    if world_size() == 1:
        return values
    backend = str(dist.get_backend())
    sent = values.cuda() if backend == "nccl" else values.clone()
    dist.broadcast(sent, src=0)
    return sent.to(values.device)


def is_main_process() -> bool:
    """Whether this process is rank 0, the one that writes files and prints.

    Before a process group exists, the environment variable ``RANK`` of the launcher (``torchrun``,
    ``accelerate launch``) decides; a process without it runs alone.
    """
    return rank() == 0 if is_distributed() else os.environ.get("RANK", "0") == "0"


def wait_for_everyone() -> None:
    """A barrier of all ranks; nothing on a single one."""
    if is_distributed():
        dist.barrier()


def gather(values: Tensor) -> Tensor:
    """Gather the rows of all ranks, in the order of the ranks, with gradient.

    The gradient of a row is summed over the ranks. If every rank computes the loss of the gathered batch and
    data-parallel training averages the gradients of shared parameters over the ranks, the result is the
    gradient of the loss of the gathered batch.

    Args:
        values: (N, ...); N may differ between ranks.

    Returns:
        (sum of all N, ...), identical on all ranks; ``values`` itself on a single rank.
    """
    if world_size() == 1:
        return values
    counts = _counts(values)
    padding = values.new_zeros(max(counts) - len(values), *values.shape[1:])
    parts: Tensor = _Gather.apply(torch.cat([values, padding]))
    return torch.cat([part[:count] for part, count in zip(parts, counts)])


def own_part(values: Tensor, like: Tensor) -> Tensor:
    """Select the rows of this rank from gathered rows.

    Args:
        values: rows of all ranks, as `gather` returns them.
        like: the tensor that this rank passed to `gather`, or any other with as many rows.
    """
    if world_size() == 1:
        return values
    start = sum(_counts(like)[: rank()])
    return values[start : start + len(like)]


def _counts(values: Tensor) -> list[int]:
    own = torch.tensor([len(values)], device=values.device)
    counts = [torch.empty_like(own) for _ in range(world_size())]
    dist.all_gather(counts, own)
    return [int(count) for count in counts]


class _Gather(torch.autograd.Function):
    """Stack equally many rows of every rank, (ranks, N, ...)."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        parts = [torch.empty_like(values) for _ in range(world_size())]
        dist.all_gather(parts, values.contiguous())
        return torch.stack(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        return total[rank()]
