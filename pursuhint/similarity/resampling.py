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
"""Into how many random shards samples are divided."""

MOST_HALVES = 100
"""How many halves are looked at when they cost next to nothing."""

FEWEST_HALVES = 10
"""How many halves are looked at in any case."""

SMALLEST_SHARD = 4
"""Samples that a shard needs, on average, for resampling to make sense."""


@dataclass(frozen=True, eq=False)
class Resampled:
    """A metric's similarities on shards of the samples.

    Attributes:
        left_out: with one shard left out, (shards, layers, layers), float64.
        halves: on halves of the shards, (halves, layers, layers), float64.
        whole: on everything, (layers, layers), where it comes with the rest.
    """

    left_out: Tensor
    halves: Tensor
    whole: Tensor | None = None


def halves_of(shards: int, count: int, seed: int) -> list[tuple[int, ...]]:
    """Different random halves of some shards, each followed by its complement.

    Args:
        shards: how many shards there are, an even number.
        count: how many halves; all there are if there are fewer.
        seed: another seed draws others. The draw is the same on every version of every library.

    Returns:
        Tuples of shards, from 0.

    Raises:
        PursuhintError: ``shards`` is odd.

    Example:
        >>> halves_of(4, 2, seed=0)
        [(0, 3), (1, 2)]
    """
    if shards % 2:
        raise PursuhintError(f"halves need an even number of shards, got {shards}")
    # Each division into two halves once: the half with the first shard stands for it.
    divisions = [(0, *rest) for rest in combinations(range(1, shards), shards // 2 - 1)]
    chosen = stable_permutation(len(divisions), seed)[: (count + 1) // 2].tolist()
    halves = []
    for number in chosen:
        first = divisions[number]
        halves += [first, tuple(shard for shard in range(shards) if shard not in first)]
    return halves[:count]


def halves_for(metric: Metric, shards: MomentShards | RowShards, samples: int) -> int:
    """On how many halves of so many samples to compute a metric.

    `MOST_HALVES` where many cost no more than few; one for every 250 samples, but from `FEWEST_HALVES` to 40,
    where they are computed together, so that their share of the time does not depend much on the number of
    samples; and `FEWEST_HALVES` where each costs as much as the whole.
    """
    if metric.at_once(shards) is None:
        return FEWEST_HALVES
    return MOST_HALVES if metric.many_subsamples else 2 * min(20, max(FEWEST_HALVES // 2, samples // 500))


def subsets_of(shards: int, halves: Sequence[Sequence[int]]) -> Tensor:
    """Everything, everything but each shard, and some halves, as a table: (1 + shards + halves, shards)."""
    subsets = torch.zeros(1 + shards + len(halves), shards, dtype=torch.bool)
    subsets[0] = True
    subsets[1 : 1 + shards] = ~torch.eye(shards, dtype=torch.bool)
    for row, half in zip(subsets[1 + shards :], halves):
        row[list(half)] = True
    return subsets


def resample(
    shards: MomentShards | RowShards, metrics: Sequence[Metric], *, samples: int, seed: int
) -> dict[str, Resampled]:
    """Similarities by some metrics on everything but each shard, and on random halves of the shards.

    Metrics with a way of their own (`Metric.at_once`) get all of these at once. For the others the
    statistics of each subsample are put together, and metrics share the work on them.

    Args:
        shards: the statistics, in an even number of shards.
        metrics: from `pursuhint.similarity.get_metric`.
        samples: number of samples, see `halves_for`.
        seed: of the halves.

    Returns:
        By the metric's name.

    Raises:
        PursuhintError: a metric needs another form of statistics.
    """
    results = {}
    first = 1 + len(shards)
    for metric in metrics:
        if (matrices_of := metric.at_once(shards)) is not None:
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


def _subsamples(shards: MomentShards | RowShards, subsets: Tensor) -> Iterator[LayerStatistics]:
    """The statistics of some subsamples, one after the other; each is good until the next."""
    chosen = [row.nonzero().flatten().tolist() for row in subsets]
    if isinstance(shards, RowShards):
        yield from (shards.subsample(numbers) for numbers in chosen)
        return
    subsample = shards.moments.empty_like()
    there: set[int] = set()
    for numbers in chosen:
        wanted = set(numbers)
        # From the subsample before or from nothing, whichever takes fewer steps.
        if len(wanted ^ there) > len(wanted):
            subsample.clear()
            there = set()
        shards.change(subsample, added=sorted(wanted - there), removed=sorted(there - wanted))
        there = wanted
        yield subsample
