"""The earliest layers at equal steps of the accuracy of a linear probe: after Alain and Bengio, 2016.

A probe of each layer says how much of the labels its features give away to a linear classifier. The hints
are spread over that curve instead of over the depth: where it rises steeply they are close together, and in
the deep layers that add nothing there are none.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from pursuhint._util.seeds import stable_permutation
from pursuhint.errors import PursuhintError
from pursuhint.features.hint_points import HintPoint
from pursuhint.hints.rules.features import pooled_features
from pursuhint.hints.rules.source import RuleSource


def choose(source: RuleSource) -> list[HintPoint]:
    """The layers at the quantiles of the curve, see `at_quantiles`."""
    rows, labels = pooled_features(source, "probe")
    return [source.points[layer] for layer in at_quantiles([accuracy(x, labels) for x in rows], source.k)]


def accuracy(features: Tensor, labels: Tensor) -> float:
    """Accuracy, from 0 to 1, of a least-squares probe on the images that it was not fitted to.

    The targets are the classes one-hot; a random half of the images is held out. Of all probes that fit
    equally well it is the one of the smallest norm, so that it is defined for more features than images.

    Args:
        features: (samples, channels).
        labels: (samples,).

    Raises:
        PursuhintError: there are fewer than two samples.
    """
    if len(labels) < 2:
        raise PursuhintError(f"a probe needs at least 2 images, got {len(labels)}")
    inputs = torch.cat([features.double(), torch.ones(len(features), 1, dtype=torch.float64)], 1)
    targets = one_hot(labels.long()).double()
    fitted, held_out = halves(len(labels))
    weights = torch.linalg.pinv(inputs[fitted]) @ targets[fitted]
    return float(((inputs[held_out] @ weights).argmax(1) == labels[held_out]).double().mean())


def halves(samples: int) -> tuple[Tensor, Tensor]:
    """Indices of the samples that the probe is fitted to, and of those held out: always the same halves."""
    order = stable_permutation(samples, 0)
    return order[: (samples + 1) // 2], order[(samples + 1) // 2 :]


def at_quantiles(curve: Sequence[float], k: int) -> list[int]:
    """k different layers, from 0: number j is the earliest at which the curve has done j/k of its rise.

    The rise is that from the first layer to the maximum. Layers that several steps share go to the first of
    them, and the next step takes the layer behind; room is left for the steps that follow.

    Args:
        curve: accuracy of every layer, in depth order.
        k: number of layers, at most as many as there are.
    """
    start, top = curve[0], max(curve)
    chosen: list[int] = []
    for step in range(1, k + 1):
        wanted = start + (top - start) * step / k
        first = next(layer for layer, value in enumerate(curve) if value >= wanted - 1e-12)
        earliest = chosen[-1] + 1 if chosen else 0
        chosen.append(min(max(first, earliest), len(curve) - (k - step) - 1))
    return chosen
