"""Memory of a training step: bytes are counted, not sampled, so the result does not depend on the machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field, RootModel
from torch import Tensor

from pursuhint._util.atomic_files import read_json
from pursuhint._util.json_files import checked
from pursuhint._util.network_input import tensors_of
from pursuhint.data import Batch
from pursuhint.distillation.distiller import Distiller
from pursuhint.features.extractor import Features

_STATES = {"sgd": 1, "adamw": 2, "dot": 2}
"""Numbers that an optimiser keeps for every parameter."""


class _MemoryFile(RootModel[dict[str, Annotated[int, Field(ge=0)]]]):
    pass


def read_memory(path: Path) -> dict[str, int]:
    """The bytes of a step by method, which an earlier call has measured.

    Args:
        path: a ``memory.json``.

    Raises:
        PursuhintError: it cannot be read, or holds something else.
    """
    values = read_json(path, "memory of the methods")
    return checked(_MemoryFile, values, f"the memory of the methods {path}").root


def step_memory(
    distiller: Distiller, batch: Batch, *, optimizer: str, teacher: Features | None = None
) -> int:
    """Bytes that training keeps between the forward and the backward pass of one step.

    They hold the student and the parameters of the losses (weights, gradients, state of the optimizer),
    of buffers such as memory banks, and of everything that autograd keeps for the backward pass. Not counted
    are the teacher, the batch, and what exists for a moment only.

    Args:
        distiller: in its main stage; the step advances its random state and batch statistics.
        batch: on its device.
        optimizer: as `pursuhint.training.OptimizerConfig` names it.
        teacher: what the teacher made of the batch, if it has run already.
    """
    parameters = list(distiller.parameters())
    trainable = sum(_bytes(parameter) for parameter in parameters if parameter.requires_grad)
    held = sum(map(_bytes, parameters)) + sum(map(_bytes, distiller.buffers()))
    known = {
        _address(tensor)
        for tensor in (
            *parameters,
            *distiller.buffers(),
            *tensors_of(batch.images),
            *([] if batch.second_view is None else [batch.second_view]),
            batch.labels,
            batch.indices,
        )
    }
    if distiller.teacher is not None:
        known |= {_address(tensor) for tensor in distiller.teacher.state_dict().values()}
    kept: dict[int, torch.UntypedStorage] = {}  # holding them, so that no address is used twice

    def pack(tensor: Tensor) -> Tensor:
        address = _address(tensor)
        if address not in known:
            kept[address] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        distiller(batch, teacher)
    return held + (1 + _STATES[optimizer]) * trainable + sum(storage.nbytes() for storage in kept.values())


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
