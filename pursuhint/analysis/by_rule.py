"""Hint points by a rule that looks at the similarity of layers or runs the teacher on training images."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import nn

from pursuhint.analysis.sample_batches import SampleBatches
from pursuhint.data import ImageData, InputData, sample_indices
from pursuhint.features.call_trace import evaluating
from pursuhint.hints.plan import HintPlan
from pursuhint.hints.rules import RULES, choose_by_rule
from pursuhint.hints.rules.source import RuleSource

__all__ = ["TrainingImages", "plan_by_rule"]


@dataclass(frozen=True, eq=False)
class TrainingImages:
    """The images that a rule runs the teacher on.

    Attributes:
        data: where they are drawn from: the training split, without augmentation.
        samples: the largest number of them; a rule may look at fewer.
        device: where the teacher runs.
        workers: processes that decode image files.
    """

    data: ImageData | InputData
    samples: int
    device: torch.device
    workers: int = 0


def plan_by_rule(name: str, source: RuleSource, teacher: nn.Module, images: TrainingImages) -> HintPlan:
    """Choose hint points by a rule, which may look at images.

    Args:
        name: of `pursuhint.hints.RULES`.
        source: what it chooses from; teacher and batches are filled in as the rule needs them.
        teacher: the network; it keeps its mode, and stays on the device of the images.
        images: training images.

    Raises:
        PursuhintError: as `pursuhint.hints.choose_by_rule`.
    """
    rule = RULES.get(name)
    if rule is None or not rule.images:
        return choose_by_rule(name, source)
    indices = sample_indices(images.data, min(images.samples, rule.images), source.seed)
    load = SampleBatches(images.data, images.device, workers=images.workers)
    teacher = teacher.to(images.device)
    with evaluating(teacher):
        return choose_by_rule(
            name, replace(source, teacher=teacher, batches=lambda: load(indices), images=len(indices))
        )
