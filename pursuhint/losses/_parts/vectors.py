"""Scale vectors to unit length, and values to mean 0 and deviation 1."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["in_range", "lengths", "range_scale", "standardized", "unit_length"]


def unit_length(vectors: Tensor, *, dim: int = -1, eps: float = 1e-12, ranged: bool = False) -> Tensor:
    """Scale vectors to length 1; those not longer than ``eps`` are divided by ``eps`` and are constants.

    The values are those of `torch.nn.functional.normalize`. Its gradient at a vector of zeros (a dead unit, a
    duplicate sample) is 1 / eps times whatever comes in, which one step of training does not survive.

    Args:
        vectors: any shape.
        dim: the axis along which a vector lies.
        eps: above 0.
        ranged: the values come from `in_range`, or powers of such, so that their squares cannot overflow and
            are summed as they are.

    Returns:
        The shape of ``vectors``.
    """
    length = torch.linalg.vector_norm(vectors, dim=dim, keepdim=True) if ranged else lengths(vectors, dim=dim)
    long_enough = length > eps
    return torch.where(long_enough, vectors / length.where(long_enough, 1.0), vectors.detach() / eps)


def lengths(vectors: Tensor, *, dim: int) -> Tensor:
    """Euclidean lengths along an axis, which is kept with size 1.

    Squares are summed in float64, where those of float32 do not overflow; this costs no further pass.
    """
    wide = vectors.dtype if vectors.device.type == "mps" else torch.float64  # which has no float64
    return torch.linalg.vector_norm(vectors, dim=dim, keepdim=True, dtype=wide).to(vectors.dtype)


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
    deviation = lengths(centered, dim=dim) / degrees**0.5
    rounding = 16 * torch.finfo(values.dtype).eps * values.detach().abs().amax(dim, keepdim=True)
    varies = deviation > rounding
    return torch.where(varies, centered / deviation.where(varies, 1.0), torch.zeros_like(centered))


_LARGEST = 40  # exponent of a power: squares of sums of a million of them stay inside float32


def in_range(values: Tensor, *, dim: int | None = None, power: int = 2) -> Tensor:
    """Scale values whose squares would overflow by one factor; others are returned to the bit.

    For losses that do not depend on a common scale of the values: neither value nor gradient changes. Forces
    no GPU sync.

    Args:
        values: any shape.
        dim: the axis along which values have a common scale; None for one scale of all.
        power: the highest power of the values that is taken.

    Returns:
        The shape of ``values``, with magnitudes of at most 2^20 for powers up to 2 (2^40 / power beyond).
    """
    return values * range_scale(values, dim=dim, power=power)


def range_scale(values: Tensor, *, dim: int | None = None, power: int = 2) -> Tensor:
    """The factor of `in_range`, a constant: 1, or what makes the largest magnitude the largest allowed."""
    axes = tuple(range(values.ndim)) if dim is None else dim
    largest = torch.linalg.vector_norm(values.detach(), float("inf"), axes, keepdim=dim is not None)
    bound = 2.0 ** (_LARGEST // max(power, 2))
    return bound / largest.clamp(min=bound)
