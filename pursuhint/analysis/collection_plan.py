"""From a network and data to the statistics of its layers, in one pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch import distributed as dist

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
from pursuhint.data.sample_order import Step
from pursuhint.features.hint_points import Activation, HintPoint
from pursuhint.similarity.accumulators.base import LayerStatistics
from pursuhint.similarity.accumulators.choose import StatisticsLayout
from pursuhint.similarity.accumulators.class_sums import ClassSums, LabeledShards
from pursuhint.similarity.accumulators.moments import LayerMoments
from pursuhint.similarity.accumulators.pooled_features import PooledFeatures
from pursuhint.similarity.accumulators.sample_rows import SampleRows
from pursuhint.similarity.accumulators.shards import MomentShards, RowShards

if TYPE_CHECKING:
    from pursuhint.analysis.stopping import StoppingRule

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
        rows: the features of some samples, or None if they were not kept.
    """

    points: tuple[HintPoint, ...]
    statistics: LayerStatistics
    shards: Shards | None
    classes: ClassSums | None = None
    rows: SampleRows | None = None


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
        rows_of: indices of the samples whose features are kept; None for none.
    """

    network: nn.Module
    points: Mapping[Activation, Sequence[HintPoint]]
    layouts: Mapping[Activation, StatisticsLayout]
    source: SampleSource
    options: PassOptions
    memory_budget: int
    classes: int = 0
    rows_of: Tensor | None = None

    def collect(
        self,
        *,
        states: StateOptions | None = None,
        rule: StoppingRule | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> tuple[dict[Activation, Collected], CollectSeconds]:
        """Run the pass.

        Args:
            states: where its state is saved; None saves none.
            rule: asked at the end of each stretch of the samples whether the pass may end there; None goes
                through all of them.
            on_progress: called after each batch with the number of samples done and in total, of this rank.

        Returns:
            The statistics, after and before the activations, and the time spent, of the slowest rank.

        Raises:
            PursuhintError: as `pursuhint.analysis.collection.collect`.
        """
        accumulators = {activation: self._accumulator(activation) for activation in self.points}
        taps: dict[str, tuple[Sequence[HintPoint], Accumulator]] = {
            activation: (self.points[activation], accumulators[activation]) for activation in self.points
        }
        progress = _Progress(sum(step.samples for step in self._steps()), on_progress)
        looks = None if rule is None else _Looks(self, accumulators, rule)
        seconds = run_resumable_pass(
            self.network,
            taps,
            self.source,
            options=self.options,
            states=None if states is None else states.depending_on(layouts=self._layout_names()),
            looks=looks,
            on_batch=progress,
        )
        collected = self.finish(accumulators) if looks is None or looks.last is None else looks.last
        for activation, accumulator in accumulators.items():
            accumulator.all_reduce()
            statistics = collected[activation]
            collected[activation] = replace(statistics, classes=accumulator.classes, rows=accumulator.rows)
        if looks is not None and looks.last is not None:
            progress.ended()
        if world_size() > 1:
            # After finish(): a rank without a batch enters that collective call first.
            seconds.take_slowest(self.options.device)
        return collected, seconds

    def finish(self, accumulators: Mapping[Activation, LabeledShards]) -> dict[Activation, Collected]:
        """The statistics of the samples so far, without sums of classes. Collective call."""
        several = len(self.source.order.sizes) > 1
        return {
            activation: Collected(
                tuple(self.points[activation]),
                accumulator.shards.finish(),
                accumulator.shards if several else None,
            )
            for activation, accumulator in accumulators.items()
        }

    def _steps(self) -> Sequence[Step]:
        return self.source.order.steps(rank(), world_size())

    def _accumulator(self, activation: Activation) -> LabeledShards:
        shards = self._shards(activation)
        statistics = shards.rows if isinstance(shards, RowShards) else shards.moments
        if self.classes < 2:
            return LabeledShards(shards, None)
        width, device = statistics.total_width, statistics.device
        rows = None if self.rows_of is None else SampleRows(self.rows_of, width, device=device)
        return LabeledShards(shards, ClassSums(width, self.classes, device=device), rows)

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


class _Looks:
    """Looks of a `StoppingRule` at the statistics that a pass has accumulated.

    Attributes:
        last: the statistics with which the pass ended early; None if it did not.
    """

    def __init__(
        self, plan: CollectionPlan, accumulators: Mapping[Activation, LabeledShards], rule: StoppingRule
    ) -> None:
        self._plan, self._accumulators, self._rule = plan, accumulators, rule
        self.last: dict[Activation, Collected] | None = None
        self.state, self.restore = rule.state, rule.restore

    def stable(self) -> bool:
        collected = self._plan.finish(self._accumulators)
        ended = torch.tensor(int(self._rule(collected)), device=self._plan.options.device)
        if world_size() > 1:
            dist.broadcast(ended, 0)  # the ranks have equal sums, and must not part over a last bit
        if bool(ended):
            self.last = collected
            return True
        for accumulator in self._accumulators.values():
            accumulator.reopen()
        return False


class _Progress:
    """Tells how many samples of this rank are done."""

    def __init__(self, total: int, on_progress: Callable[[int, int], None] | None) -> None:
        self._total, self._on_progress = total, on_progress
        self._done = 0

    def __call__(self, done: int) -> None:
        self._done = done
        if self._on_progress is not None:
            self._on_progress(done, self._total)

    def ended(self) -> None:
        """No further samples are needed: what is done is all."""
        self._total = self._done
        self(self._done)
