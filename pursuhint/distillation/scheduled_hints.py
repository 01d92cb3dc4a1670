"""A loss on hint points of which only some teach at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from pursuhint.errors import PursuhintError
from pursuhint.losses.base import HintLoss, HintSum, Loss, WarmUp
from pursuhint.losses.context import FeatureShape, LossContext

if TYPE_CHECKING:
    from pursuhint.data.batch import Batch
    from pursuhint.features.extractor import Features
    from pursuhint.hints.schedules import DrawnEachEpoch

__all__: list[str] = []


@dataclass(frozen=True)
class Use:
    """One loss at work: which of the variants, on which pairs of the plan."""

    variant: int
    pairs: tuple[int, ...]


class ScheduledHints(Loss):
    """A hint loss whose pairs change from epoch to epoch.

    A loss on single pairs learns for every pair separately, so that a connector keeps what it has learned
    when its pair comes back. A loss on all points together has one variant for all draws of the same shapes.
    What does not teach gets no gradient and stays as it is. In a warm-up all pairs teach.

    Args:
        variants: the loss, once for each group of pairs that it learns for.
        steps: what is at work in every epoch of the main stage.
    """

    def __init__(self, variants: Sequence[Loss], steps: Sequence[tuple[Use, ...]]) -> None:
        super().__init__()
        self.info = variants[0].info.replace(
            no_grad_parameters=_prefixed([variant.info.no_grad_parameters for variant in variants]),
            shared_buffers=_prefixed([variant.info.shared_buffers for variant in variants]),
        )
        self.variants = nn.ModuleList(variants)
        self.steps = tuple(steps)
        first = {use.variant: use for step in reversed(self.steps) for use in step}
        self._everything = tuple(first[variant] for variant in sorted(first))
        self._now = self.steps[0]

    @property
    def present_pairs(self) -> tuple[int, ...]:
        """Indices of the pairs that teach now, in the order in which `compute` takes their features."""
        return tuple(pair for use in self._now for pair in use.pairs)

    def compute(self, student: Features, teacher: Features | None, batch: Batch) -> Tensor:
        """The sum over what is at work now, from the features of `present_pairs`."""
        values, start = [], 0
        metrics: dict[str, list[Tensor]] = {}
        for use in self._now:
            here = slice(start, start + len(use.pairs))
            start = here.stop
            variant = self._variant(use.variant)
            own, other = replace(student, maps=student.maps[here]), teacher
            if teacher is not None:
                other = replace(teacher, maps=teacher.maps[here])
            values.append(variant.compute(own, other, batch))
            for name, value in variant.extra_metrics.items():
                metrics.setdefault(name, []).append(value)
        self.extra_metrics = {name: torch.stack(found).mean() for name, found in metrics.items()}
        return torch.stack(values).sum()

    def stages(self) -> Sequence[WarmUp]:
        """The stages of one variant: all warm up together."""
        return self._variant(0).stages()

    def begin_stage(self, stage: str | None) -> None:
        """All variants begin the stage; in a warm-up all are at work."""
        for variant in range(len(self.variants)):
            self._variant(variant).begin_stage(stage)
        self._now = self.steps[0] if stage is None else self._everything

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """All variants begin the epoch; those of its pairs are at work.

        Raises:
            PursuhintError: the schedule is shorter.
        """
        for variant in range(len(self.variants)):
            self._variant(variant).begin_epoch(epoch, epochs)
        if epoch >= len(self.steps):
            raise PursuhintError(
                f"the hint points are drawn for {len(self.steps)} epochs, and this is epoch {epoch + 1}"
            )
        self._now = self.steps[epoch]

    def _variant(self, index: int) -> Loss:
        variant = self.variants[index]
        assert isinstance(variant, Loss)
        return variant


def build_scheduled(
    kind: type[Loss], context: LossContext, schedule: DrawnEachEpoch, options: Mapping[str, Any]
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
    _check(kind, context)
    variants: list[Loss] = []
    known: dict[Any, int] = {}
    steps: list[tuple[Use, ...]] = []
    for pairs in schedule.epochs:
        keys: list[Any] = list(pairs) if issubclass(kind, HintLoss) else [_shapes(context, pairs)]
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
        groups = [(pair,) for pair in pairs] if issubclass(kind, HintLoss) else [pairs]
        steps.append(tuple(Use(known[key], group) for key, group in zip(keys, groups, strict=True)))
    return ScheduledHints(variants, steps)


def _check(kind: type[Loss], context: LossContext) -> None:
    reasons = {
        "chooses its hint points itself": context.chosen is not None,
        "changes the student": kind.info.alters_student,
        "ends before the main stage": kind.info.warm_up_only,
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


def _prefixed(names: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Names inside each variant, as names inside the whole."""
    return tuple(f"variants.{index}.{name}" for index, own in enumerate(names) for name in own)
