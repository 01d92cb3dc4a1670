"""Training a student: recipe, stages, one loop, resumable state, and the record that a run leaves behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pursuhint._util import registry

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
    from pursuhint.training.multi_student.train_many import (
        GroupStarted,
        Run,
        RunEnded,
        StepTogether,
        TogetherEvent,
        train_together,
    )
    from pursuhint.training.recipe.loss_syntax import parse_loss, parse_losses
    from pursuhint.training.recipe.schema import (
        DataConfig,
        HintsConfig,
        LossConfig,
        NetworkConfig,
        OptimizerConfig,
        Recipe,
        ScheduleConfig,
    )
    from pursuhint.training.run_folder.record import RunRecord
    from pursuhint.training.run_training import train
    from pursuhint.training.stages import Stage

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
    "DataConfig": "recipe.schema",
    "Evaluation": "evaluation",
    "evaluate": "evaluation",
    "HintsConfig": "recipe.schema",
    "LossConfig": "recipe.schema",
    "NetworkConfig": "recipe.schema",
    "OptimizerConfig": "recipe.schema",
    "Recipe": "recipe.schema",
    "RunRecord": "run_folder.record",
    "ScheduleConfig": "recipe.schema",
    "Stage": "stages",
    "parse_loss": "recipe.loss_syntax",
    "parse_losses": "recipe.loss_syntax",
    "train": "run_training",
    "GroupStarted": "multi_student.train_many",
    "Run": "multi_student.train_many",
    "RunEnded": "multi_student.train_many",
    "StepTogether": "multi_student.train_many",
    "TogetherEvent": "multi_student.train_many",
    "train_together": "multi_student.train_many",
}


def __getattr__(name: str) -> Any:
    """Import on first use, so that reading recipes and command-line help needs no torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return registry.resolve(f"{__name__}.{_HOMES.get(name, 'events')}:{name}")
