"""How a network is run in a pass over data."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import torch

from pursuhint._util.registry import lookup
from pursuhint.errors import PursuhintError
from pursuhint.features.pooling import MeanPooling, Pooling

AUTOCAST: Mapping[str, torch.dtype] = MappingProxyType({"bf16": torch.bfloat16, "fp16": torch.float16})
"""Types of automatic mixed precision, by name."""


@dataclass(frozen=True)
class PassOptions:
    """How a network is run in a pass over data.

    Attributes:
        pooling: pools features into one vector per sample; see `pursuhint.features.get_pooling`. Feature maps
            (N, C, H, W) and token sequences (N, T, C) are averaged over space or tokens by default, as in
            PURSUhInT, section 3.1.
        device: device of the network; batches are moved to it. Statistics are kept there too, or on the CPU
            if the device has no float64.
        autocast: run the network in ``"bf16"`` or ``"fp16"`` by automatic mixed precision. Pooling and
            statistics keep their precision, but features have about three significant digits only.
        fuse_batchnorm: run a copy of the network with fused batch norms, where it computes the same but for
            rounding; not under ``autocast``.
        channels_last: run a copy with channels-last weights on channels-last images; not under ``autocast``,
            and not for networks without batch norms.

    Raises:
        PursuhintError: there is no such autocast type, or the device cannot compute in it.
    """

    pooling: Pooling = field(default_factory=MeanPooling)
    device: torch.device | str = "cpu"
    autocast: str | None = None
    fuse_batchnorm: bool = True
    channels_last: bool = True

    def __post_init__(self) -> None:
        if self.autocast is None:
            return
        lookup("autocast type", {name: name for name in AUTOCAST}, self.autocast)
        if self.autocast == "fp16" and torch.device(self.device).type == "cpu":
            raise PursuhintError("autocast 'fp16' needs a GPU; use 'bf16' or none on the CPU")

    def cast(self) -> contextlib.AbstractContextManager[object]:
        """Context in which the network is run."""
        if self.autocast is None:
            return contextlib.nullcontext()
        return torch.autocast(torch.device(self.device).type, AUTOCAST[self.autocast])
