"""Which recipes can have a second view of each training image, and which need one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pursuhint.errors import PursuhintError
from pursuhint.losses import get_loss
from pursuhint.losses._parts.classification import second_view_has_use

if TYPE_CHECKING:
    from pursuhint.training.recipe.schema import DataConfig, Recipe


def check_second_view(recipe: Recipe) -> None:
    """Check that a second view is looked at if it is there, and is there if a loss needs it.

    Args:
        recipe: with the hyperparameters of the losses.

    Raises:
        PursuhintError: it is not so.
    """
    if recipe.data.second_view:
        if not looks_at_second_view(recipe.losses):
            raise PursuhintError(
                "data.second_view is given, but no loss looks at a second view "
                f"({', '.join(recipe.losses)}); leave it out, or add a loss that does (mlkd)"
            )
        return
    for name, loss in recipe.losses.items():
        if get_loss(name).needs_second_view(loss.options):
            raise PursuhintError(
                f"loss {name} is to look at a second view of each image, and there is none; set "
                "data.second_view=standard,randaugment, or leave out what asks for it"
            )


def data_of_losses(data: DataConfig, losses: Iterable[str], *, taught: bool = True) -> DataConfig:
    """The data of one run of a study: a second view is for the methods that look at it.

    Args:
        data: of the study.
        losses: of the run.
        taught: whether it has a teacher; the student alone, to which the others are compared, has one view.
    """
    if not data.second_view or (taught and looks_at_second_view(losses)):
        return data
    return data.model_copy(update={"second_view": ()})


def looks_at_second_view(losses: Iterable[str]) -> bool:
    """Whether a second view has a use: for a loss besides cross-entropy, or for cross-entropy alone."""
    return second_view_has_use({name: get_loss(name) for name in losses})
