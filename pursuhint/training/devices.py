"""The device of a run, and Accelerate on it."""

from __future__ import annotations

import contextlib
import os

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs

from pursuhint._util.distributed import is_distributed
from pursuhint.errors import PursuhintError

__all__ = ["build_accelerator"]

_SHARDED = ("FSDP", "DEEPSPEED", "MEGATRON_LM")
_MIXED = {"float32": "no", "bf16": "bf16", "fp16": "fp16"}


def build_accelerator(device: torch.device, precision: str) -> Accelerator:
    """Create the accelerator for one device and precision.

    Accelerate keeps its settings for the life of the process; they are reset if an earlier run had others.

    Args:
        device: under a launcher every process gets its own device of this type.
        precision: ``float32``, ``bf16`` or ``fp16``.

    Raises:
        PursuhintError: the device does not support the precision, the launcher's environment is incomplete,
            or the launcher is configured to shard networks.
    """
    if precision == "fp16" and device.type == "cpu":
        raise PursuhintError("precision 'fp16' needs a GPU; use 'bf16' or 'float32' on the CPU")
    if device.type == "cuda" and device.index is not None and not is_distributed():
        torch.cuda.set_device(device)

    def build() -> Accelerator:
        return Accelerator(
            cpu=device.type == "cpu",
            mixed_precision=_MIXED[precision],
            kwargs_handlers=[DistributedDataParallelKwargs()],
        )

    if any(os.environ.get(f"ACCELERATE_USE_{kind}", "").lower() == "true" for kind in _SHARDED):
        raise PursuhintError(
            "a launcher cannot shard the networks of a run (FSDP, DeepSpeed, Megatron); launch it without, "
            "and set acceleration.shard_teacher=true for a large teacher (docs/training.md)"
        )
    with contextlib.suppress(ValueError):  # settings of an earlier run that cannot be changed
        accelerator = build()
        if accelerator.device.type == device.type:
            return accelerator
    AcceleratorState._reset_state(reset_partial_state=True)  # the process group stays
    try:
        return build()
    except ValueError as error:  # the environment that a launcher should have prepared
        raise PursuhintError(f"cannot join the other processes: {error}") from error


def expect_idle_parameters(accelerator: Accelerator, expected: bool) -> None:
    """Set DDP's ``find_unused_parameters`` for the stage that is prepared next.

    Needed if some parameters get no gradient in it; otherwise off, because the search costs time in every
    step.
    """
    if accelerator.ddp_handler is not None:
        accelerator.ddp_handler.find_unused_parameters = expected
