"""One pass of a network over both views of each image, and the parts of its features."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pursuhint.features.extractor import Features

if TYPE_CHECKING:
    from pursuhint.data.batch import Batch


def joined_views(batch: Batch) -> Tensor:
    """The images of a batch that has a second view, and that view behind them."""
    assert batch.second_view is not None
    return torch.cat([batch.images, batch.second_view])


def separated_views(features: Features, samples: int) -> Features:
    """The features of the first view, and the logits of the second.

    Args:
        features: of `joined_views`.
        samples: in the batch.
    """
    logits, embedding = features.logits, features.embedding
    return Features(
        None if logits is None else logits[:samples],
        None if embedding is None else embedding[:samples],
        tuple(values[:samples] for values in features.maps),
        second_logits=None if logits is None else logits[samples:],
    )
