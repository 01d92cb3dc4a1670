"""All contiguous partitions that are nearly as good as the best one."""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np

from pursuhint.clustering.inertia import Matrix, Similarity, checked_similarity, tie_width
from pursuhint.clustering.segments import segment_costs
from pursuhint.errors import PursuhintError

__all__ = ["NearOptimal", "near_optimal_segments"]

WITHIN = 0.01
"""How far above the best inertia a partition may be to count as nearly optimal, as a fraction of it."""

MOST = 1000
"""Largest number of partitions that are listed."""


@dataclass(frozen=True)
class NearOptimal:
    """The contiguous partitions whose inertia is close to the lowest one, the best first.

    Attributes:
        partitions: cluster of each layer, from 0 in depth order, one tuple for each partition.
        inertias: of each partition, ascending.
        within: how far above the best inertia they may be, as a fraction of it.
        complete: whether these are all. Otherwise they are the best ones of more than were listed.
    """

    partitions: tuple[tuple[int, ...], ...]
    inertias: tuple[float, ...]
    within: float
    complete: bool

    def __len__(self) -> int:
        return len(self.partitions)


def near_optimal_segments(
    similarity: Similarity, k: int, *, normalize: bool = False, within: float = WITHIN, most: int = MOST
) -> NearOptimal:
    r"""List the partitions into k contiguous segments whose inertia is near the lowest one.

    By dynamic programming, `pursuhint.clustering.segments` computes :math:`B_m(n)`, the lowest inertia of the
    first n layers in m segments. Here the segments of a partition are fixed one by one, from the deepest;
    beside the inertia of those that are fixed, :math:`B_m(n)` of the layers that are left is exactly what the
    best completion costs. So a search that always continues the cheapest start (A* with an exact bound)
    completes the partitions in the order of their inertia and never follows a start that cannot end within
    the limit.

    Where the best inertia is not positive (k equals the number of layers, all layers of a cluster coincide,
    or the similarity is not positive semi-definite), a fraction of it has no meaning, and only the partitions
    that tie with the best one are listed.

    Args:
        similarity: (layers, layers); one that is not symmetric is averaged with its transpose.
        k: number of segments, from 2 to the number of layers.
        normalize: give every layer unit length first; see `pursuhint.clustering.kmeans`.
        within: a partition is listed if its inertia is at most ``1 + within`` times the lowest, up to
            rounding; at least 0.
        most: the largest number of partitions to list, at least 1; the best ones are.

    Raises:
        PursuhintError: the similarity is not a finite square matrix, or an argument is out of range.

    Example:
        >>> near_optimal_segments(torch.eye(3), 2).partitions
        ((0, 0, 1), (0, 1, 1))
    """
    if within < 0 or most < 1:
        raise PursuhintError(
            f"within must be at least 0 and most at least 1, got within={within}, most={most}"
        )
    matrix = checked_similarity(similarity, normalize=normalize, k=k)
    layers = len(matrix)
    cost = segment_costs(matrix)
    best = _best_starts(cost, k)
    lowest, rounding = best[k - 1, layers], tie_width(matrix) * layers
    limit = lowest * (1 + within) + rounding if lowest > rounding else lowest + rounding
    # An entry: the inertia of the best partition that ends in these cuts, those cuts from the deepest (the
    # later first among equals, as `segments` has them), and the inertia of the segments behind them.
    queue: list[tuple[float, tuple[int, ...], float]] = [(float(lowest), (), 0.0)]
    partitions: list[tuple[int, ...]] = []
    inertias: list[float] = []
    while queue:
        total, cuts, behind = heapq.heappop(queue)
        left = k - 1 - len(cuts)  # cuts to make
        end = -cuts[-1] if cuts else layers
        if left == 0:
            if len(partitions) == most:
                return NearOptimal(tuple(partitions), tuple(inertias), within, complete=False)
            partitions.append(_labels([-cut for cut in cuts], layers))
            inertias.append(total)
            continue
        starts = np.arange(left, end)
        fixed = behind + cost[starts, end]
        # A start cannot cost less than what it continues, and the best one costs the same. Held exactly, in
        # spite of rounding, this completes one partition every k steps however many of them tie.
        totals = np.maximum(fixed + best[left - 1, starts], total)
        totals[len(totals) - 1 - np.argmin(totals[::-1])] = total
        for index in np.flatnonzero(totals <= limit):
            heapq.heappush(queue, (float(totals[index]), (*cuts, -int(starts[index])), float(fixed[index])))
    return NearOptimal(tuple(partitions), tuple(inertias), within, complete=True)


def _best_starts(cost: Matrix, k: int) -> Matrix:
    """Lowest inertia of the first n layers in m segments at [m - 1, n]; infinite where n < m."""
    best = [cost[0]]
    for _ in range(1, k):
        best.append((best[-1][:, None] + cost).min(axis=0))
    return np.array(best)


def _labels(cuts: list[int], layers: int) -> tuple[int, ...]:
    """Cluster of each layer when a segment begins at each of the cuts."""
    starts = np.zeros(layers, dtype=int)
    starts[cuts] = 1
    return tuple(starts.cumsum().tolist())
