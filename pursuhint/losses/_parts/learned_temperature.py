"""A temperature that is learned against the student: CTKD (Li et al., 2023)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from pursuhint.losses.base import Loss, WarmUp

if TYPE_CHECKING:
    from pursuhint.losses.context import LossContext

__all__ = ["LEARNED", "LearnedTemperatureLoss"]

LEARNED = "learned"
"""The value of the hyperparameter ``temperature`` that asks for it."""

_LOWEST, _RANGE, _EPOCHS = 1.0, 20.0, 10


class LearnedTemperatureLoss(Loss):
    r"""A loss whose temperature is learned, and made as hard for the student as it can be.

    .. math:: T = 1 + 20 \, \mathrm{sigmoid}(\theta), \quad
              \frac{\partial L}{\partial \theta} \to \lambda(e) \frac{\partial L}{\partial \theta}, \quad
              \lambda(e) = - \tfrac12 \left( 1 - \cos \frac{\pi \min(e, 10)}{10} \right)

    with :math:`\theta = 1` at the start. The gradient is reversed, so that the temperature goes where the
    loss is larger, with a strength that grows over the first ten epochs e, counted from 1.

    Reference: Z. Li, X. Li, L. Yang, B. Zhao, R. Song, L. Luo, J. Li and J. Yang, Curriculum Temperature for
    Knowledge Distillation, AAAI 2023, https://arxiv.org/abs/2211.16231; one temperature for all samples, the
    form of the authors' code.

    Args:
        loss: any loss that divides logits by its ``temperature``.
    """

    def __init__(self, loss: Loss) -> None:
        super().__init__()
        self.loss = loss
        learns = [part for part in (loss.info.learns, "the temperature") if part]
        self.info = loss.info.replace(
            learns=" and ".join(learns),
            no_grad_parameters=tuple(f"loss.{name}" for name in loss.info.no_grad_parameters),
            shared_buffers=tuple(f"loss.{name}" for name in loss.info.shared_buffers),
        )
        self.theta = nn.Parameter(torch.ones(()))
        self.strength = -1.0

    @property
    def temperature(self) -> Tensor:
        """The present temperature, with the gradient that its parameter gets."""
        held = self.theta.detach()
        return _LOWEST + _RANGE * torch.sigmoid(held + self.strength * (self.theta - held))

    def terms(self, *inputs: Any) -> dict[str, Tensor]:
        """The addends of the loss at the present temperature.

        Args:
            *inputs: what the loss takes.
        """
        fixed, present = self.loss.temperature, self.temperature
        self.loss.temperature = present
        try:
            values = self.loss.terms(*inputs)
        finally:
            self.loss.temperature = fixed
        self.extra_metrics = {**self.loss.extra_metrics, "temperature": present.detach()}
        return values

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """The strength with which the temperature is learned in this epoch."""
        self.strength = -0.5 * (1 - math.cos(math.pi * min(epoch + 1, _EPOCHS) / _EPOCHS))
        self.loss.begin_epoch(epoch, epochs)

    def prepare(self, student: nn.Module) -> nn.Module:
        """As the loss does."""
        return self.loss.prepare(student)

    def transform_logits(self, logits: Tensor) -> Tensor:
        """As the loss does."""
        return self.loss.transform_logits(logits)

    def export(self, student: nn.Module) -> nn.Module:
        """As the loss does."""
        return self.loss.export(student)

    def other_heads(self, student: nn.Module) -> Mapping[str, nn.Module]:
        """As the loss says."""
        return self.loss.other_heads(student)

    def stages(self) -> Sequence[WarmUp]:
        """Those of the loss."""
        return self.loss.stages()

    def begin_stage(self, stage: str | None) -> None:
        """The loss begins the stage."""
        self.loss.begin_stage(stage)


def build_learned(kind: type[Loss], context: LossContext, options: Mapping[str, Any]) -> Loss:
    """A loss of a kind with a learned temperature.

    Args:
        kind: with `LossInfo.softens_logits`.
        context: what it is built from.
        options: its other hyperparameters.
    """
    return LearnedTemperatureLoss(kind.build(context, **options))
