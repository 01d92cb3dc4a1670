"""Experimental: shard the weights of a frozen teacher over ranks (FSDP), for teachers that fill a device.

Tested with several processes on the CPU; its speed and memory on GPUs have not been measured.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import torch
from torch import nn

from pursuhint._util.distributed import is_distributed, world_size
from pursuhint._util.network_input import NetworkInput, first_samples, in_precision_of, map_tensors
from pursuhint.errors import PursuhintError
from pursuhint.features.hint_points import find_hint_points
from pursuhint.losses import get_loss

__all__ = ["check_shardable", "shard_teacher"]


def check_shardable(losses: Iterable[str], processes: int) -> None:
    """Refuse a run that cannot shard its teacher.

    Args:
        losses: names of its losses.
        processes: number of its processes.

    Raises:
        PursuhintError: there is one process, or a loss differentiates the teacher: the backward pass would
            read weights that have been freed after the forward pass.
    """
    if processes == 1:
        raise PursuhintError(
            "acceleration.shard_teacher shares the teacher out over processes, and here is one; launch "
            "several (torchrun --nproc_per_node 2 -m pursuhint train ...), or leave it out"
        )
    for name in losses:
        if get_loss(name).info.needs_input_gradients:
            raise PursuhintError(
                f"loss {name!r} differentiates the teacher, which a sharded one cannot do; "
                "set acceleration.shard_teacher=false, or leave the loss out"
            )


def is_sharded(network: nn.Module) -> bool:
    """Whether `shard_teacher` has sharded this network."""
    if not is_distributed():
        return False
    from torch.distributed.fsdp import FSDPModule  # slow to import, and not in every build of PyTorch

    return isinstance(network, FSDPModule)


@torch.no_grad()
def shard_teacher(
    teacher: nn.Module, example: NetworkInput, device: torch.device, precision: torch.dtype | None = None
) -> None:
    """Shard a network's parameters over ranks, in place; each unit gathers its own for a forward pass.

    Experimental. Every sub-block is a unit, and the modules outside of sub-blocks are one more. The forward
    pass gathers the parameters of a unit from all ranks before the unit runs and frees them afterwards, so
    that a device holds its shard and one or two units. Module names, hooks and results do not change. From
    then on all ranks must run the network equally often. Sharding a sharded network does nothing.

    The sharding is PyTorch's ``fully_shard``. Accelerate's FSDP plugin calls the same function, but on every
    network that it prepares: it would shard the student as well, with its optimiser, state and hints.

    Args:
        teacher: frozen, in evaluation mode and whole, on any device.
        example: a batch that it can run on, (N, C, H, W), to find its sub-blocks.
        device: of the shards.
        precision: of the weights of convolutions and linear layers; None leaves it.

    Raises:
        PursuhintError: the network has no sub-blocks.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    if is_sharded(teacher):
        return
    like = next(teacher.parameters())
    example = map_tensors(first_samples(example, 1), lambda values: values.to(like.device))
    names = [point.module for point in find_hint_points(teacher, in_precision_of(teacher, example))]
    modules = dict(teacher.named_modules())
    blocks = [module for name in names if not _shares_weights(module := modules[name], teacher)]
    for module in teacher.modules():
        own = precision if isinstance(module, nn.modules.conv._ConvNd | nn.Linear) else None
        for parameter in module.parameters(recurse=False):
            parameter.data = parameter.to(own or parameter.dtype).contiguous()
    mesh = init_device_mesh(device.type, (world_size(),))
    for block in reversed(blocks):  # inner ones first, if one lies in another
        fully_shard(block, mesh=mesh, reshard_after_forward=True)
    fully_shard(teacher, mesh=mesh, reshard_after_forward=True)


def _shares_weights(block: nn.Module, network: nn.Module) -> bool:
    """Whether a parameter of a block is also used outside of it; the block then cannot be a unit."""

    def uses(modules: nn.Module) -> Counter[int]:
        return Counter(id(p) for module in modules.modules() for p in module._parameters.values())

    everywhere, inside = uses(network), uses(block)
    return any(everywhere[id(parameter)] > inside[id(parameter)] for parameter in block.parameters())
