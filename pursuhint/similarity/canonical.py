"""Common parts of the CCA family: spans of features, and sums of squared canonical correlations."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pursuhint.similarity.accumulators.base import LayerStatistics, Strip
from pursuhint.similarity.checks import above_rounding, centered_pair


@dataclass(frozen=True, eq=False)
class Span:
    """The span of a layer's centered features.

    Attributes:
        centered: (samples, features).
        left: orthonormal basis, (samples, rank), in descending order of variance.
        energies: all squared singular values, largest first, those beyond the rank included.
    """

    centered: Tensor
    left: Tensor
    energies: Tensor

    @property
    def rank(self) -> int:
        """Number of directions above the noise floor."""
        return self.left.shape[1]


def spans(x: Tensor, y: Tensor) -> tuple[Span, Span]:
    """Spans of two representation matrices, without directions below the noise floor.

    Raises:
        PursuhintError: as `pursuhint.similarity.checks.centered_pair`.
    """
    (x, y), (floor_x, floor_y) = centered_pair(x, y)
    return _span(x, floor_x), _span(y, floor_y)


def _span(centered: Tensor, floor: float) -> Span:
    # SVD of the matrix, not eigenvectors of its Gram matrix: squaring the condition number would cost twice
    # as many digits for ill-conditioned features.
    left, singular, _ = torch.linalg.svd(centered, full_matrices=False)
    energies = singular.square()
    return Span(centered, left[:, above_rounding(energies, floor)], energies)


def shared_variance(x: Tensor, y: Tensor) -> tuple[Tensor, int, int]:
    """Sum of squared canonical correlations and both ranks; NaN when a rank is 0."""
    first, second = spans(x, y)
    shared = (first.left.T @ second.left).square().sum()
    if min(first.rank, second.rank) == 0:
        shared = torch.full_like(shared, math.nan)
    return shared, first.rank, second.rank


def shared_variances(strip: Strip) -> Tensor:
    """Sums of squared canonical correlations with all deeper layers; NaN when a rank is 0.

    The canonical correlations of two layers are the singular values of the product of their bases.
    """
    shared = torch.stack([coupling.square().sum() for _, coupling in strip.couplings()])
    ranks = ranks_of(strip.layers)[strip.i :]
    return torch.where((ranks == 0) | (ranks[0] == 0), math.nan, shared.double())


def ranks_of(layers: LayerStatistics) -> Tensor:
    """Rank of each layer, (layers,), float64."""
    ranks = [layers.basis(i).rank for i in range(len(layers))]
    return torch.tensor(ranks, dtype=torch.float64, device=layers.device)
