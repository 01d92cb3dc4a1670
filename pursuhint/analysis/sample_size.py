"""Metrics whose values are mostly chance when there are few samples for the width of a layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pursuhint.features.hint_points import HintPoint

__all__ = ["TooFewSamples"]


@dataclass(frozen=True)
class TooFewSamples:
    """A metric for which there are too few samples to tell similar layers from unrelated ones.

    Attributes:
        metric: its name.
        samples: how many there are.
        needed: how many the widest layer takes.
        layer: module name of that layer.
        width: number of its features after pooling.
    """

    metric: str
    samples: int
    needed: int
    layer: str
    width: int

    @property
    def chance(self) -> float:
        r"""Similarity of two unrelated layers of this width as a fraction of a layer's with itself, up to 1.

        The squared canonical correlations of independent Gaussian features, p on either side, have the mean
        :math:`p / (n - 1)` over n samples: chance alone explains that share of a layer, and all of it from
        :math:`n - 1 = p` down. Metrics that take the correlations themselves, not their squares, have more.
        """
        return min(1.0, self.width / (self.samples - 1))

    def sentence(self) -> str:
        """The finding and what to do, with the numbers, without a full stop."""
        return (
            f"{self.metric} of {self.samples:,} images is mostly chance: {self.layer} has {self.width:,} "
            f"features, and unrelated layers of that width would reach about {self.chance:.2f} of the "
            f"similarity of a layer with itself; take at least {self.needed:,} images, or the metric "
            "debiased-cka, which chance does not raise"
        )


def too_few_samples(
    metric: str, samples_per_feature: int, points: Sequence[HintPoint], widths: Sequence[int], samples: int
) -> TooFewSamples | None:
    """The finding if a metric has too few samples; None if it has enough.

    Args:
        metric: its name.
        samples_per_feature: of `pursuhint.similarity.Metric`; 0 for a metric that needs no more samples for
            wider layers.
        points: the layers.
        widths: number of features of each layer after pooling.
        samples: how many samples there are.
    """
    widest = max(range(len(points)), key=lambda index: widths[index])
    needed = samples_per_feature * widths[widest]
    if samples >= needed:
        return None
    return TooFewSamples(metric, samples, needed, points[widest].module, widths[widest])
