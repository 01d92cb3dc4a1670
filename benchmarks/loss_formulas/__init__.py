"""Every loss once more, as its formula reads: plain tensor operations, nothing saved, nothing guarded.

A formula takes a loss, whose learned layers, memories and draws it uses, and what ``forward`` of that loss is
given. It is written down for maps of equal sizes and for the losses' defaults.
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
"""Formulas by the loss's name, with ``:STAGE`` behind it for what a loss computes in a warm-up."""
