"""The global random generators of a process, as one thing that can be put aside and brought back."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["RandomState"]


@dataclass(frozen=True)
class RandomState:
    """What Python, numpy and torch would draw next.

    Attributes:
        python: of `random`.
        numpy: of `numpy.random`.
        host: of torch on the CPU.
        device: of torch on a GPU; None without one.
    """

    python: tuple[Any, ...]
    numpy: dict[str, Any]
    host: Tensor
    device: Tensor | None

    @classmethod
    def now(cls, device: torch.device) -> RandomState:
        """The present state, with that of ``device`` if it is a CUDA one."""
        return cls(
            random.getstate(),
            np.random.get_state(legacy=False),  # noqa: NPY002
            torch.get_rng_state(),
            torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        )

    def restore(self, device: torch.device) -> None:
        """Draw from here on what would have been drawn."""
        random.setstate(self.python)
        np.random.set_state(self.numpy)  # noqa: NPY002
        torch.set_rng_state(self.host)
        if self.device is not None:
            torch.cuda.set_rng_state(self.device, device)
