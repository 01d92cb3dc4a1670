"""A loss on hint points of which only some teach at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from pursuhint.errors import PursuhintError
from pursuhint.losses.base import Loss, WarmUp

if TYPE_CHECKING:
    from pursuhint.data.batch import Batch
    from pursuhint.features.extractor import Features

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
        steps: what is at work in every epoch of the main stage, or in every state of a subclass.
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
        self._now = self.steps[self.step_of(epoch, epochs)]

    def step_of(self, epoch: int, epochs: int) -> int:
        """Which of the steps an epoch is.

        Args:
            epoch: from 0.
            epochs: length of the main stage.

        Raises:
            PursuhintError: there are fewer steps than epochs.
        """
        if epoch >= len(self.steps):
            raise PursuhintError(
                f"the hint points are drawn for {len(self.steps)} epochs, and this is epoch {epoch + 1}"
            )
        return epoch

    def resume_epoch(self) -> None:
        """The state of an unfinished epoch was loaded after `begin_epoch`."""

    @property
    def restarted(self) -> int:
        """The epoch, from 0, in which the schedule of the learning rate began anew; 0 if it never did."""
        return 0

    def _variant(self, index: int) -> Loss:
        variant = self.variants[index]
        assert isinstance(variant, Loss)
        return variant


def _prefixed(names: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Names inside each variant, as names inside the whole."""
    return tuple(f"variants.{index}.{name}" for index, own in enumerate(names) for name in own)
