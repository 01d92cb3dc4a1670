"""Whether methods fit the networks of a cross-task study, before its teacher is trained."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from pursuhint.errors import PursuhintError
from pursuhint.hints.rules import looks_at_teacher
from pursuhint.study.method import Method
from pursuhint.training.inputs import Inputs
from pursuhint.training.multi_student.shared import SharedResources, SharedTeacher
from pursuhint.training.own_parts import NO_PARTS, OwnParts
from pursuhint.training.prepare_training import build_distiller, prepare
from pursuhint.training.recipe.resolve import needs_hints, resolve_recipe
from pursuhint.training.recipe.schema import HintsConfig, Recipe

__all__: list[str] = []


def check_fit(
    methods: Sequence[Method], recipe: Recipe, teacher: nn.Module, *, own: OwnParts = NO_PARTS
) -> None:
    """Build the losses of every method for untrained networks.

    Points that a rule chooses in the trained teacher are taken for the conventional ones: they have the same
    kinds of maps.

    Args:
        methods: without the student alone.
        recipe: of the students of one overlap.
        teacher: the network, with any weights.
        own: losses that were passed from Python.

    Raises:
        PursuhintError: a method does not fit the networks or the data; it names the method.
    """
    resources = SharedResources(SharedTeacher())
    for method in methods:
        hints = method.hints
        inputs = Inputs(teacher=teacher, own=own.weighted(method.losses))
        if hints is not None and looks_at_teacher(hints.strategy):
            hints = HintsConfig(strategy="conventional")
        update = {
            "teacher": None,
            "losses": method.losses,
            "hints": hints if needs_hints(method.losses) else None,
        }
        try:
            resolved = resolve_recipe(recipe.model_copy(update=update), inputs)
            parts = prepare(resolved, inputs, resources=resources)
            build_distiller(resolved, parts, parts.plan)
        except PursuhintError as error:
            raise PursuhintError(f"method {method.name!r}: {error}") from None
