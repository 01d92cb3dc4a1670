"""Size and accuracy of the teacher of a study."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pursuhint.models.checkpoint import count_parameters
from pursuhint.study.comparison import NetworkFacts
from pursuhint.training.evaluation import evaluate
from pursuhint.training.loaders import evaluation_loaders
from pursuhint.training.prepare_training import Parts

if TYPE_CHECKING:
    import torch

    from pursuhint.training.recipe.schema import Recipe


def teacher_facts(recipe: Recipe, parts: Parts, *, name: str, device: torch.device) -> NetworkFacts:
    """Evaluate the teacher on the test split.

    Args:
        recipe: how the split is loaded.
        parts: data and teacher.
        name: of the teacher network.
        device: where to run.
    """
    assert parts.teacher is not None
    loader = evaluation_loaders(recipe, parts.data, device, (0, 1))["test"]
    return NetworkFacts(
        name=name,
        parameters=count_parameters(parts.teacher),
        top1=evaluate(parts.teacher.to(device), loader).top1,
    )
