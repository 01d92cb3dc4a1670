"""From a network and data to the statistics of its layers, in one pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pursuhint._util.distributed import rank, world_size
from pursuhint._util.timing import CollectSeconds
from pursuhint.analysis.collection import empty_statistics
from pursuhint.analysis.resumable_pass import Accumulator, fingerprint, run_resumable_pass
from pursuhint.data import Batch
from pursuhint.data.sample_order import SampleOrder
from pursuhint.features.hint_points import Activation, HintPoint
from pursuhint.features.pooling import Pooling
from pursuhint.similarity.accumulators.base import LayerStatistics
from pursuhint.similarity.accumulators.choose import StatisticsLayout
from pursuhint.similarity.accumulators.moments import LayerMoments
from pursuhint.similarity.accumulators.pooled_features import PooledFeatures
from pursuhint.similarity.accumulators.shards import MomentShards, RowShards

Shards = MomentShards | RowShards
"""Statistics of the shards of the samples."""


@dataclass(frozen=True)
class Collected:
    """Statistics of the features of a network, after or before the activations.

    Attributes:
        points: all layers.
        statistics: of their features, over all samples.
        shards: statistics of the shards of the samples, or None if they were not kept apart.
    """

    points: tuple[HintPoint, ...]
    statistics: LayerStatistics
    shards: Shards | None


@dataclass(frozen=True)
class CollectionPlan:
    """A pass over samples, ready to begin.

    Attributes:
        network: on ``device``.
        points: which features to gather, after or before the activations or both.
        forms: in which form, for each of those.
        order: of the samples.
        batches_of: gives the batches of the samples with some indices, in their order.
        pooling: from features to one vector a sample.
        device: where the network runs.
        autocast: see `pursuhint.analysis.collect`.
        memory_budget: bytes for the statistics after, and as many for those before, the activations.
        on_progress: called after each batch with the number of samples done and the number in all: of this
            process.
        state: folder in which a long pass keeps its state, or None; see
            `pursuhint.analysis.run_resumable_pass`.
        save_every: seconds between two states.
        identity: what else the statistics depend on, see `pursuhint.analysis.fingerprint`.
    """

    network: nn.Module
    points: Mapping[Activation, Sequence[HintPoint]]
    forms: Mapping[Activation, StatisticsLayout]
    order: SampleOrder
    batches_of: Callable[[Tensor], Iterable[Batch]]
    pooling: Pooling
    device: torch.device | str
    autocast: str | None
    memory_budget: int
    on_progress: Callable[[int, int], None] | None
    state: Path | str | None
    save_every: float
    identity: Mapping[str, Any]

    def collect(self, spent: CollectSeconds) -> dict[Activation, Collected]:
        """Gather the statistics.

        Args:
            spent: where to add the time.

        Raises:
            PursuhintError: as `pursuhint.analysis.collect`.
        """
        accumulators: dict[Activation, Shards] = {
            side: self._accumulator(side, found) for side, found in self.points.items()
        }
        total = sum(step.samples for step in self.order.steps(rank(), world_size()))
        taps: dict[str, tuple[Sequence[HintPoint], Accumulator]] = {
            side: (self.points[side], accumulators[side]) for side in self.points
        }
        on_progress = self.on_progress
        run_resumable_pass(
            self.network,
            taps,
            self.order,
            self.batches_of,
            pooling=self.pooling,
            device=self.device,
            autocast=self.autocast,
            seconds=spent,
            on_batch=None if on_progress is None else lambda done: on_progress(done, total),
            state=self.state,
            save_every=self.save_every,
            identity="" if self.state is None else self._fingerprint(),
        )
        several = len(self.order.sizes) > 1
        gathered = {
            side: Collected(tuple(self.points[side]), shards.finish(), shards if several else None)
            for side, shards in accumulators.items()
        }
        if world_size() > 1:
            spent.take_slowest(self.device)  # after finish, which a process that had no batch begins with
        return gathered

    def _accumulator(self, side: Activation, found: Sequence[HintPoint]) -> Shards:
        statistics = empty_statistics(
            [(self.network, found)], pooling=self.pooling, form=self.forms[side], device=self.device
        )
        if isinstance(statistics, PooledFeatures):
            return RowShards(statistics, self.order)
        assert isinstance(statistics, LayerMoments)
        # What is left beside the moments of everything and those of a union of parts.
        left = max(0, self.memory_budget - 2 * self.forms[side].bytes)
        return MomentShards(statistics, self.order, memory_budget=left)

    def _fingerprint(self) -> str:
        return fingerprint(
            self.network,
            self.order,
            points=[str(point.to_dict()) for found in self.points.values() for point in found],
            kinds=[(form.kind, str(form.products)) for form in self.forms.values()],
            pooling=str(self.pooling),
            autocast=self.autocast,
            **self.identity,
        )
