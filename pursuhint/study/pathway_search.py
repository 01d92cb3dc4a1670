"""Search the pathway weights of a recipe (DistPro): the result is a recipe with a schedule of weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pursuhint._util.devices import choose_device
from pursuhint.acceleration.options import Acceleration
from pursuhint.data import make_loader
from pursuhint.distillation.meta_gradient import Method, SearchOptions, SgdStep, search_pathways
from pursuhint.errors import PursuhintError
from pursuhint.losses import get_loss
from pursuhint.losses.distpro import PathwayLoss, pathway_weights
from pursuhint.models.teacher_accuracy import TeacherAccuracy
from pursuhint.training.inputs import Inputs
from pursuhint.training.prepare_training import build_distiller, check_plans, prepare
from pursuhint.training.recipe.resolve import resolve_recipe, written_out
from pursuhint.training.recipe.schema import LossConfig, Recipe
from pursuhint.training.teacher_accuracy import accuracy_of_teacher

if TYPE_CHECKING:
    from torch import nn

    from pursuhint.data import ImageData
    from pursuhint.hints.plan import HintPlan

__all__ = ["search_process"]

_DIGITS = 6  # of the numbers that are written into the recipe


@dataclass(frozen=True)
class SearchedProcess:
    """The result of a search of pathways.

    Attributes:
        recipe: the recipe that was searched for, with the process and the hint points written out: train it.
        pathways: module of the teacher and module of the student that each pathway connects.
        shares: weight of every pathway after every epoch of the search, (epochs, pathways); rows sum to 1.
    """

    recipe: Recipe
    pathways: tuple[tuple[str, str], ...]
    shares: Tensor


def search_process(
    recipe: Recipe,
    *,
    epochs: int = 40,
    held_out: float = 0.2,
    alpha_lr: float = 0.1,
    method: Method = "differences",
    device: torch.device | str | None = None,
    student: nn.Module | None = None,
    teacher: nn.Module | None = None,
    data: ImageData | None = None,
    plan: HintPlan | None = None,
    on_accuracy: Callable[[TeacherAccuracy], None] | None = None,
    on_epoch: Callable[[int, Tensor], None] | None = None,
) -> SearchedProcess:
    """Search a schedule for the pathway weights of a recipe (DistPro).

    A student is trained on one part of the training split, while the pathway weights follow the gradient of
    its loss on the other part (`pursuhint.distillation.search_pathways`); the student is then discarded.
    Networks, hint points, the other losses, optimizer and batch size are the recipe's; the learning rate is
    constant at its base rate, and precision is float32. The test split is not used. Runs in one process.

    Args:
        recipe: with a pathway loss (``distpro``) among its losses; options that it sets remain, except for
            ``process``, and ``weighting`` while searching.
        epochs: of the search, at least 1; the paper's number.
        held_out: share of the training split that the weights are learned on, above 0 and below 1. Data that
            are passed must have a validation split, which is then taken for this.
        alpha_lr: learning rate of the weights, above 0.
        method: ``"differences"`` or ``"exact"``, see `pursuhint.distillation.SearchOptions`.
        device: where to search; None for the best there is.
        student: a copy is used instead of the recipe's student.
        teacher: used instead of the recipe's; a copy, too.
        data: used instead of the recipe's.
        plan: hint points to use instead of the recipe's.
        on_accuracy: called with the accuracy of the teacher, before the search.
        on_epoch: called after every epoch of the search with its number, from 0, and the weights of the
            pathways, (pathways,).

    Raises:
        PursuhintError: the recipe has no pathway loss or something else is wrong with it, its hint points
            are still to be chosen, or a value is out of its range.

    Example:
        >>> found = search_process(Recipe.load("cifar100-distpro").override(["teacher.checkpoint=t.pth"]))
        >>> train(found.recipe, "runs/distpro")
    """
    if not 0 < held_out < 1:
        raise PursuhintError(f"held_out must be above 0 and below 1, got {held_out}")
    inputs = Inputs(student, teacher, data, plan)
    resolved = resolve_recipe(recipe, inputs)
    name = _pathway_term(resolved.losses)
    searched = resolved.model_copy(
        update={
            "losses": _with_options(resolved.losses, name, weighting="softmax", process=None),
            "acceleration": Acceleration(channels_last=resolved.acceleration.channels_last),
            "data": resolved.data.model_copy(update={"val_fraction": held_out}),
        }
    )
    parts = prepare(searched, inputs)
    check_plans(recipe, inputs.plan, parts.teacher)
    plan = parts.plans.get(name, parts.plan)
    if plan is None:
        raise PursuhintError(
            "pathways connect hint points, but these are still to be chosen; choose them first "
            "(pursuhint analyze) and give the file (--hints FILE)"
        )
    if "val" not in parts.data.splits:
        raise PursuhintError(
            f"{parts.data.name} has no validation split, on which the weights of the pathways are learned"
        )
    device = choose_device(device)
    if parts.teacher is not None:
        accuracy = accuracy_of_teacher(resolved, parts, device=device)
        if on_accuracy is not None:
            on_accuracy(accuracy)
    distiller = build_distiller(searched, parts, parts.plan).to(device)
    loss = distiller.loss(name)
    assert isinstance(loss, PathwayLoss)
    train, validation = (
        make_loader(
            parts.data,
            split,
            batch_size=recipe.batch_size,
            training=True,
            seed=recipe.seed,
            device=device,
            workers=recipe.data.workers,
            drop_last=len(parts.data.splits[split]) >= recipe.batch_size,
        )
        for split in ("train", "val")
    )
    optimizer = recipe.optimizer
    alphas = search_pathways(
        distiller,
        name,
        train=train.epoch,
        validation=validation.epoch,
        options=SearchOptions(
            epochs=epochs,
            step=SgdStep(optimizer.lr, optimizer.weight_decay, optimizer.momentum),
            alpha_lr=alpha_lr,
            method=method,
        ),
        on_epoch=None
        if on_epoch is None
        else lambda epoch, alpha: on_epoch(epoch, pathway_weights(alpha, "softmax").cpu()),
    ).cpu()
    process = [[round(number, _DIGITS) for number in row] for row in alphas.tolist()]
    losses = _with_options(resolved.losses, name, process=process)
    hints = losses[name].hints
    if hints is not None:  # the loss does not look at the points of the others
        losses[name] = losses[name].model_copy(update={"hints": written_out(plan, hints)})
    found = recipe.model_copy(update={"losses": losses})
    students, teachers = plan.student_points, plan.teacher_points
    return SearchedProcess(
        resolve_recipe(found, replace(inputs, plan=parts.plan)),
        tuple((teachers[i].module, students[j].module) for i, j in loss.pathways),
        torch.stack([pathway_weights(alpha, "softmax") for alpha in alphas]),
    )


def _pathway_term(losses: Mapping[str, LossConfig]) -> str:
    for name in losses:
        if issubclass(get_loss(name), PathwayLoss):
            return name
    raise PursuhintError(
        f"the recipe has no loss with pathways to search ({', '.join(losses)}); add one (--loss distpro)"
    )


def _with_options(losses: Mapping[str, LossConfig], name: str, **options: Any) -> dict[str, LossConfig]:
    """The losses with some options of one of them changed."""
    term = losses[name]
    changed = LossConfig(weight=term.weight, hints=term.hints, options={**term.options, **options})
    return {**losses, name: changed}
