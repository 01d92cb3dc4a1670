"""Compare two analyses of the same layers: by two metrics, or before and after the activations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pursuhint.clustering.inertia import Similarity, checked_similarity
from pursuhint.errors import PursuhintError

__all__ = ["Agreement", "rand_index", "rank_correlation"]


@dataclass(frozen=True)
class Agreement:
    """Agreement of two analyses of the same layers.

    Attributes:
        first: name of the first analysis, such as ``"cka"`` or ``"cka, post"``.
        second: name of the second analysis.
        rand_index: adjusted Rand index of the two clusterings, see `rand_index`.
        correlation: rank correlation of the two similarities, see `rank_correlation`; None where undefined.
        first_positions: hint positions of the first analysis.
        second_positions: hint positions of the second analysis.
    """

    first: str
    second: str
    rand_index: float
    correlation: float | None
    first_positions: tuple[int, ...]
    second_positions: tuple[int, ...]

    @property
    def shared(self) -> tuple[int, ...]:
        """Positions that both analyses choose."""
        return tuple(sorted(set(self.first_positions) & set(self.second_positions)))

    def sentence(self) -> str:
        """The agreement in words."""
        correlation = "" if self.correlation is None else f", rank correlation {self.correlation:.2f}"
        shared = ", ".join(map(str, self.shared)) or "none"
        return (
            f"{self.first} and {self.second}: {len(self.shared)} of {len(self.first_positions)} positions in "
            f"common ({shared}), adjusted Rand index {self.rand_index:.2f}{correlation}"
        )


def rand_index(first: Sequence[int], second: Sequence[int]) -> float:
    """Adjusted Rand index of two clusterings of the same layers, by scikit-learn.

    The share of pairs of layers that both clusterings join or both separate, rescaled so that identical
    clusterings have 1 and independent ones 0 on average.

    Reference: L. Hubert and P. Arabie, Comparing Partitions, Journal of Classification 2 (1985), 193-218.

    Args:
        first: cluster of each layer, any integers.
        second: cluster of each layer in the other clustering.

    Returns:
        From -0.5 to 1. Two clusterings with one cluster each, or with one layer in each cluster, have 1.

    Raises:
        PursuhintError: the numbers of layers differ, or there is no layer.

    Example:
        >>> rand_index([0, 0, 1, 1], [1, 1, 0, 0])
        1.0
    """
    if len(first) != len(second) or not len(first):
        raise PursuhintError(f"cannot compare clusterings of {len(first)} and {len(second)} layers")
    from sklearn.metrics import adjusted_rand_score  # takes seconds to import

    return float(adjusted_rand_score(first, second))


def rank_correlation(first: Similarity, second: Similarity) -> float | None:
    """Spearman's rank correlation of the similarities of all pairs of different layers.

    Args:
        first: (layers, layers); one that is not symmetric is averaged with its transpose.
        second: (layers, layers), by another metric.

    Returns:
        From -1 to 1; None with fewer than three layers, or where all similarities of one matrix are equal.

    Raises:
        PursuhintError: a similarity is not a finite square matrix, or the numbers of layers differ.
    """
    matrices = [checked_similarity(values, normalize=False) for values in (first, second)]
    if len(matrices[0]) != len(matrices[1]):
        raise PursuhintError(f"cannot compare similarities of {len(first)} and {len(second)} layers")
    above = np.triu_indices(len(matrices[0]), k=1)
    pairs = [matrix[above] for matrix in matrices]
    # SciPy gives NaN and a warning for these.
    if len(above[0]) < 2 or any(np.ptp(values) == 0 for values in pairs):
        return None
    from scipy.stats import spearmanr  # takes a second to import

    return float(spearmanr(*pairs).statistic)
