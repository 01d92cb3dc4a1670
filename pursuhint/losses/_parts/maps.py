"""Bring the features of two networks to a common form: feature maps of one size."""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn import functional as F

from pursuhint.errors import PursuhintError
from pursuhint.losses.checks import check_same_batch
from pursuhint.losses.context import FeatureShape

__all__ = ["as_maps", "map_sizes", "pool_to", "pool_to_smaller", "smaller_size"]

Size = tuple[int, int]


def map_sizes(student: FeatureShape, teacher: FeatureShape) -> tuple[Size, Size]:
    """Height and width of the maps that `as_maps` makes of two features, student first.

    Raises:
        PursuhintError: tokens cannot be laid out as a map.
    """
    return _size(student.spatial, teacher.spatial), _size(teacher.spatial, student.spatial)


def as_maps(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """See features of any kind as feature maps.

    Maps stay as they are and vectors become maps of one position. Sequences of equally many tokens become
    maps one token wide. Other tokens are laid out as a square map, without the leading class token where
    leaving it out makes their number a square.

    Args:
        student: (N, C, H, W), (N, T, C) or (N, C).
        teacher: the same, not necessarily of the same kind.

    Returns:
        Two maps, (N, C, H, W).

    Raises:
        PursuhintError: the batches differ, or tokens cannot be laid out as a map.
    """
    check_same_batch(student, teacher)
    spatial_student, spatial_teacher = _spatial(student), _spatial(teacher)
    return (
        _as_map(student, _size(spatial_student, spatial_teacher)),
        _as_map(teacher, _size(spatial_teacher, spatial_student)),
    )


def smaller_size(first: Size, second: Size) -> Size:
    """The smaller height and the smaller width of two maps."""
    return min(first[0], second[0]), min(first[1], second[1])


def pool_to(features: Tensor, size: Size) -> Tensor:
    """Adaptive average pooling of (N, C, H, W) to (N, C, *size); nothing where the size is right already."""
    return features if features.shape[2:] == size else F.adaptive_avg_pool2d(features, size)


def pool_to_smaller(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Average the larger of two maps down to the size of the smaller.

    The reference implementations compare heights alone and pool to squares; for square maps this is the
    same. Here height and width are each compared, so that rectangular maps keep their shape.
    """
    size = smaller_size(_spatial_size(student), _spatial_size(teacher))
    return pool_to(student, size), pool_to(teacher, size)


def _spatial_size(features: Tensor) -> Size:
    return features.shape[2], features.shape[3]


def _spatial(features: Tensor) -> tuple[int, ...]:
    if features.ndim == 4:
        return tuple(features.shape[2:])
    if features.ndim == 3:
        return (features.shape[1],)
    if features.ndim == 2:
        return ()
    raise PursuhintError(
        f"features must be (N, C, H, W), (N, tokens, C) or (N, C); found shape {tuple(features.shape)}"
    )


def _size(spatial: tuple[int, ...], other: tuple[int, ...]) -> Size:
    if len(spatial) == 2:
        return spatial[0], spatial[1]
    if not spatial:
        return 1, 1
    (tokens,) = spatial
    if other == spatial:
        return tokens, 1
    for leading in (0, 1):  # class tokens in front of a square of patches
        side = math.isqrt(tokens - leading)
        if side > 0 and side * side == tokens - leading:
            return side, side
    raise PursuhintError(
        f"cannot compare a sequence of {tokens} tokens with features of size {other}: the tokens form no "
        "square map; choose hint points of the same kind in both networks"
    )


def _as_map(features: Tensor, size: Size) -> Tensor:
    if features.ndim == 4:
        return features
    if features.ndim == 2:
        return features[:, :, None, None]
    # the last tokens, without a class token in front
    return features[:, -size[0] * size[1] :].transpose(1, 2).unflatten(2, size)
