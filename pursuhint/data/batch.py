"""The batch that loaders yield: images, labels and sample indices."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

__all__ = ["Batch"]


@dataclass(frozen=True, eq=False)
class Batch:
    """Normalised images with labels and sample indices.

    Attributes:
        images: float32, normalised, shape (batch, channels, height, width).
        labels: int64 in 0..classes-1, shape (batch,).
        indices: int64, shape (batch,): each sample's position in the full training set, independent of
            validation split and subset; for test samples the position in the test set.
        other_labels: label of the second image under mixup or CutMix, int64, shape (batch,); None without
            mixing.
        share: weight of ``labels`` in [0.5, 1]; ``other_labels`` has weight ``1 - share``.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor
    other_labels: Tensor | None = None
    share: float = 1.0

    def __len__(self) -> int:
        return len(self.labels)
