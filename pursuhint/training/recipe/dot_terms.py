"""What a recipe with the optimizer ``dot`` needs: cross-entropy and another loss, and one process."""

from __future__ import annotations

from pursuhint.errors import PursuhintError
from pursuhint.training.recipe.schema import Recipe

TASK = "ce"
"""The term whose gradients have a momentum of their own."""


def check_dot(recipe: Recipe) -> None:
    """Check that a recipe with the optimizer ``dot`` has the two gradients that it tells apart.

    Args:
        recipe: with all weights filled in.

    Raises:
        PursuhintError: cross-entropy, or a loss beside it, is missing or has weight 0.
    """
    if recipe.optimizer.name != "dot":
        return
    weighted = [name for name, loss in recipe.losses.items() if loss.weight]
    if TASK not in weighted or len(weighted) < 2:
        raise PursuhintError(
            "optimizer 'dot' keeps the momenta of cross-entropy and of other losses apart, so that both must "
            f"be terms with a weight; found {', '.join(weighted)}; add the other, or set optimizer.name=sgd"
        )


def check_processes(recipe: Recipe, processes: int) -> None:
    """Refuse several processes with the optimizer ``dot``.

    Raises:
        PursuhintError: there are.
    """
    if recipe.optimizer.name == "dot" and processes > 1:
        raise PursuhintError(
            f"optimizer 'dot' takes two backward passes, which several processes ({processes}) cannot "
            "average; train with one, or set optimizer.name=sgd"
        )
