"""Accuracy of nearest class means in a network's embedding: how good it is before it has a classifier."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from pursuhint.data import Loader
from pursuhint.features.call_trace import evaluating
from pursuhint.features.extractor import FeatureExtractor
from pursuhint.losses._parts.vectors import unit_length
from pursuhint.losses.refilled_stage2 import class_sums

__all__: list[str] = []

Reduce = Callable[[Tensor], Tensor]


@torch.no_grad()
def nearest_mean_accuracy(
    network: nn.Module, train: Loader, other: Loader | None, *, classes: int, reduce: Reduce
) -> float:
    """Percent of samples whose embedding has its largest product with the mean direction of its class.

    The means are taken over the training split. Collective call of the ranks that share the splits.

    Args:
        network: on the device of the batches.
        train: this rank's share of the training split, without augmentation.
        other: its share of the split that is scored; None to score the training split, each sample left out
            of the mean of its own class.
        classes: their number.
        reduce: sums a tensor over the ranks.
    """
    read = FeatureExtractor(network, logits=False, embedding=True)

    def embedded(loader: Loader) -> list[tuple[Tensor, Tensor]]:
        found = []
        for batch in loader.epoch(0):
            embedding = read(batch.images).embedding
            assert embedding is not None
            found.append((embedding.float(), batch.labels))
        return found

    with evaluating(network):
        known = embedded(train)
        sums = reduce(torch.stack([class_sums(*pair, classes) for pair in known]).sum(0))
        scored = known if other is None else embedded(other)
    hits = torch.zeros(2, device=sums.device)
    for embedding, labels in scored:
        scores = embedding @ unit_length(sums).T
        if other is None:
            rows = torch.arange(len(labels), device=labels.device)
            others = sums[labels] - embedding
            scores[rows, labels] = (embedding * unit_length(others)).sum(1)
        hits[0] += (scores.argmax(1) == labels).sum()
        hits[1] += len(labels)
    right, count = reduce(hits).tolist()
    return 100 * right / count
