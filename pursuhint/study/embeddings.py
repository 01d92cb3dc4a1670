"""Embeddings of a data set by a frozen network."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pursuhint.data import Loader
from pursuhint.features.call_trace import evaluating
from pursuhint.features.extractor import FeatureExtractor


@dataclass(frozen=True)
class Embedded:
    """A split as embeddings.

    Attributes:
        features: (samples, width).
        labels: int64, (samples,).
    """

    features: Tensor
    labels: Tensor


@torch.no_grad()
def embed_split(network: nn.Module, loader: Loader) -> Embedded:
    """What the classifier takes for every sample of a loader, in its order and in evaluation mode.

    Args:
        network: on the device of the batches, where the result is, too.
        loader: without augmentation.
    """
    read = FeatureExtractor(network, logits=False, embedding=True)
    features, labels = [], []
    with evaluating(network):
        for batch in loader.epoch(0):
            embedding = read(batch.images).embedding
            assert embedding is not None
            features.append(embedding)
            labels.append(batch.labels)
    return Embedded(torch.cat(features), torch.cat(labels))
