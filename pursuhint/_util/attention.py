"""Attention in networks whose gradients are differentiated in turn."""

from __future__ import annotations

import contextlib

from torch.nn.attention import SDPBackend, sdpa_kernel


def twice_differentiable(wanted: bool = True) -> contextlib.AbstractContextManager[None]:
    """Context in which attention is computed by matrix products, which PyTorch differentiates twice.

    The backward passes of its fused kernels have no derivative, which only the second backward pass shows.

    Args:
        wanted: whether to change anything.
    """
    return sdpa_kernel(SDPBackend.MATH) if wanted else contextlib.nullcontext()
