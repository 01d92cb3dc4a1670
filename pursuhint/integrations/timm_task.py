"""Distillation as a training task of timm."""

from __future__ import annotations

from typing import Any

from timm.task import TrainingTask
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from pursuhint.distillation.distiller import Distiller
from pursuhint.errors import PursuhintError
from pursuhint.integrations.step import DistillationStep

__all__ = ["HintDistillationTask"]


class HintDistillationTask(TrainingTask):
    """A `pursuhint.distillation.Distiller` as a ``timm.task.TrainingTask``.

    What is evaluated, averaged (EMA) and saved is the student; what the losses learn is the task's state.
    timm does not say which epoch it is: call ``task.begin_epoch(epoch, epochs)``.

    Args:
        distiller: student, teacher and losses.
        **options: ``device``, ``dtype`` and ``verbose`` of ``TrainingTask``.
    """

    def __init__(self, distiller: Distiller, **options: Any) -> None:
        super().__init__(**options)
        self.step = DistillationStep(distiller)
        self.begin_epoch = self.step.begin_epoch
        self.trainable_module: nn.Module = self.step

    def forward(
        self,
        input: Tensor,
        target: Tensor,
        indices: Tensor | None = None,
        second_view: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Total loss, the student's logits as ``output``, and every term, unweighted.

        Args:
            input: images, (N, channels, height, width).
            target: int64, (N,).
            indices: number of each sample in the training set, (N,), for losses that remember samples.
            second_view: of the same images, for losses that look at one.

        Raises:
            PursuhintError: the labels are soft (mixup, label smoothing).
        """
        if target.ndim != 1:
            raise PursuhintError("the losses take class indices; leave out mixup and soft labels")
        found = self.trainable_module(input, target, indices, second_view)
        return {"output" if name == "logits" else name: value for name, value in found.items()}

    def prepare_distributed(self, device_ids: list[int] | None = None, **options: Any) -> TrainingTask:
        """Wrap the student and what the losses learn for several processes."""
        self.trainable_module = DistributedDataParallel(self.step, device_ids=device_ids, **options)
        return self

    def compile(self, *arguments: Any, **options: Any) -> None:
        """Refused: compile with ``Distiller.build(acceleration=...)``."""
        raise PursuhintError("compile with Distiller.build(..., acceleration=Acceleration(compile=True))")

    def setup_ema(self, *arguments: Any, **options: Any) -> nn.Module:
        """Average the student's weights."""
        self.trainable_module_ema = ModelEmaV3(self.step.distiller.student, *arguments, **options)
        return self.trainable_module_ema

    def update_ema(self, step: int | None = None) -> None:
        """Add the present weights to the average."""
        if self.has_ema():
            self.trainable_module_ema.update(self.step.distiller.student, step=step)

    def get_eval_model(self, module: nn.Module | None = None, ema: bool = False) -> nn.Module | None:
        """The student, or its average."""
        return self.get_trainable_module(ema=True) if ema else module or self.step.distiller.student

    def get_task_state(self, module: nn.Module | None = None, ema: bool = False) -> dict[str, Any]:
        """What the losses have learned and remember."""
        return {} if ema else dict(self.step.distiller.losses.state_dict())

    def load_task_state(self, state: Any, strict: bool = True, module: Any = None, ema: bool = False) -> None:
        """The inverse of `get_task_state`."""
        if not ema:
            self.step.distiller.losses.load_state_dict(state or {}, strict=strict)
