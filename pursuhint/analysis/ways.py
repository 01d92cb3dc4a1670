"""Do other ways of choosing lead to the same hint points: other metrics, algorithms, near-optimal partitions?

One clustering is one of many that fit the similarities about as well. How many of them choose a layer says
more about it than how often one deterministic algorithm chooses it again on other images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pursuhint._util.text import percent
from pursuhint.clustering.near_optimal import near_optimal_segments
from pursuhint.clustering.result import Clustering
from pursuhint.hints.options import SelectionOptions
from pursuhint.hints.plan import SimilarityLike, choose_positions

__all__ = ["BetterPartition", "ChoiceAgreement", "Way"]

_SAME = 1e-9
"""Inertias that differ by less than this fraction are equal."""


@dataclass(frozen=True)
class Way:
    """One way of choosing hint points.

    Attributes:
        metric: of the similarities.
        algorithm: that clustered them.
        inertia: of the clustering; comparable between the algorithms of one metric.
        positions: of the hint points.
        contiguous: whether every cluster is an unbroken run of layers.
    """

    metric: str
    algorithm: str
    inertia: float
    positions: tuple[int, ...]
    contiguous: bool


@dataclass(frozen=True)
class NearOptimalChoices:
    """Hint points of the contiguous partitions within 1 % of the best inertia.

    Attributes:
        metric: of the similarities.
        positions: of the hint points, one entry for each partition, the best first.
        complete: whether these are all partitions; otherwise the best ones.
    """

    metric: str
    positions: tuple[tuple[int, ...], ...]
    complete: bool

    def share(self, position: int) -> float:
        """Share of the partitions that choose a position, from 0 to 1."""
        return sum(position in chosen for chosen in self.positions) / len(self.positions)

    def number(self) -> str:
        """Number of partitions, in words."""
        return f"{len(self.positions):,}" if self.complete else f"more than {len(self.positions):,}"


@dataclass(frozen=True)
class BetterPartition:
    """A partition with lower inertia than the one that chose the hint points.

    Attributes:
        found: the way that finds it.
        used: the way that chose the hint points.
    """

    found: Way
    used: Way

    def sentence(self, name: Callable[[str], str] = str) -> str:
        """The finding, the positions and the option that takes them, without a full stop.

        Args:
            name: how to call a metric or an algorithm.
        """
        more = ""
        if self.found.inertia > 0:
            more = f" ({self.used.inertia / self.found.inertia - 1:.1%} more)".replace("%", " %")
        shape = "" if self.found.contiguous else ", in groups that are not contiguous"
        where = ", ".join(map(str, self.found.positions))
        same = self.found.positions == self.used.positions
        chooses = "the hint positions stay the same" if same else f"its hint positions would be {where}"
        return (
            f"{name(self.used.algorithm)} did not find the best groups by {name(self.used.metric)}: "
            f"{name(self.found.algorithm)} has an inertia of {self.found.inertia:.4f}{shape}, against "
            f"{self.used.inertia:.4f}{more}; {chooses} (--algorithm {self.found.algorithm})"
        )


@dataclass(frozen=True)
class ChoiceAgreement:
    """How many ways of choosing agree on each hint position of a plan.

    Attributes:
        chosen: positions of the plan.
        metric: metric of the plan.
        algorithm: algorithm of the plan.
        ways: all pairs of a metric and an algorithm, that of the plan among them.
        near_optimal: by metric, what the contiguous partitions within 1 % of the best inertia choose.
    """

    chosen: tuple[int, ...]
    metric: str
    algorithm: str
    ways: tuple[Way, ...]
    near_optimal: Mapping[str, NearOptimalChoices]

    def votes(self, position: int) -> int:
        """Number of ways that choose a position."""
        return sum(position in way.positions for way in self.ways)

    def share(self, position: int) -> float:
        r"""Agreement on a position, from 0 to 1: the one number to look at.

        The mean over all ways, and over the near-optimal partitions of each metric as one more way, which
        counts by the share of the partitions that choose the position:

        .. math:: \frac{\sum_{w} [p \in w] + \sum_m \mathrm{share}_m(p)}{|W| + |M|} .
        """
        near = self.near_optimal.values()
        return (self.votes(position) + sum(found.share(position) for found in near)) / (
            len(self.ways) + len(near)
        )

    @property
    def better(self) -> BetterPartition | None:
        """The partition of lowest inertia by the plan's metric; None if the plan's has no higher inertia."""
        own = [way for way in self.ways if way.metric == self.metric]
        used = next(way for way in own if way.algorithm == self.algorithm)
        best = min(own, key=lambda way: way.inertia)
        lower = used.inertia - best.inertia > _SAME * max(abs(used.inertia), abs(best.inertia))
        return BetterPartition(best, used) if lower else None

    def sentence(self, name: Callable[[str], str] = str) -> str:
        """How far the ways agree, without a full stop.

        Args:
            name: how to call a metric.
        """
        algorithms = len({way.algorithm for way in self.ways})
        metrics = len({way.metric for way in self.ways})
        single = (f"{position} by {percent(self.share(position))}" for position in self.chosen)
        near = " and ".join(
            f"{found.number()} by {name(metric)}" for metric, found in self.near_optimal.items()
        )
        return (
            f"agreement of {len(self.ways)} ways of choosing (algorithms x metrics: {algorithms} x "
            f"{metrics}) and of the contiguous partitions within 1 % of the best inertia ({near}) on the "
            f"hint positions: {', '.join(single)}"
        )

    def heads(self, name: Callable[[str], str] = str) -> tuple[str, ...]:
        """The columns of `table`.

        Args:
            name: how to call a metric.
        """
        near = (f"within 1 % by {name(metric)}" for metric in self.near_optimal)
        return ("position", "ways", *near, "agreement")

    def table(self) -> tuple[tuple[str, ...], ...]:
        """A row for every position of the plan, with the columns of `heads`."""
        return tuple(
            (
                str(position),
                f"{self.votes(position)} of {len(self.ways)}",
                *(percent(found.share(position)) for found in self.near_optimal.values()),
                percent(self.share(position)),
            )
            for position in self.chosen
        )

    def values(self) -> dict[str, Any]:
        """The findings as plain values, which JSON can hold; keys that are numbers are positions."""
        better = self.better
        return {
            "sentence": self.sentence(),
            "ways": len(self.ways),
            "votes": {str(position): self.votes(position) for position in self.chosen},
            "near_optimal": {metric: len(found.positions) for metric, found in self.near_optimal.items()},
            "agreement": {str(position): self.share(position) for position in self.chosen},
            "better_partition": None
            if better is None
            else {
                "algorithm": better.found.algorithm,
                "inertia": better.found.inertia,
                "positions": better.found.positions,
                "sentence": better.sentence(),
            },
        }


def ways_of(
    similarities: Mapping[str, SimilarityLike],
    clusterings: Callable[[str], Mapping[str, Clustering]],
    options: SelectionOptions,
) -> tuple[tuple[Way, ...], dict[str, NearOptimalChoices]]:
    """The hint points that every way of choosing gives.

    Args:
        similarities: what is clustered, by the metric asked for.
        clusterings: the clusterings of a metric, all into as many clusters, by algorithm.
        options: how clusters become hint points; the algorithm and k do not matter.
    """
    ways, near_optimal = [], {}
    for metric, similarity in similarities.items():
        numbers = [point.position for point in similarity.points]
        found = clusterings(metric)
        for algorithm, clustering in found.items():
            layers = choose_positions(clustering, options.position, similarity.values)
            positions = tuple(numbers[layer] for layer in layers)
            ways.append(Way(metric, algorithm, clustering.inertia, positions, clustering.contiguous))
        k = next(iter(found.values())).k
        near = near_optimal_segments(similarity.values, k)
        choices = (
            choose_positions(Clustering(labels, inertia, 1, "segments"), options.position, similarity.values)
            for labels, inertia in zip(near.partitions, near.inertias)
        )
        near_optimal[metric] = NearOptimalChoices(
            metric, tuple(tuple(numbers[layer] for layer in layers) for layers in choices), near.complete
        )
    return tuple(ways), near_optimal
