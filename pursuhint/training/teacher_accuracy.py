"""The accuracy of the teacher that a recipe names, before it teaches."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pursuhint.models.accuracy import measure_teacher
from pursuhint.models.teacher_accuracy import NEW_HEAD, TeacherAccuracy

if TYPE_CHECKING:
    import torch

    from pursuhint.training.prepare_training import Parts
    from pursuhint.training.recipe.schema import Recipe


def accuracy_of_teacher(
    recipe: Recipe, parts: Parts, *, device: torch.device, keep: Path | None = None
) -> TeacherAccuracy:
    """Measure the teacher of a run or study on the test split. Collective call.

    Args:
        recipe: resolved.
        parts: data and teacher, which is on the CPU afterwards.
        device: where to run.
        keep: see `pursuhint.models.measure_teacher`.

    Returns:
        The accuracy, or why it was not measured: also if the classifier is new, or no device holds the
        teacher.
    """
    teacher, config = parts.teacher, recipe.teacher
    assert teacher is not None
    name = f"python:{type(teacher).__name__}" if config is None else config.network
    if config is not None and config.new_head:
        return TeacherAccuracy(name, parts.data.name, reason=NEW_HEAD)
    if recipe.acceleration.shard_teacher:
        why = "its weights are sharded (acceleration.shard_teacher)"
        return TeacherAccuracy(name, parts.data.name, reason=why)
    workers = recipe.data.workers
    found = measure_teacher(teacher, parts.data, name=name, device=device, workers=workers, keep=keep)
    teacher.to("cpu")
    return found
