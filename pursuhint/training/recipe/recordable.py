"""Which recipes can use a recording of the teacher."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pursuhint.errors import PursuhintError
from pursuhint.losses import get_loss

if TYPE_CHECKING:
    from pursuhint.training.recipe.schema import Recipe


def check_recordable(recipe: Recipe) -> None:
    """Check that a recording can stand in for the teacher of a recipe.

    Raises:
        PursuhintError: there is no teacher, or a loss differentiates it with respect to the images.
    """
    if recipe.teacher is None:
        raise PursuhintError("there is no teacher to record; give --teacher, or leave --record-teacher out")
    _refuse_differentiated(recipe, "a recording cannot replay", "leave --record-teacher out")


def check_apart(recording: Path | str, folder: Path | str) -> None:
    """Check that a recording has a folder of its own.

    Args:
        recording: its folder.
        folder: of the runs.

    Raises:
        PursuhintError: one is the other, or inside of it.
    """
    one, other = Path(recording).resolve(), Path(folder).resolve()
    if one == other or one in other.parents or other in one.parents:
        raise PursuhintError(
            f"the recording of the teacher ({recording}) needs a folder apart from the results ({folder}); "
            "choose another one (--record-teacher)"
        )


def check_rounding(recipe: Recipe) -> None:
    """Check that the teacher's outputs can be rounded.

    Raises:
        PursuhintError: a loss differentiates the teacher with respect to the images.
    """
    if recipe.acceleration.teacher_rounding != "none":
        advice = "set acceleration.teacher_rounding=none"
        _refuse_differentiated(recipe, "rounding would break", advice)


def _refuse_differentiated(recipe: Recipe, what: str, advice: str) -> None:
    for loss in recipe.losses:
        if get_loss(loss).info.needs_input_gradients:
            raise PursuhintError(
                f"loss {loss} differentiates the teacher with respect to the images, which {what}; {advice}"
            )
