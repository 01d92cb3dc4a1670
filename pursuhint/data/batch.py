"""What a loader hands to the rest of the program."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

__all__ = ["Batch"]


@dataclass(frozen=True, eq=False)
class Batch:
    """Some samples, ready for a network.

    Attributes:
        images: float32, normalised, shape (batch, channels, height, width).
        labels: int64 in 0..classes-1, shape (batch,).
        indices: int64, shape (batch,): each sample's position in the full training set, whatever validation
            split or subset was taken from it; for test samples the position in the test set.
        other_labels: where every image is made of two (mixup, CutMix), the label of the other one, int64,
            shape (batch,); None otherwise.
        share: of ``labels`` in the images, in [0.5, 1]; what is left is the share of ``other_labels``.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor
    other_labels: Tensor | None = None
    share: float = 1.0

    def __len__(self) -> int:
        return len(self.labels)
