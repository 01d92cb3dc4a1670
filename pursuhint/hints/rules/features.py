"""Features of all candidates, averaged over space or tokens, for the rules that look at images."""

from __future__ import annotations

import torch
from torch import Tensor

from pursuhint.features.extractor import FeatureExtractor
from pursuhint.features.pooling import MeanPooling
from pursuhint.hints.rules.source import RuleSource


def pooled_features(source: RuleSource, rule: str) -> tuple[list[Tensor], Tensor]:
    """The features of every candidate, and the labels.

    Args:
        source: with the teacher and images.
        rule: name of the rule, for messages.

    Returns:
        One float64 tensor (samples, channels) for each candidate, in depth order, and labels (samples,), all
        on the CPU.
    """
    teacher, batches = source.network_and_batches(rule)
    extractor, pool = FeatureExtractor(teacher, source.points, logits=False), MeanPooling()
    rows: list[list[Tensor]] = [[] for _ in source.points]
    labels = []
    with torch.no_grad():
        for batch in batches:
            labels.append(batch.labels.cpu())
            for kept, features in zip(rows, extractor(batch.images).maps):
                kept.append(pool(features).double().cpu())
    return [torch.cat(kept) for kept in rows], torch.cat(labels)
