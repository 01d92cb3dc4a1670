"""Checks of tensors and hyperparameters that losses share; each raises one clear line."""

from __future__ import annotations

import typing
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from pursuhint._util.network_input import NetworkInput, few_samples, map_tensors
from pursuhint._util.wrappers import unwrapped
from pursuhint.errors import PursuhintError

if TYPE_CHECKING:
    from pursuhint.losses.context import LossContext

__all__ = ["check_choice", "check_non_negative", "check_positive", "check_same_batch", "check_same_classes"]

LARGEST_HYPERPARAMETER = 1e18  # float32 holds its square


def different_classes(title: str, teacher: int | None, student: int) -> str:
    return (
        f"teacher has {teacher} classes, student {student}; {title} compares logits and needs the same "
        "classes: use a teacher of this task, or a loss that compares features"
    )


def check_teacher_classifies(title: str, context: LossContext, looks_at: str = "logits") -> None:
    """Refuse a teacher that returns features: it has no classifier.

    Args:
        title: of the loss.
        context: of the loss; without a teacher nothing is checked.
        looks_at: what the loss needs of the teacher.

    Raises:
        PursuhintError: it is so.
    """
    if context.teacher is None or context.example is None:
        return
    from pursuhint.features.call_trace import trace_calls
    from pursuhint.features.module_rules import classifier_of

    if classifier_of(trace_calls(context.teacher, _on_device_of(context.teacher, context.example))) is None:
        name = type(unwrapped(context.teacher)).__name__
        raise PursuhintError(
            f"the teacher {name} has no classifier, it returns features, and {title} looks at its "
            f"{looks_at}; take a loss of hint points or embeddings (at, fitnet, crd), or a teacher that "
            "classifies"
        )


def _on_device_of(network: nn.Module, example: NetworkInput) -> NetworkInput:
    device = next((weights.device for weights in network.parameters()), torch.device("cpu"))
    return map_tensors(few_samples(example), lambda values: values.to(device))


def check_same_classes(title: str, student: Tensor, teacher: Tensor) -> None:
    """Refuse logits of different shapes.

    Raises:
        PursuhintError: batch sizes or numbers of classes differ.
    """
    check_same_batch(student, teacher)
    if student.shape != teacher.shape:
        raise PursuhintError(different_classes(title, teacher.shape[-1], student.shape[-1]))


def check_same_batch(student: Tensor, teacher: Tensor) -> None:
    """Refuse tensors of different batches.

    Raises:
        PursuhintError: their first dimensions differ.
    """
    if student.shape[0] != teacher.shape[0]:
        raise PursuhintError(
            f"teacher and student saw different batches: {teacher.shape[0]} and {student.shape[0]} samples"
        )


def check_positive(**values: float) -> None:
    """Refuse numbers that are not above zero, or so large that their square is infinite in float32.

    Raises:
        PursuhintError: one is zero, negative, NaN or above 1e18; the message names it.
    """
    for name, value in values.items():
        if not value > 0:
            raise PursuhintError(f"{name} must be positive, got {value}")
        _check_size(name, value)


def check_non_negative(**values: float) -> None:
    """Refuse numbers below zero, or so large that their square is infinite in float32.

    Raises:
        PursuhintError: one is negative, NaN or above 1e18; the message names it.
    """
    for name, value in values.items():
        if not value >= 0:
            raise PursuhintError(f"{name} must not be negative, got {value}")
        _check_size(name, value)


def _check_size(name: str, value: float) -> None:
    if value > LARGEST_HYPERPARAMETER:
        raise PursuhintError(f"{name} must be at most {LARGEST_HYPERPARAMETER:g}, got {value:g}")


def check_choice(choices: Any, **values: str) -> None:
    """Refuse what is none of the values of a ``Literal``.

    Args:
        choices: the ``Literal``.
        **values: what is checked, by name.

    Raises:
        PursuhintError: one is none of them; the message names it.
    """
    for name, value in values.items():
        if value not in typing.get_args(choices):
            raise PursuhintError(
                f"{name} must be one of {', '.join(typing.get_args(choices))}; got {value!r}"
            )
