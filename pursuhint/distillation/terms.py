"""Terms of a distiller's total: their records, and the checks that they fit together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor, nn

from pursuhint._util.arguments import is_number
from pursuhint.errors import PursuhintError
from pursuhint.losses._parts.classification import default_weights
from pursuhint.losses.base import Loss
from pursuhint.losses.ce import CrossEntropyLoss

__all__ = ["Losses", "Term", "TermOptions"]


@dataclass(frozen=True)
class Term:
    """One addend of the total loss.

    Attributes:
        loss: the loss itself.
        weight: factor of the loss, at least 0; None for the default beside the other terms.
        student_points: indices of the distiller's student points that this loss sees; None for all.
        teacher_points: indices of the distiller's teacher points that this loss sees; None for all.
    """

    loss: Loss
    weight: float | None = None
    student_points: tuple[int, ...] | None = None
    teacher_points: tuple[int, ...] | None = None


class TermOptions(Protocol):
    """A term asked for by name: its weight and the loss's hyperparameters."""

    @property
    def weight(self) -> float | None:
        """At least 0, or None for the default."""

    @property
    def options(self) -> Mapping[str, Any]:
        """Hyperparameters by name."""


@dataclass(frozen=True)
class Losses:
    """What a distiller returns for one batch.

    Attributes:
        total: weighted sum of the terms, to call ``backward`` on.
        parts: every term by name, unweighted and without gradient; shows which one is not finite.
        logits: logits of the student, (N, classes), without gradient; (N, 0) where only hints are compared.
        extra_metrics: further values that the losses report, as ``TERM_NAME``; see
            `pursuhint.losses.Loss.extra_metrics`.
        addends: the terms of ``total`` by name, weighted and with their gradients.
    """

    total: Tensor
    parts: dict[str, Tensor]
    logits: Tensor
    extra_metrics: dict[str, Tensor]
    addends: dict[str, Tensor] = field(default_factory=dict)


def check_terms(terms: Mapping[str, Term]) -> None:
    """Refuse terms of which two contain cross-entropy, and a distiller without terms.

    Raises:
        PursuhintError: it is so.
    """
    if not terms:
        raise PursuhintError("a distiller needs at least one loss")
    containing = {name: term.loss for name, term in terms.items() if term.loss.info.contains_classification}
    plain = [name for name, loss in containing.items() if isinstance(loss, CrossEntropyLoss)]
    others = [name for name in containing if name not in plain]
    if plain and others:
        raise PursuhintError(
            f"loss {others[0]!r} contains the classification term already; leave out {plain[0]!r}"
        )
    if len(others) > 1:
        raise PursuhintError(
            f"losses {others[0]!r} and {others[1]!r} both contain the classification term; use one of them"
        )


def check_teacher(losses: Mapping[str, Loss | type[Loss]], teacher: nn.Module | None) -> None:
    """Refuse losses that need a teacher where there is none.

    Raises:
        PursuhintError: it is so.
    """
    for name, loss in losses.items():
        if loss.info.needs_teacher and teacher is None:
            raise PursuhintError(f"loss {name!r} needs a teacher, but there is none")


def check_hints_only(name: str, loss: Loss | type[Loss]) -> None:
    """Refuse a loss that looks at more than the features at the hint points of a plan.

    Raises:
        PursuhintError: it does.
    """
    info = loss.info
    more: list[str] = [each for each in info.inputs if each not in ("student_maps", "teacher_maps")]
    if info.at_last_map:
        more.append("the map before the classifier")
    if more or info.needs_teacher_classifier or info.alters_student:
        what = more[0] if more else "the classifier"
        raise PursuhintError(
            f"loss {name!r} looks at {what}, and only features at hint points are known here; give "
            "num_classes and num_samples if the networks classify, or take a loss of hint points (at, ...)"
        )


def term_weights(terms: Mapping[str, Term]) -> dict[str, float]:
    """The weight of every term, defaults filled in.

    Raises:
        PursuhintError: one is not a number of at least 0, or all are 0.
    """
    for name, term in terms.items():
        if term.weight is not None:
            _check_weight(name, term.weight)
    weights = default_weights(
        {name: term.loss for name, term in terms.items()},
        {name: None if term.weight is None else float(term.weight) for name, term in terms.items()},
    )
    if not any(weights.values()):
        raise PursuhintError("every loss has weight 0, so there is nothing to learn from")
    return weights


def _check_weight(name: str, weight: float) -> None:
    if not is_number(weight) or not 0 <= weight < math.inf:
        raise PursuhintError(f"the weight of loss {name!r} must be a number of at least 0, got {weight!r}")


def selected_points(name: str, chosen: Sequence[int] | None, available: int) -> tuple[int, ...]:
    """Indices of the hint points that a term sees.

    Args:
        name: of the term.
        chosen: indices; None for all.
        available: number of hint points that there are.

    Raises:
        PursuhintError: an index is out of range.
    """
    if chosen is None:
        return tuple(range(available))
    for index in chosen:
        if not 0 <= index < available:
            raise PursuhintError(f"loss {name!r} asks for hint point {index}, but there are {available}")
    return tuple(chosen)
