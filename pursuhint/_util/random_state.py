"""Save and restore the global random generators of a process."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pursuhint._util.seeds import derived_seed

__all__ = ["RandomState", "keep_random_state", "seeded"]


@dataclass(frozen=True)
class RandomState:
    """State of the generators of Python, NumPy and PyTorch.

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
        """The present state, including the generator of ``device`` if it is a CUDA device."""
        return cls(
            random.getstate(),
            np.random.get_state(legacy=False),  # noqa: NPY002
            torch.get_rng_state(),
            torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        )

    def restore(self, device: torch.device) -> None:
        """Set all generators to this state."""
        random.setstate(self.python)
        np.random.set_state(self.numpy)  # noqa: NPY002
        torch.set_rng_state(self.host)
        if self.device is not None:
            torch.cuda.set_rng_state(self.device, device)


@contextlib.contextmanager
def keep_random_state(device: torch.device) -> Iterator[None]:
    """Leave the caller's global random generators unchanged; loading a training state sets them all."""
    before = RandomState.now(device)
    try:
        yield
    finally:
        before.restore(device)


@contextlib.contextmanager
def seeded(*parts: int | str) -> Iterator[None]:
    """Seed the global generators of Python, NumPy and PyTorch (CPU), and restore them at the end."""
    seed = derived_seed(*parts)
    with keep_random_state(torch.device("cpu")):
        torch.default_generator.manual_seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        random.seed(seed)
        yield
