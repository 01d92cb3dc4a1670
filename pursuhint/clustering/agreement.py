"""Do two views of the same layers agree: two metrics, or features before and after the activations?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pursuhint.clustering.inertia import Similarity, checked_similarity
from pursuhint.errors import PursuhintError

__all__ = ["Agreement", "rand_index", "rank_correlation"]


@dataclass(frozen=True)
class Agreement:
    """How far two analyses of the same layers agree.

    Attributes:
        first: what the first one is, such as ``"cka"`` or ``"cka, post"``.
        second: what the second one is.
        rand_index: of the two clusterings, see `rand_index`.
        correlation: of the two similarities, see `rank_correlation`; None where it is not defined.
        first_positions: positions that the first one chooses.
        second_positions: positions that the second one chooses.
    """

    first: str
    second: str
    rand_index: float
    correlation: float | None
    first_positions: tuple[int, ...]
    second_positions: tuple[int, ...]

    @property
    def shared(self) -> tuple[int, ...]:
        """Positions that both choose."""
        return tuple(sorted(set(self.first_positions) & set(self.second_positions)))

    def sentence(self) -> str:
        """The same in words."""
        correlation = "" if self.correlation is None else f", rank correlation {self.correlation:.2f}"
        shared = ", ".join(map(str, self.shared)) or "none"
        return (
            f"{self.first} and {self.second}: {len(self.shared)} of {len(self.first_positions)} positions in "
            f"common ({shared}), adjusted Rand index {self.rand_index:.2f}{correlation}"
        )


def rand_index(first: Sequence[int], second: Sequence[int]) -> float:
    r"""Adjusted Rand index of two clusterings of the same layers.

    The share of pairs of layers that are together in both or apart in both, rescaled so that equal
    clusterings have 1 and independent ones 0 on average:

    .. math:: \frac{\sum_{ij} \binom{n_{ij}}{2} - E}
        {\frac12 \left(\sum_i \binom{a_i}{2} + \sum_j \binom{b_j}{2}\right) - E}, \quad
        E = \sum_i \binom{a_i}{2} \sum_j \binom{b_j}{2} \Big/ \binom{n}{2},

    with :math:`n_{ij}` the layers in group i of the first and group j of the second, :math:`a_i` and
    :math:`b_j` the sizes of the groups.

    Reference: L. Hubert and P. Arabie, Comparing Partitions, Journal of Classification 2 (1985), 193-218.

    Args:
        first: cluster of each layer, any integers.
        second: the same for the other clustering.

    Returns:
        At most 1, which two clusterings of one group each, or of one layer a group, have too.

    Raises:
        PursuhintError: the numbers of layers differ, or there is no layer.

    Example:
        >>> rand_index([0, 0, 1, 1], [1, 1, 0, 0])
        1.0
    """
    if len(first) != len(second) or not len(first):
        raise PursuhintError(f"cannot compare clusterings of {len(first)} and {len(second)} layers")
    rows, columns = (np.unique(np.asarray(labels), return_inverse=True)[1] for labels in (first, second))
    table = np.zeros((rows.max() + 1, columns.max() + 1))
    np.add.at(table, (rows, columns), 1)
    together, own, other, all_pairs = (
        float((counts * (counts - 1) / 2).sum())
        for counts in (table, table.sum(1), table.sum(0), table.sum())
    )
    expected = own * other / all_pairs if all_pairs else 0.0
    largest = (own + other) / 2
    return 1.0 if largest == expected else (together - expected) / (largest - expected)


def rank_correlation(first: Similarity, second: Similarity) -> float | None:
    """Spearman's rank correlation of the similarities of all pairs of different layers.

    Args:
        first: (layers, layers); one that is not symmetric is averaged with its transpose.
        second: the same by another metric.

    Returns:
        From -1 to 1; None with fewer than three layers, or where all similarities of a side are equal.

    Raises:
        PursuhintError: a similarity is not a finite square matrix, or the numbers of layers differ.
    """
    from scipy.stats import rankdata  # takes a second to import

    matrices = [checked_similarity(values, normalize=False) for values in (first, second)]
    if len(matrices[0]) != len(matrices[1]):
        raise PursuhintError(f"cannot compare similarities of {len(first)} and {len(second)} layers")
    above = np.triu_indices(len(matrices[0]), k=1)
    ranks = [rankdata(matrix[above]) for matrix in matrices]
    if len(above[0]) < 2 or any(np.ptp(side) == 0 for side in ranks):
        return None
    x, y = (side - side.mean() for side in ranks)
    return float((x * y).sum() / np.sqrt((x * x).sum() * (y * y).sum()))
