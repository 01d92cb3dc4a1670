"""Build a loss for a hint plan that changes while the student trains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from pursuhint.distillation.curriculum_hints import CurriculumHints
from pursuhint.distillation.scheduled_hints import ScheduledHints, Use
from pursuhint.errors import PursuhintError
from pursuhint.hints.schedules import Curriculum, DrawnEachEpoch
from pursuhint.losses.base import HintLoss, HintSum, Loss
from pursuhint.losses.context import FeatureShape, LossContext

__all__: list[str] = []


def build_scheduled(
    kind: type[Loss], context: LossContext, schedule: DrawnEachEpoch | Curriculum, options: Mapping[str, Any]
) -> ScheduledHints:
    """A loss for the pairs of a plan that changes while the student trains.

    Args:
        kind: class of the loss.
        context: with all pairs of the plan.
        schedule: which teach when.
        options: hyperparameters.

    Raises:
        PursuhintError: the loss chooses its points itself, changes the student, or has no main stage; as
            `pursuhint.losses.Loss.build`.
    """
    _check(kind, context, options)
    variants: list[Loss] = []
    known: dict[Any, int] = {}
    steps: list[tuple[Use, ...]] = []
    one_by_one = isinstance(schedule, Curriculum)
    draws = (
        tuple((pair,) for pair in range(len(context.pairs)))
        if isinstance(schedule, Curriculum)
        else schedule.epochs
    )
    for pairs in draws:
        single = one_by_one or issubclass(kind, HintLoss)
        keys: list[Any] = list(pairs) if single else [_shapes(context, pairs)]
        if not all(key in known for key in keys):
            built = kind.build(_with_pairs(context, pairs), **options)
            parts = (
                [HintSum([cast(HintLoss, hint)]) for hint in built.hints]
                if isinstance(built, HintSum)
                else [built]
            )
            for key, part in zip(keys, parts, strict=True):
                if key not in known:
                    known[key] = len(variants)
                    variants.append(part)
        groups = [(pair,) for pair in pairs] if single else [pairs]
        steps.append(tuple(Use(known[key], group) for key, group in zip(keys, groups, strict=True)))
    if isinstance(schedule, Curriculum):
        return CurriculumHints(variants, steps, schedule)
    return ScheduledHints(variants, steps)


def _check(kind: type[Loss], context: LossContext, options: Mapping[str, Any]) -> None:
    reasons = {
        "chooses its hint points itself": context.chosen is not None,
        "changes the student": kind.info.alters_student,
        "ends before the main stage": kind.only_warms_up(options),
    }
    for reason, holds in reasons.items():
        if holds:
            raise PursuhintError(
                f"{kind.info.title} {reason}, so its hint points cannot change from epoch to epoch; "
                "take hint points that stay (--hints even), or give this loss its own (losses.NAME.hints)"
            )


def _with_pairs(context: LossContext, pairs: Sequence[int]) -> LossContext:
    return replace(context, pairs=tuple(context.pairs[pair] for pair in pairs))


def _shapes(context: LossContext, pairs: Sequence[int]) -> tuple[FeatureShape, ...]:
    """The shapes of a draw: all that a loss on all points together is built from."""
    return tuple(replace(shape, module="", point=None) for pair in pairs for shape in context.pairs[pair])
