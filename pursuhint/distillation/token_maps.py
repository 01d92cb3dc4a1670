"""Tokens beside feature maps: laid out as the patches of the image that they are."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from pursuhint._util.network_input import NetworkInput
from pursuhint.errors import PursuhintError
from pursuhint.features.hint_points import HintPoint

Points = tuple[HintPoint, ...]


def of_one_kind(student: Points, teacher: Points, example: NetworkInput) -> tuple[Points, Points]:
    """Points at which one loss can compare two networks place by place.

    Sequences of equally many tokens stay sequences. Otherwise tokens become maps of the patches of the image,
    without the class and register tokens in front.

    Args:
        student: points of the student that the loss sees.
        teacher: points of the teacher.
        example: images of the size that both networks see.

    Raises:
        PursuhintError: it is not known which patches the tokens are, and the image is no square.
    """
    if len({point.spatial for point in (*student, *teacher) if point.spatial}) < 2:
        return student, teacher
    return tuple(_maps(student, example)), tuple(_maps(teacher, example))


def _maps(points: Points, example: NetworkInput) -> Iterable[HintPoint]:
    for point in points:
        if len(point.spatial) == 1 and point.grid is None and not _is_square(example):
            raise PursuhintError(
                f"{point} has {point.spatial[0]} tokens of an image that is no square, and it is not known "
                "which patches they are: no convolution of the network has as many places; choose hint "
                "points of the same kind in both networks"
            )
        yield point.as_map()


def _is_square(example: NetworkInput) -> bool:
    """Whether images are squares; what is no image has no other shape."""
    return not isinstance(example, Tensor) or example.ndim != 4 or example.shape[2] == example.shape[3]
