"""A hash that says whether two data sets are identical in everything but their pixels."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pursuhint.data.image_data import ImageData

__all__ = ["fingerprint_data"]


def fingerprint_data(data: ImageData) -> str:
    """SHA-256 of a data set's sizes, labels, sample indices and normalization, not of its images."""
    facts = (data.num_classes, data.in_channels, data.image_size, data.mean, data.std, data.augmentation)
    digest = hashlib.sha256(repr(facts).encode())
    for name, split in sorted(data.splits.items()):
        digest.update(name.encode())
        digest.update(split.labels.cpu().numpy().tobytes())
        digest.update(split.indices.cpu().numpy().tobytes())
    return digest.hexdigest()
