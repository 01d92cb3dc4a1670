"""Stages of a run: warm-ups of losses and the main training, each with its optimizer and schedule."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from pursuhint.distillation.distiller import Distiller
from pursuhint.errors import PursuhintError
from pursuhint.losses import get_loss
from pursuhint.losses.base import WarmUp
from pursuhint.training.dot import DistillationOrientedSGD
from pursuhint.training.own_parts import NO_PARTS, OwnParts
from pursuhint.training.recipe.schema import OptimizerConfig, Recipe, ScheduleConfig
from pursuhint.training.schedules import learning_rate_factor

__all__ = ["Stage", "build_optimizer", "plan_stages"]


@dataclass(frozen=True)
class Stage:
    """One stage of a run. ``warm_up`` decides which terms are computed and which parameters are trained.

    Attributes:
        name: ``"main"``, or ``"term:stage"`` for a warm-up that a loss asks for.
        epochs: at least 1.
        optimizer: its settings; every stage creates a new optimizer.
        schedule: of the learning rate, over the epochs of this stage.
        term: the only term of a warm-up; None for all of them.
        warm_up: the warm-up itself; None in the main stage.
        own: optimizer and scheduler of the user, in the main stage.
    """

    name: str
    epochs: int
    optimizer: OptimizerConfig
    schedule: ScheduleConfig
    term: str | None = None
    warm_up: WarmUp | None = None
    own: OwnParts = NO_PARTS

    def new_optimizer(self, parameters: list[nn.Parameter], *, late: bool = False) -> torch.optim.Optimizer:
        """The optimizer of the stage: the user's own, or that of its settings, see `build_optimizer`.

        Raises:
            PursuhintError: the user's function returned something else.
        """
        if self.own.optimizer is None:
            return build_optimizer(self.optimizer, parameters, late=late)
        optimizer = self.own.optimizer(parameters)
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise PursuhintError(
                f"optimizer must be a function that returns a torch.optim.Optimizer, got a "
                f"{type(optimizer).__name__}"
            )
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
        return optimizer

    def new_scheduler(self, optimizer: torch.optim.Optimizer) -> LRScheduler | None:
        """The user's scheduler; None where the recipe's schedule holds.

        Raises:
            PursuhintError: the user's function returned something else, or one that waits for a metric.
        """
        if self.own.scheduler is None:
            return None
        scheduler = self.own.scheduler(optimizer)
        if not isinstance(scheduler, LRScheduler) or isinstance(scheduler, ReduceLROnPlateau):
            raise PursuhintError(
                "scheduler must be a function that returns a torch.optim.lr_scheduler.LRScheduler that steps "
                f"by epochs, got a {type(scheduler).__name__}"
            )
        return scheduler

    def set_learning_rate(
        self, groups: list[dict[str, Any]], step: int, steps_per_epoch: int, *, restarted: int = 0
    ) -> float:
        """Set the learning rate of a step, see `learning_rate`; returns that of the first group.

        A scheduler of the user sets it instead. The rates of the user's optimizer are scaled as the schedule
        has it.
        """
        if self.own.scheduler is None:
            rate = self.learning_rate(step, steps_per_epoch, restarted=restarted)
            for group in groups:
                of_recipe = self.own.optimizer is None
                group["lr"] = rate if of_recipe else group["initial_lr"] * rate / self.optimizer.lr
        return float(groups[0]["lr"])

    def begin_stage(self, distiller: Distiller) -> list[nn.Parameter]:
        """Set the distiller to this stage; returns the parameters that it trains."""
        distiller.begin_stage(self.term, self.warm_up)
        return distiller.trainable_parameters()

    def leaves_parameters_idle(self, distiller: Distiller) -> bool:
        """Whether some parameters of the distiller may get no gradient in this stage.

        A warm-up skips the end of the student and the other losses; the main stage skips losses of weight 0,
        losses that exist for their warm-up only, and what is learned for hint points that do not teach now.
        """
        losses = [distiller.loss(name) for name in distiller.losses]
        return (
            self.warm_up is not None
            or distiller.changes_hints
            or not all(distiller.weights.values())
            or any(loss.info.warm_up_only for loss in losses)
        )

    def advice(self) -> str:
        """What may help when a loss of this stage is not finite: the settings that change its steps.

        A warm-up has one term, whose weight changes nothing there, and may have a learning rate of its own.
        """
        if self.term is None:
            return "lower optimizer.lr or the weight of the term"
        if "warm_up_lr" in inspect.signature(get_loss(self.term)).parameters:
            return f"lower losses.{self.term}.warm_up_lr, the learning rate of this warm-up"
        return "lower optimizer.lr"

    def learning_rate(self, step: int, steps_per_epoch: int, *, restarted: int = 0) -> float:
        """The learning rate of a step of this stage.

        Args:
            step: counted from 0.
            steps_per_epoch: at least 1.
            restarted: the epoch of the main stage in which the schedule began anew, from 0. It then takes the
                epochs that are left, with milestones at the same shares of them and without a warm-up.
        """
        schedule = self.schedule
        if restarted and self.warm_up is None:
            schedule = schedule.model_copy(update={"warmup_epochs": 0})
            step = (step - restarted * steps_per_epoch) * self.epochs // (self.epochs - restarted)
        factor = learning_rate_factor(
            schedule, step=step, steps_per_epoch=steps_per_epoch, epochs=self.epochs
        )
        return self.optimizer.lr * factor


def plan_stages(recipe: Recipe, distiller: Distiller, own: OwnParts = NO_PARTS) -> tuple[Stage, ...]:
    """The warm-ups of the losses, each with its own learning rate, and then the main stage."""
    warm_ups = []
    for term, warm_up in distiller.warm_ups():
        optimizer = recipe.optimizer.model_copy(update={"lr": warm_up.lr or recipe.optimizer.lr})
        schedule = ScheduleConfig(kind="cosine", floor=warm_up.lr_floor)
        warm_ups.append(Stage(f"{term}:{warm_up.name}", warm_up.epochs, optimizer, schedule, term, warm_up))
    return (*warm_ups, Stage("main", recipe.epochs, recipe.optimizer, recipe.schedule, own=own))


def check_that_all_learn(distiller: Distiller) -> None:
    """Check, with several processes, that the first backward pass of a stage reached every parameter.

    Raises:
        PursuhintError: a parameter has no gradient; DDP would wait for it forever.
    """
    parameters = distiller.named_parameters()
    idle = [name for name, value in parameters if value.requires_grad and value.grad is None]
    if idle:
        more = f" and {len(idle) - 1} more parameters" if len(idle) > 1 else ""
        raise PursuhintError(
            f"{idle[0]}{more} in training take no part in the losses, and several processes would wait; "
            "freeze what is not needed (requires_grad_(False)), or train with one process"
        )


def build_optimizer(
    config: OptimizerConfig, parameters: list[nn.Parameter], *, late: bool = False
) -> torch.optim.Optimizer:
    """The optimizer of a stage, over one parameter group; with the fused kernel where PyTorch has one.

    Args:
        config: section of a recipe.
        parameters: to train.
        late: some of them get their first gradient after the first step.
    """
    fused = all(
        parameter.is_floating_point() and parameter.device.type in ("cpu", "cuda") for parameter in parameters
    )
    if config.name == "adamw":
        betas = (config.momentum, 0.999)
        return torch.optim.AdamW(
            parameters, lr=config.lr, betas=betas, weight_decay=config.weight_decay, fused=fused
        )
    if config.name == "dot":
        return DistillationOrientedSGD(
            parameters,
            lr=config.lr,
            momentum=config.momentum,
            delta=config.delta_of_dot,
            weight_decay=config.weight_decay,
        )
    optimizer = torch.optim.SGD(
        parameters,
        lr=config.lr,
        momentum=config.momentum,
        nesterov=config.nesterov,
        weight_decay=config.weight_decay,
        fused=fused,
    )
    if late and config.momentum:
        # The fused kernel takes all momenta or none. From zero, a first step is what it is without one.
        for parameter in parameters:
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer
