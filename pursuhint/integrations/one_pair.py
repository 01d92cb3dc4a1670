"""Our losses of hint points for the tools that `pursuhint.hints.HintPlan` is exported to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from torch import nn

from pursuhint.errors import PursuhintError
from pursuhint.features.hint_points import HintPoint
from pursuhint.losses import get_loss
from pursuhint.losses.base import HintLoss, HintSum
from pursuhint.losses.context import FeatureShape, LossContext

__all__ = ["pair_loss"]


def pair_loss(name: str, **options: Any) -> Callable[[HintPoint, HintPoint], nn.Module]:
    """A loss of single pairs by name, to be built for every pair of a plan.

    Args:
        name: of a loss that compares one pair of hint points by itself: ``fitnet``, ``at``, ``vid``, ...
        **options: its hyperparameters. OFD needs ``margins="batch"``: the teacher's norms are not known here.

    Returns:
        Points of student and teacher -> a module ``loss(student, teacher)`` of their features. It is not
        weighted.

    Raises:
        PursuhintError: there is no such loss or option, or it looks at more than one pair.

    Example:
        >>> plan.to_modelopt(pair_loss("fitnet"), weight=100)
    """
    kind = get_loss(name)
    if not issubclass(kind, HintLoss):
        raise PursuhintError(
            f"{kind.info.title} is no loss of single pairs of hint points; take fitnet, at, vid, ..."
        )
    kind.checked(options)

    def build(student: HintPoint, teacher: HintPoint) -> nn.Module:
        own, other = (
            FeatureShape(point.channels, point.spatial, point.activation, point.module, point)
            for point in (student, teacher)
        )
        context = LossContext(
            ((own, other),), num_classes=0, num_samples=0, student_embedding=0, teacher_embedding=0
        )
        built = cast(HintSum, kind.build(context, **options))
        if built.stages():
            raise PursuhintError(f"{kind.info.title} needs a warm-up, which other tools do not run")
        return built.hints[0]

    return build
