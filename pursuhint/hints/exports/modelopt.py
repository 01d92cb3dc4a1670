"""Hint points for NVIDIA's Model Optimizer: a criterion for every pair of modules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from modelopt.torch.distill import DistillationLossBalancer
from torch import Tensor, nn
from torch.nn.modules.loss import _Loss

from pursuhint.features.axes import features_at
from pursuhint.features.call_trace import first_tensor

if TYPE_CHECKING:
    from pursuhint.features.tap import Tap

__all__: list[str] = []


class PairCriterion(_Loss):
    """One pair of hint points: what two modules return -> their weighted loss.

    Args:
        number: of the pair. It is the module's hash, too: modelopt keeps criteria that learn in a set, whose
            order, and with it the names in checkpoints, would differ from one process to the next.
        taps: of student and teacher.
        loss: compares their features.
        weight: factor.
    """

    def __init__(self, number: int, taps: tuple[Tap, Tap], loss: nn.Module, weight: float) -> None:
        super().__init__()
        self.number, self.taps, self.loss, self.weight = number, taps, loss, weight

    def __hash__(self) -> int:
        return self.number

    def __eq__(self, other: object) -> bool:
        return self is other

    def forward(self, student: Any, teacher: Any) -> Tensor:
        """The loss of what the modules of student and teacher have returned."""
        values = [first_tensor(returned) for returned in (student, teacher)]
        own, other = (features_at(tap, value) for tap, value in zip(self.taps, values) if value is not None)
        compared: Tensor = self.loss(own, other.detach())
        return self.weight * compared


class SumOfLosses(DistillationLossBalancer):
    """The student's loss and the weighted criteria, added up."""

    def forward(self, loss: dict[str, Tensor]) -> Tensor:
        """The sum."""
        reduce = self._student_loss_reduction_fn
        return torch.stack(
            [reduce(value) if reduce and name == "student_loss" else value for name, value in loss.items()]
        ).sum()
