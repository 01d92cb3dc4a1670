"""Which patches of the image the tokens of a transformer are, read from the convolution that cuts it."""

from __future__ import annotations

import math

from torch import nn

from pursuhint.features.call_trace import Call, CallTrace
from pursuhint.features.layers import as_convolution

# More tokens than these in front of the patches (class, distillation and register tokens) are not expected.
_MOST_PREFIX_TOKENS = 16


def patch_grid(network: nn.Module, trace: CallTrace, block: Call, tokens: int) -> tuple[int, int] | None:
    """Rows and columns of the patches that the tokens of a block are; the patches come last.

    A convolution with as many places as there are tokens, up to a few tokens in front, has cut the image; or,
    in networks that merge 2 x 2 tokens from stage to stage, one with 4, 16, ... times as many.

    Args:
        network: may say ``num_prefix_tokens`` (timm) or ``config.num_register_tokens`` (transformers).
        trace: of its forward pass.
        block: the call that gives the tokens.
        tokens: how many it gives.

    Returns:
        None where no convolution fits.
    """
    grids = [
        (int(call.output.shape[2]), int(call.output.shape[3]))
        for call in trace.calls
        if as_convolution(call.module) is not None
        and call.started < block.ended
        and call.output is not None
        and call.output.ndim == 4
        and len(call.output) == trace.samples
    ]
    known = _prefix_tokens(network)
    fitting = [grid for grid in grids if _fits(tokens - math.prod(grid), math.prod(grid), known)]
    if fitting:  # the largest, and of equal ones the last
        return max(reversed(fitting), key=math.prod)
    for rows, columns in grids:
        ratio = math.isqrt(rows * columns // tokens)
        if ratio > 1 and rows % ratio == columns % ratio == 0 and rows * columns == tokens * ratio**2:
            return rows // ratio, columns // ratio
    return None


def _fits(prefix: int, patches: int, known: int | None) -> bool:
    """Whether a number of tokens in front of the patches is possible."""
    if known is not None:  # a class token may be added behind the blocks of patches (CaiT)
        return prefix in (0, known)
    return 0 <= prefix < min(patches, _MOST_PREFIX_TOKENS + 1)


def _prefix_tokens(network: nn.Module) -> int | None:
    """The number of tokens in front of the patches, if the network says it."""
    said = getattr(network, "num_prefix_tokens", None)
    if isinstance(said, int):
        return said
    registers = getattr(getattr(network, "config", None), "num_register_tokens", None)
    return 1 + registers if isinstance(registers, int) else None
