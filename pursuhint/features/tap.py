"""How to read a tensor out of a running network: plain values, that need no network to be stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Tap"]

TapKind = Literal["output", "input", "functional-input", "functional-output"]


@dataclass(frozen=True)
class Tap:
    """How to read one tensor out of a running network.

    Attributes:
        module: name of the module to watch, ``""`` for the network itself.
        kind: ``"output"`` or ``"input"`` of the module's call, or the input or output of an activation
            that the module's own ``forward`` applies as a function (``F.relu(x)``), which no hook sees.
        call: which call within one forward pass, from 0; of the module, or of the activations applied as
            functions directly in it.
        copy: the network overwrites this tensor in place later in the forward pass, so it must be copied.
        channels_last: the tensor is (N, H, W, C); the probe moves the channels to the second axis.
    """

    module: str
    kind: TapKind = "output"
    call: int = 0
    copy: bool = False
    channels_last: bool = False
