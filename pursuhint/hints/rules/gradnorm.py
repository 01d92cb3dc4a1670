"""The layer with the largest gradient in each contiguous group: SGLP, arXiv 2410.14720.

Layers are divided by Fisher's optimal segmentation of their similarity, which is ``segments``. In each
segment the block is taken whose parameters have the largest gradient of the cross-entropy, by its Euclidean
norm, on one batch of training images. Batch norms keep their statistics.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from pursuhint._util.wrappers import original_modules
from pursuhint.features.extractor import FeatureExtractor
from pursuhint.features.hint_points import HintPoint
from pursuhint.hints.rules.best_of_segments import best_of_segments
from pursuhint.hints.rules.source import RuleSource

if TYPE_CHECKING:
    from pursuhint.data.batch import Batch


def choose(source: RuleSource) -> list[HintPoint]:
    """The block of each segment with the largest gradient. Layers that do not vary are not chosen."""
    similarity = source.needed_similarity("gradnorm")
    norms = {(p.module, p.activation): norm for p, norm in zip(source.points, gradient_norms(source))}
    scores = [norms[point.module, point.activation] for point in similarity.points]
    return best_of_segments(similarity, source.k, scores)


def gradient_norms(source: RuleSource) -> list[float]:
    """Norm of the gradient of the mean cross-entropy by the parameters of each block.

    A block without parameters has norm 0.
    """
    teacher, batches = source.network_and_batches("gradnorm")
    with original_modules(teacher) as inner:
        modules = dict(inner.named_modules())
        blocks = [list(modules[point.module].parameters()) for point in source.points]
    parameters = list({id(p): p for block in blocks for p in block}.values())
    totals = _gradients(teacher, parameters, batches)
    return [float(sum(totals[id(p)].double().square().sum() for p in block)) ** 0.5 for block in blocks]


def _gradients(
    teacher: nn.Module, parameters: list[nn.Parameter], batches: Iterable[Batch]
) -> dict[int, torch.Tensor]:
    """Gradient of the mean cross-entropy over all images, by the ``id`` of a parameter."""
    frozen = [parameter for parameter in parameters if not parameter.requires_grad]
    totals = {id(parameter): torch.zeros_like(parameter) for parameter in parameters}
    samples = 0
    extractor = FeatureExtractor(teacher)
    try:
        for parameter in frozen:
            parameter.requires_grad_(True)
        for batch in batches:
            logits = extractor(batch.images).logits
            assert logits is not None
            loss = cross_entropy(logits, batch.labels, reduction="sum")
            found = torch.autograd.grad(loss, parameters, allow_unused=True)
            for parameter, gradient in zip(parameters, found):
                if gradient is not None:
                    totals[id(parameter)] += gradient
            samples += len(batch)
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)
    return {key: total / max(samples, 1) for key, total in totals.items()}
