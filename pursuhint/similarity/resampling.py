"""Similarities on parts of the samples: without one part, and on random halves of the parts.

What the certainty of a choice is judged by (`pursuhint.clustering.stability`), at a small part of the cost of
measuring the similarities again.
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
from pursuhint.similarity.accumulators.shards import MomentShards, RowParts
from pursuhint.similarity.metric import Metric, similarity_matrices

__all__ = ["PARTS", "Resampled", "resample"]

PARTS = 10
"""Into how many random parts samples are divided."""

MOST_HALVES = 100
"""How many halves are looked at when they cost next to nothing."""

FEWEST_HALVES = 10
"""How many halves are looked at in any case."""

SMALLEST_PART = 4
"""Samples that a part needs, on average, for resampling to make sense."""


@dataclass(frozen=True, eq=False)
class Resampled:
    """A metric's similarities on parts of the samples.

    Attributes:
        left_out: with one part left out, (parts, layers, layers), float64.
        halves: on halves of the parts, (halves, layers, layers), float64.
        whole: on everything, (layers, layers), where it comes with the rest.
    """

    left_out: Tensor
    halves: Tensor
    whole: Tensor | None = None


def halves_of(parts: int, count: int, seed: int) -> list[tuple[int, ...]]:
    """Different random halves of some parts, each followed by its complement.

    Args:
        parts: how many parts there are, an even number.
        count: how many halves; all there are if there are fewer.
        seed: another seed draws others. The draw is the same on every version of every library.

    Returns:
        Tuples of parts, from 0.

    Raises:
        PursuhintError: ``parts`` is odd.

    Example:
        >>> halves_of(4, 2, seed=0)
        [(0, 3), (1, 2)]
    """
    if parts % 2:
        raise PursuhintError(f"halves need an even number of parts, got {parts}")
    # Each division into two halves once: the half with the first part stands for it.
    divisions = [(0, *rest) for rest in combinations(range(1, parts), parts // 2 - 1)]
    chosen = stable_permutation(len(divisions), seed)[: (count + 1) // 2].tolist()
    halves = []
    for number in chosen:
        first = divisions[number]
        halves += [first, tuple(part for part in range(parts) if part not in first)]
    return halves[:count]


def halves_for(metric: Metric, parts: MomentShards | RowParts, samples: int) -> int:
    """On how many halves of so many samples to compute a metric.

    `MOST_HALVES` where many cost no more than few; one for every 250 samples, but from `FEWEST_HALVES` to 40,
    where they are computed together, so that their share of the time does not depend much on the number of
    samples; and `FEWEST_HALVES` where each costs as much as the whole.
    """
    if metric.at_once(parts) is None:
        return FEWEST_HALVES
    return MOST_HALVES if metric.many_subsamples else 2 * min(20, max(FEWEST_HALVES // 2, samples // 500))


def subsets_of(parts: int, halves: Sequence[Sequence[int]]) -> Tensor:
    """Everything, everything but each part, and some halves, as a table: (1 + parts + halves, parts)."""
    subsets = torch.zeros(1 + parts + len(halves), parts, dtype=torch.bool)
    subsets[0] = True
    subsets[1 : 1 + parts] = ~torch.eye(parts, dtype=torch.bool)
    for row, half in zip(subsets[1 + parts :], halves):
        row[list(half)] = True
    return subsets


def resample(
    parts: MomentShards | RowParts, metrics: Sequence[Metric], *, samples: int, seed: int
) -> dict[str, Resampled]:
    """Similarities by some metrics on everything but each part, and on random halves of the parts.

    Metrics with a way of their own (`Metric.at_once`) get all of these at once. For the others the
    statistics of each union of parts are put together, and metrics share the work on them.

    Args:
        parts: the statistics, in an even number of parts.
        metrics: from `pursuhint.similarity.get_metric`.
        samples: number of samples, see `halves_for`.
        seed: of the halves.

    Returns:
        By the metric's name.

    Raises:
        PursuhintError: a metric needs another form of statistics.
    """
    results = {}
    first = 1 + len(parts)
    for metric in metrics:
        if (matrices_of := metric.at_once(parts)) is not None:
            halves = halves_of(len(parts), halves_for(metric, parts, samples), seed)
            matrices = matrices_of(subsets_of(len(parts), halves)).double()
            results[metric.name] = Resampled(matrices[1:first], matrices[first:], matrices[0])
    others = [metric for metric in metrics if metric.name not in results]
    if others:
        subsets = subsets_of(len(parts), halves_of(len(parts), FEWEST_HALVES, seed))[1:]
        found = [similarity_matrices(union, others) for union in _subsamples(parts, subsets)]
        for metric in others:
            matrices = torch.stack([matrices[metric.name] for matrices in found])
            results[metric.name] = Resampled(matrices[: len(parts)], matrices[len(parts) :])
    return results


def _subsamples(parts: MomentShards | RowParts, subsets: Tensor) -> Iterator[LayerStatistics]:
    """The statistics of some unions of parts, one after the other; each is good until the next."""
    chosen = [row.nonzero().flatten().tolist() for row in subsets]
    if isinstance(parts, RowParts):
        yield from (parts.union(numbers) for numbers in chosen)
        return
    union = parts.moments.empty_like()
    there: set[int] = set()
    for numbers in chosen:
        wanted = set(numbers)
        # From the union before or from nothing, whichever takes fewer steps.
        if len(wanted ^ there) > len(wanted):
            union.clear()
            there = set()
        parts.change(union, added=sorted(wanted - there), removed=sorted(there - wanted))
        there = wanted
        yield union
