"""Call a network with a batch: one tensor, a tuple of positional arguments or a mapping of named ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pursuhint.errors import PursuhintError

NetworkInput = Tensor | tuple[Tensor, ...] | Mapping[str, Tensor]
"""A batch as a network takes it; every tensor has one entry per sample along its first axis."""

MASK = "attention_mask"
"""Entry of a mapping that says which tokens are real: (N, tokens), 1 or True; padding is 0 or False."""


def call_network(network: nn.Module, batch: NetworkInput) -> Any:
    """Run a network on a batch: ``network(tensor)``, ``network(*tensors)`` or ``network(**tensors)``.

    Floating-point tensors are converted to the precision of the network's weights (half, bfloat16, double)
    unless autocast decides it; integers, such as the token ids of a text, stay as they are.

    Args:
        network: any network, on the device of the batch.
        batch: what its ``forward`` takes.

    Returns:
        Whatever the network returns.
    """
    return call_as_given(network, in_precision_of(network, batch))


def call_as_given(network: nn.Module, batch: NetworkInput) -> Any:
    """As `call_network`, for a batch that has the precision of the network already."""
    if isinstance(batch, Tensor):
        return network(batch)
    return network(**batch) if isinstance(batch, Mapping) else network(*batch)


def in_precision_of(network: nn.Module, batch: NetworkInput) -> NetworkInput:
    """The batch with its floating-point tensors in the precision of a network's weights.

    Args:
        network: the first of its floating-point weights of at least 16 bits decides; without one the batch
            stays as it is, as it does under autocast.
        batch: not changed.
    """
    device = tensors_of(batch)[0].device.type
    if torch.is_autocast_enabled(device):
        return batch
    precision = next((p.dtype for p in network.parameters() if p.dtype in _PRECISIONS), None)
    if precision is None:
        return batch
    return map_tensors(batch, lambda values: values.to(precision) if values.is_floating_point() else values)


_PRECISIONS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def map_tensors(batch: NetworkInput, change: Callable[[Tensor], Tensor]) -> NetworkInput:
    """The batch with every tensor replaced by a function of it."""
    if isinstance(batch, Tensor):
        return change(batch)
    if isinstance(batch, Mapping):
        return {name: change(values) for name, values in batch.items()}
    return tuple(change(values) for values in batch)


def channels_last(batch: NetworkInput) -> NetworkInput:
    """Images in the memory layout that convolutions are fastest in; other tensors as they are."""

    def laid_out(values: Tensor) -> Tensor:
        return values.contiguous(memory_format=torch.channels_last) if values.ndim == 4 else values

    return map_tensors(batch, laid_out)


def tensors_of(batch: NetworkInput) -> tuple[Tensor, ...]:
    """The tensors of a batch.

    Raises:
        PursuhintError: it is neither a tensor nor a tuple or mapping of tensors with the same number of
            samples.
    """
    if isinstance(batch, Tensor):
        return (batch,)
    found = tuple(batch.values()) if isinstance(batch, Mapping) else batch
    if not isinstance(found, tuple | list) or not found or not all(isinstance(v, Tensor) for v in found):
        raise PursuhintError(
            "a batch is a tensor, or a tuple or mapping of tensors as the network's forward takes them; "
            f"got {type(batch).__name__}"
        )
    sizes = {len(values) if values.ndim else 0 for values in found}
    if len(sizes) > 1:
        raise PursuhintError(
            f"the tensors of a batch have {' and '.join(map(str, sorted(sizes)))} entries; each must have "
            "one per sample along its first axis"
        )
    return tuple(found)


def count_samples(batch: NetworkInput) -> int:
    """Number of samples of a batch."""
    return len(tensors_of(batch)[0])


def first_samples(batch: NetworkInput, count: int) -> NetworkInput:
    """The first samples of a batch.

    Raises:
        PursuhintError: it is no batch; see `tensors_of`.
    """
    tensors_of(batch)
    return map_tensors(batch, lambda values: values[:count])


def few_samples(batch: NetworkInput, count: int = 2) -> NetworkInput:
    """A few samples to look at a network with: the first of a batch, repeated if it has fewer.

    Two by default: a network that calls ``squeeze()`` loses the axis of a single one, and with two every
    tensor shows which axis the samples are in.

    Raises:
        PursuhintError: it is no batch; see `tensors_of`.
    """
    tensors_of(batch)
    return map_tensors(batch, lambda values: values[torch.arange(count, device=values.device) % len(values)])


def split_samples(batch: NetworkInput, size: int) -> list[NetworkInput]:
    """The batch in parts of at most ``size`` samples, in order."""
    starts = range(0, count_samples(batch), size)
    return [map_tensors(batch, lambda v, start=start: v[start : start + size]) for start in starts]  # type: ignore[misc]


def shapes_of(batch: NetworkInput) -> str:
    """The shapes of a batch's tensors, for messages."""
    if isinstance(batch, Mapping):
        return ", ".join(f"{name} {tuple(values.shape)}" for name, values in batch.items())
    return " and ".join(str(tuple(values.shape)) for values in tensors_of(batch))


def named_tensors(batch: NetworkInput, name: str) -> dict[str, Tensor]:
    """The tensors of a batch by a name of their own: ``name``, ``name.0`` or ``name.ids``."""
    if isinstance(batch, Tensor):
        return {name: batch}
    items = batch.items() if isinstance(batch, Mapping) else enumerate(batch)
    return {f"{name}.{key}": values for key, values in items}


def attention_mask(batch: NetworkInput) -> Tensor | None:
    """Which tokens of a batch are real, bool of shape (N, tokens); None if the batch does not say.

    Args:
        batch: the mask is the entry ``attention_mask`` of a mapping, if it has two axes.
    """
    mask = batch.get(MASK) if isinstance(batch, Mapping) else None
    return mask.bool() if isinstance(mask, Tensor) and mask.ndim == 2 else None
