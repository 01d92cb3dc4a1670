"""Similarities on subsamples: with one shard left out (jackknife), and on random halves of the shards.

`pursuhint.clustering` judges the stability of a selection by them. They cost a small fraction of another pass
over the data, because the statistics of a subsample are sums over its shards.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from pursuhint._util.seeds import stable_permutation
from pursuhint.errors import PursuhintError
from pursuhint.similarity.accumulators.base import LayerStatistics
from pursuhint.similarity.accumulators.shards import MomentShards, RowShards
from pursuhint.similarity.metric import Metric, similarity_matrices

__all__ = ["SHARDS", "Resampled", "resample"]

SHARDS = 10
"""Number of random shards that the samples are divided into."""

MOST_HALVES = 100
"""Number of half-samples if they cost little more than a few."""

FEWEST_HALVES = 10
"""Smallest number of half-samples."""

SMALLEST_SHARD = 4
"""Smallest mean size of a shard for resampling."""


@dataclass(frozen=True, eq=False)
class Resampled:
    """Similarities by one metric on subsamples.

    Attributes:
        left_out: with each shard left out in turn, (shards, layers, layers), float64.
        halves: on halves of the shards, (halves, layers, layers), float64.
        whole: on all samples, (layers, layers), if computed along with the subsamples.
    """

    left_out: Tensor
    halves: Tensor
    whole: Tensor | None = None


def halves_of(shards: int, count: int, seed: int) -> list[tuple[int, ...]]:
    """Draw different random halves of the shards, each followed by its complement.

    Args:
        shards: number of shards, even.
        count: number of halves; all that exist if there are fewer.
        seed: of the draw, which does not depend on the versions of libraries.

    Returns:
        Tuples of shard numbers, from 0.

    Raises:
        PursuhintError: ``shards`` is odd.

    Example:
        >>> halves_of(4, 2, seed=0)
        [(0, 3), (1, 2)]
    """
    if shards % 2:
        raise PursuhintError(f"halves need an even number of shards, got {shards}")
    # A division into two halves is represented by the half that contains shard 0.
    divisions = [(0, *rest) for rest in combinations(range(1, shards), shards // 2 - 1)]
    chosen = stable_permutation(len(divisions), seed)[: (count + 1) // 2].tolist()
    halves = []
    for number in chosen:
        first = divisions[number]
        halves += [first, tuple(shard for shard in range(shards) if shard not in first)]
    return halves[:count]


def halves_for(metric: Metric, shards: MomentShards | RowShards, samples: int) -> int:
    """Number of half-samples to compute a metric on.

    `MOST_HALVES` if many cost little more than a few. If they are computed together, one for every 250
    samples, at least `FEWEST_HALVES` and at most 40, so that their share of the time hardly depends on the
    number of samples. `FEWEST_HALVES` if each costs as much as the full data.
    """
    if metric.subsample_function(shards) is None:
        return FEWEST_HALVES
    return MOST_HALVES if metric.many_subsamples else 2 * min(20, max(FEWEST_HALVES // 2, samples // 500))


def subsets_of(shards: int, halves: Sequence[Sequence[int]]) -> Tensor:
    """Table of subsamples, (1 + shards + halves, shards): all shards, all but each one, and the halves."""
    subsets = torch.zeros(1 + shards + len(halves), shards, dtype=torch.bool)
    subsets[0] = True
    subsets[1 : 1 + shards] = ~torch.eye(shards, dtype=torch.bool)
    for row, half in zip(subsets[1 + shards :], halves):
        row[list(half)] = True
    return subsets


def resample(
    shards: MomentShards | RowShards, metrics: Sequence[Metric], *, samples: int, seed: int
) -> dict[str, Resampled]:
    """Similarities by several metrics with each shard left out, and on random halves of the shards.

    Metrics with a `Metric.subsample_function` compute all subsamples in one call. For the others the
    statistics of each subsample are summed from its shards, once for all metrics.

    Args:
        shards: statistics of an even number of shards.
        metrics: from `pursuhint.similarity.get_metric`.
        samples: number of samples; decides the number of halves.
        seed: seed for drawing the halves.

    Returns:
        By metric name.

    Raises:
        PursuhintError: a metric needs another kind of statistics.
    """
    results = {}
    first = 1 + len(shards)
    for metric in metrics:
        if (matrices_of := metric.subsample_function(shards)) is not None:
            halves = halves_of(len(shards), halves_for(metric, shards, samples), seed)
            matrices = matrices_of(subsets_of(len(shards), halves)).double()
            results[metric.name] = Resampled(matrices[1:first], matrices[first:], matrices[0])
    others = [metric for metric in metrics if metric.name not in results]
    if others:
        subsets = subsets_of(len(shards), halves_of(len(shards), FEWEST_HALVES, seed))[1:]
        found = [similarity_matrices(subsample, others) for subsample in _subsamples(shards, subsets)]
        for metric in others:
            matrices = torch.stack([matrices[metric.name] for matrices in found])
            results[metric.name] = Resampled(matrices[: len(shards)], matrices[len(shards) :])
    return results


def leave_out(shards: MomentShards | RowShards, metric: Metric) -> tuple[Tensor, Tensor]:
    """Similarities by a metric on all samples, and with each shard left out.

    Args:
        shards: statistics of the shards.
        metric: from `pursuhint.similarity.get_metric`.

    Returns:
        (layers, layers) and (shards, layers, layers), float64.

    Raises:
        PursuhintError: the metric needs another kind of statistics.
    """
    source = cheapest(shards, metric.needs)
    subsets = subsets_of(len(source), ())
    if (matrices_of := metric.subsample_function(source)) is not None:
        matrices = matrices_of(subsets).double()
    else:
        found = [similarity_matrices(each, [metric])[metric.name] for each in _subsamples(source, subsets)]
        matrices = torch.stack(found).double()
    return matrices[0], matrices[1:]


def cheapest(shards: MomentShards | RowShards, needs: str) -> MomentShards | RowShards:
    """The statistics of the shards from which metrics that need ``needs`` cost least."""
    if needs == "moments" and isinstance(shards, RowShards) and shards.prefer_moments:
        return MomentShards.of_rows(shards)
    return shards


def _subsamples(shards: MomentShards | RowShards, subsets: Tensor) -> Iterator[LayerStatistics]:
    """Statistics of each subsample in turn; valid until the next one is requested."""
    chosen = [row.nonzero().flatten().tolist() for row in subsets]
    if isinstance(shards, RowShards):
        yield from (shards.subsample(numbers) for numbers in chosen)
        return
    subsample = shards.moments.empty_like()
    there: set[int] = set()
    for numbers in chosen:
        wanted = set(numbers)
        # Start from the previous subsample or from nothing, whichever takes fewer additions. A half and its
        # complement follow each other, so the latter is common.
        if len(wanted ^ there) > len(wanted):
            subsample.clear()
            there = set()
        shards.change(subsample, added=sorted(wanted - there), removed=sorted(there - wanted))
        there = wanted
        yield subsample
