"""Plain transcriptions of the losses' formulas: tensor operations without savings and without checks.

A formula takes a loss, whose learned layers, memory banks and draws it uses, and the arguments of its
``forward``. It covers maps of equal sizes and the losses' defaults.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from torch import Tensor

from . import attention, contrast, embeddings, gradients, logits, maps

__all__ = ["FORMULAS"]

FORMULAS: Mapping[str, Callable[..., Tensor]] = MappingProxyType(
    {
        name: formula
        for part in (logits, maps, attention, embeddings, contrast, gradients)
        for name, formula in part.FORMULAS.items()
    }
)
"""Formulas by name of the loss; ``NAME:STAGE`` is the formula in a warm-up."""
