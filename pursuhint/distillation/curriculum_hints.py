"""A hint loss whose teacher layer moves deeper as the student becomes similar to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pursuhint._util.distributed import from_main_process
from pursuhint.distillation.scheduled_hints import ScheduledHints, Use
from pursuhint.features.pooling import MeanPooling
from pursuhint.losses.base import Loss

if TYPE_CHECKING:
    from pursuhint.data.batch import Batch
    from pursuhint.features.extractor import Features
    from pursuhint.hints.schedules import Curriculum

__all__: list[str] = []

_SMALLEST = 1e-6
"""An unbiased HSIC of a layer with itself below this fraction of the biased one is rounding error."""


class CurriculumHints(ScheduledHints):
    """A hint loss with one pair at a time; see `pursuhint.hints.Curriculum`.

    What it knows of its progress is in buffers: the target, the running similarity, and the epoch in which
    the target changed. In several processes, rank 0 decides for all, by the similarity on its samples.

    Args:
        variants: the loss, once for each pair.
        steps: what is at work for every target.
        schedule: when the next one teaches.
    """

    target: Tensor
    similarity: Tensor
    since: Tensor

    def __init__(
        self, variants: Sequence[Loss], steps: Sequence[tuple[Use, ...]], schedule: Curriculum
    ) -> None:
        super().__init__(variants, steps)
        self.schedule = schedule
        self.register_buffer("target", torch.tensor(0))
        self.register_buffer("similarity", torch.tensor(0.0))
        self.register_buffer("since", torch.tensor(0))
        self._since = 0
        self._warming = False

    def begin_stage(self, stage: str | None) -> None:
        """As `ScheduledHints`; the similarity counts in the main stage."""
        super().begin_stage(stage)
        self._warming = stage is not None

    def step_of(self, epoch: int, epochs: int) -> int:
        """The target of this epoch: the one before, or the next."""
        target, similarity, since = self._state()
        moves = self.schedule.moves_on(similarity, epoch - since, epochs=epochs, targets=len(self.steps))
        if epoch > 0 and target + 1 < len(self.steps) and moves:
            target, similarity, since = target + 1, 0.0, epoch
        with torch.no_grad():
            self.target.fill_(target)
            self.similarity.fill_(similarity)
            self.since.fill_(since)
        self._since = since
        return target

    def resume_epoch(self) -> None:
        """Take the target from the state that was loaded. In a warm-up all pairs stay at work."""
        target, _, self._since = self._state()
        if not self._warming:
            self._now = self.steps[target]

    @property
    def restarted(self) -> int:
        """The epoch in which the target changed last, if the learning rate restarts then."""
        return self._since if self.schedule.restart else 0

    def compute(self, student: Features, teacher: Features | None, batch: Batch) -> Tensor:
        """As `ScheduledHints`, and the running similarity of student and target is updated."""
        value = super().compute(student, teacher, batch)
        if teacher is not None and not self._warming:
            with torch.no_grad():
                self._observe(student.maps[0], teacher.maps[0])
            self.extra_metrics = {
                **self.extra_metrics,
                "target": (self.target + 1).to(value.dtype),
                "similarity": self.similarity.to(value.dtype, copy=True),
            }
        return value

    def _observe(self, student: Tensor, teacher: Tensor) -> None:
        if len(student) < 4:  # the unbiased estimate needs as many
            return
        now = batch_similarity(student, teacher).to(self.similarity.dtype)
        now = torch.where(now.isfinite(), now, self.similarity)
        self.similarity.lerp_(now, self.schedule.smoothing)

    def _state(self) -> tuple[int, float, int]:
        """Target, similarity and the epoch of the last change. Collective call; waits for the device."""
        state = torch.stack([self.target.double(), self.similarity.double(), self.since.double()]).cpu()
        target, similarity, since = from_main_process(state).tolist()
        return int(target), similarity, int(since)


def batch_similarity(student: Tensor, teacher: Tensor) -> Tensor:
    """Debiased linear CKA of the means over space or tokens; see `pursuhint.similarity.debiased_cka`.

    In float32 at least, and without waiting for the device.

    Args:
        student: features of at least four samples, at a hint point.
        teacher: of the same samples.

    Returns:
        Scalar; NaN where the features of a network do not vary.
    """
    with torch.autocast(student.device.type, enabled=False):
        x, y = (_centered(MeanPooling()(features)) for features in (student, teacher))
        own_x, own_y = _dependence(x, x), _dependence(y, y)
        defined = torch.minimum(own_x, own_y) > _SMALLEST
        return torch.where(defined, _dependence(x, y) / (own_x * own_y).clamp_min(0).sqrt(), torch.nan)


def _centered(features: Tensor) -> Tensor:
    """Centered features, scaled so that the squared norm of their Gram matrix is 1."""
    features = features - features.mean(0)
    return features / (features.T @ features).norm().sqrt()


def _dependence(x: Tensor, y: Tensor) -> Tensor:
    """n (n - 3) times the unbiased HSIC of centered features."""
    n, rows_x, rows_y = len(x), x.square().sum(1), y.square().sum(1)
    joint = rows_x.sum() * rows_y.sum() / ((n - 1) * (n - 2))
    return (x.T @ y).square().sum() - n / (n - 2) * (rows_x @ rows_y) + joint
