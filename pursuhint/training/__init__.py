"""Training a student: recipe, stages, one loop, resumable state, and the record that a run leaves behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pursuhint import tables

if TYPE_CHECKING:
    from pursuhint.training.evaluation import Evaluation, evaluate
    from pursuhint.training.events import (
        EpochFinished,
        EpochStarted,
        Event,
        HintsChosen,
        LossesSoFar,
        Resumed,
        RunStarted,
        StepDone,
    )
    from pursuhint.training.loss_option import parse_loss, parse_losses
    from pursuhint.training.recipe import (
        DataConfig,
        HintsConfig,
        LossConfig,
        NetworkConfig,
        OptimizerConfig,
        Recipe,
        ScheduleConfig,
    )
    from pursuhint.training.record import RunRecord
    from pursuhint.training.run import train
    from pursuhint.training.stages import Stage
    from pursuhint.training.together import (
        GroupStarted,
        Run,
        RunEnded,
        StepTogether,
        TogetherEvent,
        train_together,
    )

__all__ = [
    "DataConfig",
    "EpochFinished",
    "EpochStarted",
    "Evaluation",
    "Event",
    "GroupStarted",
    "HintsChosen",
    "HintsConfig",
    "LossConfig",
    "LossesSoFar",
    "NetworkConfig",
    "OptimizerConfig",
    "Recipe",
    "Resumed",
    "Run",
    "RunEnded",
    "RunRecord",
    "RunStarted",
    "ScheduleConfig",
    "Stage",
    "StepDone",
    "StepTogether",
    "TogetherEvent",
    "evaluate",
    "parse_loss",
    "parse_losses",
    "train",
    "train_together",
]

_HOMES = {
    "DataConfig": "recipe",
    "Evaluation": "evaluation",
    "evaluate": "evaluation",
    "HintsConfig": "recipe",
    "LossConfig": "recipe",
    "NetworkConfig": "recipe",
    "OptimizerConfig": "recipe",
    "Recipe": "recipe",
    "RunRecord": "record",
    "ScheduleConfig": "recipe",
    "Stage": "stages",
    "parse_loss": "loss_option",
    "parse_losses": "loss_option",
    "train": "run",
    "GroupStarted": "together",
    "Run": "together",
    "RunEnded": "together",
    "StepTogether": "together",
    "TogetherEvent": "together",
    "train_together": "together",
}


def __getattr__(name: str) -> Any:
    """Import on first use, so that reading recipes and command-line help needs no torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return tables.resolve(f"{__name__}.{_HOMES.get(name, 'events')}:{name}")
