"""What a recipe with the optimizer ``dot`` needs: cross-entropy and another loss, and one process."""

from __future__ import annotations

from pursuhint.errors import PursuhintError
from pursuhint.losses import LOSSES, get_loss
from pursuhint.training.recipe.schema import LossConfig, Recipe

TASK = "ce"
"""The term whose gradients have a momentum of their own."""


def check_dot(recipe: Recipe) -> None:
    """Check that a recipe with the optimizer ``dot`` has the two gradients that it tells apart.

    Args:
        recipe: with all weights filled in.

    Raises:
        PursuhintError: cross-entropy, or a loss beside it, is missing, has weight 0, or ends before the main
            stage.
    """
    if recipe.optimizer.name != "dot":
        return
    weighted = [name for name, loss in recipe.losses.items() if loss.weight]
    in_main = [name for name in weighted if not _only_warms_up(name, recipe.losses[name])]
    if TASK not in in_main or len(in_main) < 2:
        ended = "".join(f", {name} before the main stage alone" for name in weighted if name not in in_main)
        raise PursuhintError(
            "optimizer 'dot' keeps the momenta of cross-entropy and of other losses apart, so that both must "
            f"be terms of the main stage with a weight; found {', '.join(in_main)}{ended}; add the other, or "
            "set optimizer.name=sgd"
        )


def _only_warms_up(name: str, loss: LossConfig) -> bool:
    return name in LOSSES and get_loss(name).only_warms_up(loss.options)


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
