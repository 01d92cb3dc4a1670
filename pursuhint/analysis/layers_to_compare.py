"""The layers whose similarity an analysis computes, and what follows from their widths before the pass."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from pursuhint._util.network_input import NetworkInput
from pursuhint.analysis.collection import pooled_widths
from pursuhint.analysis.sample_size import TooFewSamples, too_few_samples
from pursuhint.clustering.result import check_k
from pursuhint.errors import PursuhintError
from pursuhint.features.hint_points import Activation, HintPoint, find_hint_points
from pursuhint.features.pooling import Pooling
from pursuhint.similarity import get_metric
from pursuhint.similarity.accumulators.choose import StatisticsLayout, choose_layout
from pursuhint.similarity.accumulators.sample_rows import bytes_of_sample_rows
from pursuhint.similarity.metric import Metric

__all__: list[str] = []


@dataclass(frozen=True, eq=False)
class LayersToCompare:
    """Layers of a network, after or before the last activation of their sub-blocks or both.

    Attributes:
        points: the layers, by activation; the first entry is the one whose sample size is judged.
        pooling: from their features to one vector a sample.
    """

    points: Mapping[Activation, tuple[HintPoint, ...]]
    pooling: Pooling

    @classmethod
    def find(
        cls,
        network: nn.Module,
        example: NetworkInput,
        pooling: Pooling,
        *,
        activation: Activation | Literal["both"],
        include: Sequence[str] = (),
    ) -> LayersToCompare:
        """The candidates of a network.

        Args:
            network: on the device of the example.
            example: one sample, as the network takes it.
            pooling: of the features.
            activation: ``"post"``, ``"pre"``, or ``"both"`` of them.
            include: module-name patterns that replace the automatic choice.

        Raises:
            PursuhintError: there are fewer than two, or the pooling cannot take the features of one.
        """
        activations: tuple[Activation, ...] = ("post", "pre") if activation == "both" else (activation,)
        points = {
            each: tuple(find_hint_points(network, example, activation=each, include=include))
            for each in activations
        }
        for found in points.values():
            if len(found) < 2:
                raise PursuhintError(
                    f"similarity needs at least 2 layers; {type(network).__name__} has only {found[0]}"
                )
            pooling.check(found)
        return cls(points, pooling)

    def check_k(self, k: int | Literal["auto"] | None) -> None:
        """Check a number of hint points, if it is one.

        Raises:
            PursuhintError: there are fewer layers, or it is below 2.
        """
        if isinstance(k, int):
            for found in self.points.values():
                check_k(k, len(found))

    def layouts(
        self, metrics: Sequence[Metric], *, samples: int, memory_limit: int, device: torch.device
    ) -> dict[Activation, StatisticsLayout]:
        """How the statistics of the layers are stored, by activation.

        Args:
            metrics: that are computed from them.
            samples: of the pass.
            memory_limit: bytes for each entry.
            device: where they are stored.

        Raises:
            PursuhintError: the limit is too low.
        """
        return {
            activation: choose_layout(
                pooled_widths(found, self.pooling),
                metrics,
                samples=samples,
                memory_limit=memory_limit,
                device=device,
            )
            for activation, found in self.points.items()
        }

    def memory_beside_rows(self, limit: int, samples: int) -> int:
        """What the features of single samples leave of a memory limit in bytes.

        Raises:
            PursuhintError: they leave nothing.
        """
        widest = max(sum(pooled_widths(found, self.pooling)) for found in self.points.values())
        needed = bytes_of_sample_rows(samples, widest)
        if needed >= limit:
            raise PursuhintError(
                f"class_quality keeps the pooled features of {samples:,} images, {needed / 1e6:.0f} MB, and "
                f"the memory limit is {limit / 1e6:.0f} MB; leave it out, or give more memory "
                "(--memory-limit)"
            )
        return limit - needed

    def too_few_samples(self, metrics: Sequence[str], samples: int) -> dict[str, TooFewSamples]:
        """The metrics with too few samples for the width of the layers, by name."""
        points = next(iter(self.points.values()))
        widths = pooled_widths(points, self.pooling)
        found = {
            name: too_few_samples(name, get_metric(name).samples_per_feature, points, widths, samples)
            for name in metrics
        }
        return {name: finding for name, finding in found.items() if finding is not None}

    def samples_needed(self, metrics: Sequence[str], scarce: Container[str]) -> int:
        """The fewest samples that leave no metric with too few, but for those that have too few anyway.

        Args:
            metrics: names.
            scarce: those with too few even with all samples.
        """
        widest = max(max(pooled_widths(found, self.pooling)) for found in self.points.values())
        return max(
            (get_metric(name).samples_per_feature * widest for name in metrics if name not in scarce),
            default=0,
        )
