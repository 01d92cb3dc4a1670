"""How far a student keeps its teacher's correlations between the logits of classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pursuhint.errors import PursuhintError
from pursuhint.features.extractor import FeatureExtractor
from pursuhint.study.run_networks import RunNetworks

_CONSTANT = 1e-12  # relative spread of logits that count as constant


@dataclass(frozen=True, eq=False)
class LogitCorrelations:
    """Pearson correlations of the logits of every two classes over images.

    Attributes:
        teacher: (classes, classes).
        student: likewise.
        count: number of images.
    """

    teacher: NDArray[np.float64]
    student: NDArray[np.float64]
    count: int

    @property
    def difference(self) -> NDArray[np.float64]:
        """Teacher minus student, (classes, classes)."""
        return self.teacher - self.student

    @property
    def mean_difference(self) -> float:
        """Mean absolute difference over the pairs of different classes, in [0, 2]."""
        classes = len(self.teacher)
        return float(np.abs(self.difference).sum() / (classes * (classes - 1)))


class CorrelationSum:
    """Pearson correlation of the columns of a matrix that comes in batches, in float64."""

    def __init__(self, columns: int) -> None:
        self._count = 0
        self._origin = torch.zeros(columns, dtype=torch.float64)
        self._sums = torch.zeros_like(self._origin)
        self._products = torch.zeros(columns, columns, dtype=torch.float64)

    def add(self, rows: Tensor) -> None:
        """Take some rows, (N, columns)."""
        rows = rows.double().cpu()
        if not self._count:
            self._origin = rows.mean(0)  # near the mean of all, so that squares lose no digits
        rows = rows - self._origin
        self._count += len(rows)
        self._sums += rows.sum(0)
        self._products += rows.T @ rows

    def matrix(self, what: str) -> NDArray[np.float64]:
        """(columns, columns).

        Args:
            what: whose columns they are, for the message.

        Raises:
            PursuhintError: a column is constant or not finite.
        """
        covariance = (self._products - torch.outer(self._sums, self._sums) / self._count) / self._count
        spread = covariance.diagonal().clamp(min=0).sqrt()
        if not bool((spread > _CONSTANT * (1 + self._origin.abs())).all()):  # nor if one is not a number
            raise PursuhintError(
                f"the logits of {what} are constant or not finite for some class; they have no correlation"
            )
        found: NDArray[np.float64] = (covariance / torch.outer(spread, spread)).clamp(-1, 1).numpy()
        np.fill_diagonal(found, 1.0)
        return found


def logit_correlations(networks: RunNetworks) -> LogitCorrelations:
    """Correlations of the logits of a run's teacher and student over all test images.

    Source: figure 1 of CRD (Tian et al., 2020), of RRD and of ICD.

    Args:
        networks: of the run.

    Raises:
        PursuhintError: the two have different numbers of classes, fewer than two, or constant logits.
    """
    sums: list[CorrelationSum] = []
    count = 0
    readers = FeatureExtractor(networks.teacher), FeatureExtractor(networks.student)
    for batch, features in networks.features(*readers):
        logits = [one.logits for one in features if one.logits is not None]
        if not sums:
            sizes = [one.shape[-1] for one in logits]
            if sizes[0] != sizes[1] or sizes[0] < 2:
                raise PursuhintError(
                    f"correlations of logits need the same two classes or more; in {networks.run.path} the "
                    f"teacher has {sizes[0]} and the student {sizes[1]}"
                )
            sums = [CorrelationSum(size) for size in sizes]
        for total, one in zip(sums, logits):
            total.add(one)
        count += len(batch)
    where = networks.run.path
    teacher, student = (
        total.matrix(f"the {role} of {where}") for total, role in zip(sums, ("teacher", "student"))
    )
    return LogitCorrelations(teacher, student, count)
