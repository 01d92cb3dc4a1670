"""DOT: momenta of cross-entropy and of distillation kept apart (Zhao, Cui, Song and Liang, 2023)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from pursuhint.training.recipe.dot_terms import TASK

if TYPE_CHECKING:
    from accelerate import Accelerator

    from pursuhint.distillation.terms import Losses


class DistillationOrientedSGD(torch.optim.Optimizer):
    r"""SGD with one momentum for the gradient of cross-entropy and another for the other losses' gradient.

    .. math:: v_{ce} \leftarrow (\mu - \Delta) v_{ce} + g_{ce} + \lambda \theta, \quad
              v_{kd} \leftarrow (\mu + \Delta) v_{kd} + g_{kd}, \quad
              \theta \leftarrow \theta - \eta \, (v_{ce} + v_{kd})

    So the losses that look at the teacher lead. A parameter with one of the two gradients, such as what a
    loss learns, has the momentum :math:`\mu` and the weight decay: plain SGD. With :math:`\Delta = 0` it is
    that for all. A step takes two backward passes: `keep_task_gradients` between them.

    Reference: B. Zhao, Q. Cui, R. Song and J. Liang, DOT: A Distillation-Oriented Trainer, ICCV 2023,
    https://arxiv.org/abs/2307.08436; a parameter with one gradient is updated as in the authors' code
    (mdistiller).

    Args:
        parameters: to train.
        lr: learning rate, above 0.
        momentum: :math:`\mu`.
        delta: :math:`\Delta`, from 0 to ``momentum`` and below ``1 - momentum``.
        weight_decay: :math:`\lambda`, at least 0.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        *,
        lr: float,
        momentum: float = 0.9,
        delta: float = 0.075,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(
            parameters, {"lr": lr, "momentum": momentum, "delta": delta, "weight_decay": weight_decay}
        )
        self._task: dict[Tensor, Tensor] = {}

    @torch.no_grad()
    def keep_task_gradients(self) -> None:
        """Set the present gradients, which are cross-entropy's, aside for `step`."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._task[parameter] = parameter.grad
                    parameter.grad = None

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update all parameters from the gradients set aside and those that are there."""
        value = None
        if closure is not None:
            with torch.enable_grad():
                value = closure()
        for group in self.param_groups:
            mean, delta = group["momentum"], group["delta"]
            for parameter in group["params"]:
                task, other = self._task.get(parameter), parameter.grad
                both = task is not None and other is not None
                for name, gradient, factor in (("task", task, mean - delta), ("other", other, mean + delta)):
                    if gradient is None:
                        continue
                    decayed = not both or name == "task"
                    if decayed and group["weight_decay"]:
                        gradient = gradient.add(parameter, alpha=group["weight_decay"])
                    buffer = self._momentum(parameter, name)
                    buffer.mul_(factor if both else mean).add_(gradient)
                    if not both:
                        parameter.add_(buffer, alpha=-group["lr"])
                if both:  # once both gradients are in: weight decay looks at the parameter before the step
                    state = self.state[parameter]
                    parameter.add_(state["task"] + state["other"], alpha=-group["lr"])
        self._task.clear()
        return value

    def _momentum(self, parameter: Tensor, name: str) -> Tensor:
        state = self.state[parameter]
        if name not in state:
            state[name] = torch.zeros_like(parameter)
        buffer: Tensor = state[name]
        return buffer


def backward(accelerator: Accelerator, losses: Losses, optimizer: Any, *, share: float = 1.0) -> None:
    """The gradients of a step: one backward pass or, for DOT, one of cross-entropy and one of the rest.

    Args:
        accelerator: scales and differentiates.
        losses: of the batch.
        optimizer: as the accelerator has prepared it.
        share: factor of the losses.
    """
    kept_apart = getattr(optimizer, "optimizer", optimizer)
    total = losses.total
    if isinstance(kept_apart, DistillationOrientedSGD) and TASK in losses.addends:
        others = [value for name, value in losses.addends.items() if name != TASK]
        if others:
            task = losses.addends[TASK]
            accelerator.backward(task if share == 1 else task * share, retain_graph=True)
            kept_apart.keep_task_gradients()
            total = torch.stack(others).sum()
    accelerator.backward(total if share == 1 else total * share)
