"""From a network and data to the statistics of its layers, in one pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from pursuhint._util.distributed import rank, world_size
from pursuhint._util.timing import CollectSeconds
from pursuhint.analysis.collection import empty_statistics
from pursuhint.analysis.pass_options import PassOptions
from pursuhint.analysis.resumable_pass import (
    Accumulator,
    SampleSource,
    StateOptions,
    run_resumable_pass,
)
from pursuhint.features.hint_points import Activation, HintPoint
from pursuhint.similarity.accumulators.base import LayerStatistics
from pursuhint.similarity.accumulators.choose import StatisticsLayout
from pursuhint.similarity.accumulators.class_sums import ClassSums, LabeledShards
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
        statistics: of the features of those layers, over all samples.
        shards: statistics of the shards of the samples, or None if they were not kept apart.
        classes: sums of the features of every class, or None for data without classes.
    """

    points: tuple[HintPoint, ...]
    statistics: LayerStatistics
    shards: Shards | None
    classes: ClassSums | None = None


@dataclass(frozen=True, eq=False)
class CollectionPlan:
    """One pass over samples that collects the statistics of a network's layers.

    Attributes:
        network: on the device of ``options``.
        points: the layers, after or before the activations or both.
        layouts: how their statistics are stored, for each of those.
        source: the samples.
        options: how the network is run.
        memory_budget: bytes for the statistics after, and as many for those before, the activations.
        classes: how many classes the samples have; with fewer than two their sums are not kept.
    """

    network: nn.Module
    points: Mapping[Activation, Sequence[HintPoint]]
    layouts: Mapping[Activation, StatisticsLayout]
    source: SampleSource
    options: PassOptions
    memory_budget: int
    classes: int = 0

    def collect(
        self,
        *,
        states: StateOptions | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> tuple[dict[Activation, Collected], CollectSeconds]:
        """Run the pass.

        Args:
            states: where its state is saved; None saves none.
            on_progress: called after each batch with the number of samples done and in total, of this rank.

        Returns:
            The statistics, after and before the activations, and the time spent, of the slowest rank.

        Raises:
            PursuhintError: as `pursuhint.analysis.collection.collect`.
        """
        order = self.source.order
        accumulators = {activation: self._accumulator(activation) for activation in self.points}
        taps: dict[str, tuple[Sequence[HintPoint], Accumulator]] = {
            activation: (self.points[activation], accumulators[activation]) for activation in self.points
        }
        total = sum(step.samples for step in order.steps(rank(), world_size()))
        seconds = run_resumable_pass(
            self.network,
            taps,
            self.source,
            options=self.options,
            states=None if states is None else states.depending_on(layouts=self._layout_names()),
            on_batch=None if on_progress is None else lambda done: on_progress(done, total),
        )
        several = len(order.sizes) > 1
        collected = {}
        for activation, accumulator in accumulators.items():
            shards, classes = accumulator.shards, accumulator.classes
            statistics = shards.finish()
            if classes is not None:
                classes.all_reduce()
            collected[activation] = Collected(
                tuple(self.points[activation]), statistics, shards if several else None, classes
            )
        if world_size() > 1:
            # After finish(): a rank without a batch enters that collective call first.
            seconds.take_slowest(self.options.device)
        return collected, seconds

    def _accumulator(self, activation: Activation) -> LabeledShards:
        shards = self._shards(activation)
        statistics = shards.rows if isinstance(shards, RowShards) else shards.moments
        if self.classes < 2:
            return LabeledShards(shards, None)
        sums = ClassSums(statistics.total_width, self.classes, device=statistics.device)
        return LabeledShards(shards, sums)

    def _shards(self, activation: Activation) -> Shards:
        layout = self.layouts[activation]
        statistics = empty_statistics([(self.network, self.points[activation])], self.options, layout)
        if isinstance(statistics, PooledFeatures):
            return RowShards(statistics, self.source.order)
        assert isinstance(statistics, LayerMoments)
        # What the moments of all samples and of a union of shards leave of the budget.
        left = max(0, self.memory_budget - 2 * layout.bytes)
        return MomentShards(statistics, self.source.order, memory_budget=left)

    def _layout_names(self) -> list[tuple[str, str]]:
        return [(layout.kind, str(layout.products)) for layout in self.layouts.values()]
