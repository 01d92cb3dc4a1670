"""Hint losses of a forward pass that the caller's own loop runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pursuhint.data.batch import Batch
from pursuhint.distillation.terms import Losses
from pursuhint.errors import PursuhintError
from pursuhint.features.extractor import Features, WatchedPass

__all__ = ["WatchedStudent"]


@dataclass(frozen=True)
class WatchedStudent:
    """What `pursuhint.Distiller.watch` saw of the student.

    Attributes:
        seen: the forward pass.
        compute: from the student's features and the batch to the losses.
    """

    seen: WatchedPass
    compute: Callable[[Features, Batch], Losses]

    def losses(self) -> Losses:
        """The hint losses of the pass; the teacher runs on the images that the student got.

        Returns:
            As `pursuhint.Distiller.forward`, with logits of shape (N, 0).

        Raises:
            PursuhintError: the student was not run, ran twice, or did not get one tensor.
        """
        features = self.seen.features()
        images = self.seen.images
        if not isinstance(images, Tensor):
            raise PursuhintError("the watched network must take one tensor of images")
        nobody = torch.zeros(len(images), dtype=torch.int64, device=images.device)
        return self.compute(features, Batch(images, nobody, nobody))
