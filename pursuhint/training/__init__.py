"""Training a student: recipe, stages, one loop, resumable state, and the record that a run leaves behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pursuhint._util import registry
from pursuhint._util.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from pursuhint._util.random_state import keep_random_state
    from pursuhint.models.evaluation import Evaluation, evaluate
    from pursuhint.training.devices import build_accelerator
    from pursuhint.training.events import (
        EpochFinished,
        EpochStarted,
        Event,
        HintsChosen,
        LossDominated,
        LossesSoFar,
        Resumed,
        RunStarted,
        StepDone,
        TeacherMeasured,
        TeacherReplayed,
        ignore,
    )
    from pursuhint.training.inputs import Inputs, Run
    from pursuhint.training.loaders import evaluation_loaders, load_data, training_loader
    from pursuhint.training.loss_shares import DominantTerm, dominant_term
    from pursuhint.training.multi_student.shared import SharedResources, SharedTeacher
    from pursuhint.training.multi_student.train_many import (
        GroupEvent,
        GroupStarted,
        GroupStep,
        RunEnded,
        train_many,
    )
    from pursuhint.training.own_parts import OwnParts
    from pursuhint.training.prepare_training import (
        Parts,
        build_distiller,
        pair_with_student,
        prepare,
    )
    from pursuhint.training.recipe.inheritance import variant_names
    from pursuhint.training.recipe.loss_syntax import parse_loss, parse_loss_set, parse_losses
    from pursuhint.training.recipe.resolve import needs_hints, resolve_recipe
    from pursuhint.training.recipe.schema import (
        DataConfig,
        HintsConfig,
        LossConfig,
        NetworkConfig,
        OptimizerConfig,
        Recipe,
        ScheduleConfig,
    )
    from pursuhint.training.run_folder.bundle import export_bundle
    from pursuhint.training.run_folder.environment import describe_environment
    from pursuhint.training.run_folder.export_student import export_run
    from pursuhint.training.run_folder.load_predictor import load_predictor
    from pursuhint.training.run_folder.record import RunRecord
    from pursuhint.training.run_training import train
    from pursuhint.training.signals import RunStopped
    from pursuhint.training.stages import Stage, build_optimizer, plan_stages
    from pursuhint.training.teacher_recording import RecordingUse

__getattr__, __dir__, __all__ = lazy_exports(__name__)
