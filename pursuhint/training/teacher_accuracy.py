"""The accuracy of the teacher that a recipe names, before it teaches."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pursuhint.models.accuracy import measure_teacher
from pursuhint.models.safetensors_header import classes_of_weights
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
    if (why := _of_other_classes(recipe, parts)) is not None:
        return TeacherAccuracy(name, parts.data.name, reason=why)
    if recipe.acceleration.shard_teacher:
        why = "its weights are sharded (acceleration.shard_teacher)"
        return TeacherAccuracy(name, parts.data.name, reason=why)
    workers = recipe.data.workers
    found = measure_teacher(teacher, parts.data, name=name, device=device, workers=workers, keep=keep)
    teacher.to("cpu")
    return found


def _of_other_classes(recipe: Recipe, parts: Parts) -> str | None:
    """Why the accuracy would mean nothing: the teacher was trained on other classes; None if it was not.

    Only the weights that a run of this program wrote say which classes they are of.
    """
    config = recipe.teacher
    if config is None or config.checkpoint is None or config.network.startswith("python:"):
        return None
    known, here = classes_of_weights(Path(config.checkpoint)), parts.data.class_names
    if known is None or known == tuple(here):
        return None
    shared = len(set(known) & set(here))
    if shared == len(here) == len(known):
        return f"it was trained on the {shared} classes of {parts.data.name} in another order"
    return f"it was trained on other classes: of the {len(here)} here it knows {shared}"
