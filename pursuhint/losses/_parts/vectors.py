"""Scale vectors to unit length, and values to mean 0 and deviation 1."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["standardized", "unit_length"]


def unit_length(vectors: Tensor, *, dim: int = -1, eps: float = 1e-12) -> Tensor:
    """Scale vectors to length 1; those not longer than ``eps`` are divided by ``eps`` and are constants.

    The values are those of `torch.nn.functional.normalize`. Its gradient at a vector of zeros (a dead unit, a
    duplicate sample) is 1 / eps times whatever comes in, which one step of training does not survive.

    Args:
        vectors: any shape.
        dim: the axis along which a vector lies.
        eps: above 0.

    Returns:
        The shape of ``vectors``.
    """
    length = torch.linalg.vector_norm(vectors, dim=dim, keepdim=True)
    long_enough = length > eps
    return torch.where(long_enough, vectors / length.where(long_enough, 1.0), vectors.detach() / eps)


def standardized(values: Tensor, *, dim: int) -> Tensor:
    """Subtract the mean along an axis and divide by the (unbiased) standard deviation.

    Where the deviation is zero up to rounding the result is zero, and a constant: there is no gradient
    towards the directions in which noise would have to be told from information.

    Args:
        values: any shape.
        dim: the axis of the mean.

    Returns:
        The shape of ``values``.
    """
    centered = values - values.mean(dim, keepdim=True)
    degrees = max(values.shape[dim] - 1, 1)
    deviation = torch.linalg.vector_norm(centered, dim=dim, keepdim=True) / degrees**0.5
    rounding = 16 * torch.finfo(values.dtype).eps * values.detach().abs().amax(dim, keepdim=True)
    varies = deviation > rounding
    return torch.where(varies, centered / deviation.where(varies, 1.0), torch.zeros_like(centered))


_LARGEST = 20  # exponent of the largest value: squares of sums of a million squares stay inside float32


def in_range(values: Tensor) -> Tensor:
    """Scale values whose squares would overflow by one power of two; others are returned to the bit.

    For losses that do not depend on a common scale of the values: neither value nor gradient changes. Forces
    no GPU sync.
    """
    _, exponent = torch.frexp(values.detach().abs().amax().float())
    return values * torch.exp2((_LARGEST - exponent).clamp(max=0).to(values.dtype))
