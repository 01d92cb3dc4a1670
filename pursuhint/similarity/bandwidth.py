"""Median distances of samples, from which the bandwidths of RBF kernels are set."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from pursuhint._util.seeds import stable_permutation
from pursuhint.errors import PursuhintError
from pursuhint.similarity.accumulators.pooled_features import PooledFeatures

Over = Literal["all", "pairs"]
"""Which distances the bandwidth is the median of: squared ones over all entries of the distance matrix, its
zero diagonal included, or plain ones over pairs of different samples."""

MEDIAN_ROWS = 2000
"""Default number of samples that the median distance is taken from."""

MEDIAN_SEED = 0
"""Seed for drawing these samples."""


def bandwidths(rows: PooledFeatures, *, over: Over = "all", median_rows: int | None = MEDIAN_ROWS) -> Tensor:
    """Squared median distance of samples in each layer.

    Args:
        rows: features of at least two samples.
        over: ``"all"``: the median of squared distances over all entries of the distance matrix, its zero
            diagonal included; ``"pairs"``: the square of the median distance over pairs of different samples.
        median_rows: number of samples to take the median from; None for all. If there are more, they are
            drawn with a fixed seed by their numbers, and the corresponding quantile of their distances is
            taken.

    Returns:
        (layers,), float64; zero where the median is zero or explained by rounding.

    Raises:
        PursuhintError: there are fewer than two samples, or ``median_rows`` is below 2.
    """
    rows.require(2)
    if over not in ("all", "pairs"):
        raise PursuhintError(f"the median is over 'all' or 'pairs', not {over!r}")
    if median_rows is not None and median_rows < 2:
        raise PursuhintError(f"a median distance needs at least 2 samples, got median_rows={median_rows}")
    count = rows.count
    chosen: slice | Tensor = slice(None)
    if median_rows is not None and median_rows < count:
        # Drawn among the sorted numbers, so that neither the order of the samples nor the world size matters.
        drawn = stable_permutation(count, MEDIAN_SEED)[:median_rows]
        chosen = rows.numbers.argsort(stable=True)[drawn].to(rows.device)
    squared = []
    for i, block in enumerate(rows.blocks):
        features = rows.centered(chosen, block)
        median = _squared_median(features, count, over)
        norms = torch.linalg.vecdot(features, features)
        # Two sources of error: the rounding of both features of a difference (variance eps^2 x^2 / 12 each,
        # with a factor 4 of safety as in `noise_floor`), and the rounding of the distances computed from
        # norms.
        rounding = 4 * rows.eps[i] ** 2 / 6 * float(rows.mean_square(i).sum())
        rounding = max(rounding, 16 * torch.finfo(norms.dtype).eps * float(norms.max()))
        squared.append(median if median > rounding else 0.0)
    return torch.tensor(squared, dtype=torch.float64, device=rows.device)


def _squared_median(features: Tensor, count: int, over: Over) -> float:
    """Squared median distance of ``count`` samples; ``features`` holds all of them or a draw."""
    some = len(features)
    pairs = some * (some - 1) // 2
    if some < count:
        # Over all N^2 entries, N of which are zeros on the diagonal, the median is not the 0.5 quantile of
        # the distances between different samples: take the quantile that it is for all samples.
        quantile = 0.5 if over == "pairs" else max(0.0, (count / 2 - 1) / (count - 1))
        place = quantile * (pairs - 1)
        lower, upper = _neighbors(features, min(int(place), pairs - 1))
        if over == "pairs":
            lower, upper = math.sqrt(lower), math.sqrt(upper)
        median = lower + (place - int(place)) * (upper - lower)
        return median**2 if over == "pairs" else median
    if over == "pairs":
        lower, upper = _neighbors(features, (pairs - 1) // 2)
        upper = lower if pairs % 2 else upper
        return ((math.sqrt(lower) + math.sqrt(upper)) / 2) ** 2
    # Sorted, the N^2 entries are N zeros, then the distance of every pair twice: entry e is pair (e - N) / 2.
    # With an even number of entries the median is the mean of the two in the middle.
    places = [(entry - some) // 2 for entry in ((some**2 - 1) // 2, some**2 // 2)]
    lower, upper = _neighbors(features, max(0, places[0]))
    values = [0.0 if place < 0 else lower if place == max(0, places[0]) else upper for place in places]
    return sum(values) / 2


def _neighbors(features: Tensor, place: int) -> tuple[float, float]:
    """Squared distances at rank ``place`` (from 0) of the sorted pairs, and at the next rank."""
    some = len(features)
    if some * (some - 1) // 2 <= HELD:
        return _sorted_at(torch.cat(list(_squared_distances(features))), place)
    # Too many distances to hold in memory. Selection by bracketing: take quantiles of a sample of the
    # distances on either side of the rank, count the distances below the bracket in one pass, and keep those
    # inside. If too many lie inside, a sample of them gives a narrower bracket; if the rank is outside, the
    # bracket is widened. The result is exact.
    few = features[:: some // 1000 + 1]
    sample = torch.cat(list(_squared_distances(few))).sort().values
    quantile, width = place / (some * (some - 1) // 2), 0.02
    bottom, top = 0.0, math.inf
    while True:
        low = bottom if quantile < width else float(sample[int((quantile - width) * len(sample))])
        high = top if quantile + width >= 1 else float(sample[int((quantile + width) * len(sample))])
        below, inside, kept = _inside(features, low, high)
        if not (below <= place and place + 1 < below + inside):
            if (low, high) == (bottom, top):  # the last rank, which has no successor
                return _sorted_at(kept, place - below)
            width *= 4
        elif inside == len(kept):
            return _sorted_at(kept, place - below)
        elif low == high:  # more equal distances than fit in memory
            return low, high
        else:
            sample, quantile, width = kept.sort().values, (place - below) / inside, 0.02
            bottom, top = low, high


HELD = 4_000_000
"""Number of distances held in memory, 8 bytes each."""


def _sorted_at(values: Tensor, place: int) -> tuple[float, float]:
    """Values at rank ``place`` (from 0) and at the next rank, or the last."""
    places = (place, min(place + 1, len(values) - 1))
    if values.device.type == "cpu":
        # Faster than PyTorch's selection, and finds both ranks in one call.
        found = np.partition(values.numpy(), places)
        return float(found[places[0]]), float(found[places[1]])
    here, following = (float(values.kthvalue(place + 1).values) for place in places)
    return here, following


def _inside(features: Tensor, low: float, high: float) -> tuple[int, int, Tensor]:
    """Count the squared distances below ``low`` and in [low, high]; also return those inside, thinned out if
    there are too many."""
    below, inside, step = 0, 0, 1
    kept: list[Tensor] = []
    for distances in _squared_distances(features):
        below += int((distances < low).sum())
        found = distances[(distances >= low) & (distances <= high)]
        inside += len(found)
        kept.append(found[::step])
        # Over budget: drop every other value, and keep a correspondingly smaller share of those to come.
        if sum(map(len, kept)) > HELD:
            kept, step = [torch.cat(kept)[::2]], 2 * step
    return below, inside, torch.cat(kept)


def _squared_distances(features: Tensor) -> Iterator[Tensor]:
    """Squared distances of all pairs of different samples, in chunks."""
    norms = torch.linalg.vecdot(features, features)
    side = 512
    for top in range(0, len(features), side):
        rows = slice(top, top + side)
        for left in range(top, len(features), side):
            columns = slice(left, left + side)
            sums = norms[rows, None] + norms[columns]
            squared = sums.addmm_(features[rows], features[columns].T, alpha=-2).clamp_min_(0)
            if left == top:
                size = len(squared)
                first, second = torch.triu_indices(size, size, offset=1, device=squared.device)
                squared = squared[first, second]
            yield squared.flatten()
