"""The batch that loaders yield: images, labels and sample indices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

__all__ = ["Batch"]


@dataclass(frozen=True, eq=False)
class Batch:
    """Normalised images, or other inputs of a network, with labels and sample indices.

    Attributes:
        images: float32, normalised, shape (batch, channels, height, width); or what else the network takes: a
            tensor (token ids, signals), or a tuple or mapping of tensors, passed by position or by name.
        labels: int64 in 0..classes-1, shape (batch,).
        indices: int64, shape (batch,): each sample's position in the full training set, independent of
            validation split and subset; for test samples the position in the test set.
        other_labels: label of the second image under mixup or CutMix, int64, shape (batch,); None without
            mixing.
        share: weight of ``labels`` in [0.5, 1]; ``other_labels`` has weight ``1 - share``.
        second_view: the same images, augmented independently and perhaps more strongly, of the shape of
            ``images``; None without. For losses that look at it (`pursuhint.losses.LossInfo`).
    """

    images: Any
    labels: Tensor
    indices: Tensor
    other_labels: Tensor | None = None
    share: float = 1.0
    second_view: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)
