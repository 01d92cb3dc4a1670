"""Measures of a student whose teacher was trained on other classes, as in REFILLED."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pursuhint.errors import PursuhintError


@dataclass(frozen=True)
class JointAccuracy:
    """Accuracy on the teacher's classes and on the others, when predicting among all of them.

    Attributes:
        old: fraction of correct predictions on samples of the teacher's classes, in [0, 1].
        current: fraction of correct predictions on samples of the other classes, in [0, 1].
    """

    old: float
    current: float

    @property
    def harmonic_mean(self) -> float:
        """Harmonic mean of the two accuracies; 0 if both are 0."""
        total = self.old + self.current
        return 2 * self.old * self.current / total if total else 0.0


def joint_accuracy(scores: Tensor, labels: Tensor, old_classes: Tensor) -> JointAccuracy:
    """Accuracies over the classes of teacher and student together.

    Args:
        scores: for all classes, (N, classes); the largest decides.
        labels: (N,).
        old_classes: the classes that the teacher was trained on; a class of both counts as old.

    Raises:
        PursuhintError: there is no sample of old or none of other classes.
    """
    right = (scores.argmax(1) == labels).double()
    old = torch.isin(labels, old_classes)
    if not old.any() or old.all():
        raise PursuhintError("joint accuracy needs samples of old and of other classes")
    return JointAccuracy(float(right[old].mean()), float(right[~old].mean()))


def nearest_center_accuracy(embedding: Tensor, labels: Tensor, centers: Tensor) -> float:
    """Fraction of samples whose embedding has its largest product with the centre of its class.

    The quality of an embedding without a classifier. Take the centres from training samples
    (`pursuhint.losses.refilled_stage2.class_centers`); the authors of REFILLED take them from the very
    samples that are scored, which is optimistic.

    Args:
        embedding: (N, D).
        labels: (N,).
        centers: (classes, D), of unit length.
    """
    return float(((embedding @ centers.T).argmax(1) == labels).double().mean())


def area_under_curve(values: Tensor, positive: Tensor) -> float:
    """Probability that a positive sample has a larger value than a negative one; ties count one half.

    Args:
        values: (N,).
        positive: (N,), true or 1 for positive samples.

    Raises:
        PursuhintError: all samples are of one kind.
    """
    chosen = positive.bool()
    if chosen.all() or not chosen.any():
        raise PursuhintError("the area under the curve needs positive and negative samples")
    others = values[~chosen].sort().values
    below = torch.searchsorted(others, values[chosen].contiguous())
    not_above = torch.searchsorted(others, values[chosen].contiguous(), right=True)
    return float((below + not_above).double().mean() / (2 * len(others)))
