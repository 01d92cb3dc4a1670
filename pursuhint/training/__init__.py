"""Training a student: recipe, stages, one loop, resumable state, and the record that a run leaves behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pursuhint.tables import resolve

if TYPE_CHECKING:
    from pursuhint.training.evaluation import Evaluation, evaluate
    from pursuhint.training.events import (
        EpochFinished,
        EpochStarted,
        Event,
        HintsChosen,
        Resumed,
        RunStarted,
        StepDone,
    )
    from pursuhint.training.loss_option import parse_loss, parse_losses
    from pursuhint.training.recipe import Recipe
    from pursuhint.training.record import RunRecord
    from pursuhint.training.run import train
    from pursuhint.training.stages import Stage

__all__ = [
    "EpochFinished",
    "EpochStarted",
    "Evaluation",
    "Event",
    "HintsChosen",
    "Recipe",
    "Resumed",
    "RunRecord",
    "RunStarted",
    "Stage",
    "StepDone",
    "evaluate",
    "parse_loss",
    "parse_losses",
    "train",
]

_HOMES = {
    "Evaluation": "evaluation",
    "evaluate": "evaluation",
    "Recipe": "recipe",
    "RunRecord": "record",
    "Stage": "stages",
    "parse_loss": "loss_option",
    "parse_losses": "loss_option",
    "train": "run",
}


def __getattr__(name: str) -> Any:
    """Import on first use, so that reading recipes and command-line help needs no torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return resolve(f"{__name__}.{_HOMES.get(name, 'events')}:{name}")
