"""Choose the memory layout of layer statistics by time, within a memory limit."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from pursuhint.errors import PursuhintError
from pursuhint.similarity.accumulators.base import LayerStatistics
from pursuhint.similarity.accumulators.moments import LayerMoments
from pursuhint.similarity.accumulators.pooled_features import PooledFeatures
from pursuhint.similarity.metric import Metric
from pursuhint.similarity.resampling import SHARDS

__all__ = ["StatisticsLayout", "choose_layout", "default_memory_limit"]

LayoutKind = Literal["moments", "rows"]


@dataclass(frozen=True)
class StatisticsLayout:
    """What is kept of the pooled features while a data set streams through a network.

    Attributes:
        kind: ``"moments"`` (`LayerMoments`, memory independent of the number of samples) or ``"rows"``
            (`PooledFeatures`, the features themselves).
        bytes: estimated peak memory of the statistics, including the buffers for reading them.
        samples: expected number of samples; None if unknown.
        products: for moments, the dtype of matrix products within a batch.
    """

    kind: LayoutKind = "moments"
    bytes: int = 0
    samples: int | None = None
    products: torch.dtype = torch.float64

    def start(
        self, widths: Sequence[int], *, names: Sequence[str] | None = None, device: torch.device | str = "cpu"
    ) -> LayerStatistics:
        """Empty statistics with this layout.

        Args:
            widths: number of features of each layer.
            names: layer names for error messages.
            device: where the statistics are kept.
        """
        if self.kind == "rows":
            return PooledFeatures(widths, names=names, capacity=self.samples or 0, device=device)
        return LayerMoments(widths, names=names, products=self.products, device=device)

    def __str__(self) -> str:
        kept = f"the pooled features of {self.samples:,} samples" if self.kind == "rows" else "second moments"
        return f"{kept}, {_size(self.bytes)}"


def choose_layout(
    widths: Sequence[int],
    metrics: Sequence[Metric],
    *,
    samples: int | None = None,
    memory_limit: int | None = None,
    device: torch.device | str = "cpu",
) -> StatisticsLayout:
    """Choose the faster layout, or the one that fits the memory limit.

    A metric that compares pairs of samples (an RBF kernel) needs the features themselves. Otherwise, with P
    the sum of widths: for fewer than P / 2 samples the features are faster (the dual form,
    ``4 * samples * P`` bytes), for more the second moments (``8 * P ** 2`` bytes); docs/analysis.md has the
    measurements. If the faster layout exceeds the limit, the other one is tried.

    Args:
        widths: number of features of each layer.
        metrics: metrics to be computed from the statistics.
        samples: number of samples; None (unknown) rules out keeping features.
        memory_limit: bytes on ``device`` for the statistics and the buffers for reading them; the network
            and its feature maps are not counted. Default: `default_memory_limit`.
        device: where the statistics are kept.

    Raises:
        PursuhintError: no layout fits; the message gives the memory needed and the limit.
    """
    limit = default_memory_limit(device) if memory_limit is None else memory_limit
    if limit < 1:
        raise PursuhintError(f"memory_limit must be a positive number of bytes, got {memory_limit}")
    total = sum(widths)
    # A strip, and a scaled copy of it.
    reading = 2 * 8 * max(widths) * total
    moments = 8 * total**2 + reading
    rows = None if samples is None else _bytes_of_rows(widths, samples)
    kernels = [metric.name for metric in metrics if metric.needs == "rows"]
    if kernels:
        if rows is None or samples is None:
            raise PursuhintError(f"{kernels[0]} needs the number of samples beforehand")
        if rows > limit:
            raise PursuhintError(
                f"{' and '.join(kernels)} must keep the pooled features of all {samples:,} samples to "
                f"compare pairs of them: {_size(rows)}, and the memory limit is {_size(limit)}; "
                f"raise the limit, use about {_samples_within(widths, limit):,} samples, or choose other "
                "metrics, which need no more memory for more samples"
            )
        return StatisticsLayout("rows", rows, samples)
    if rows is not None and samples is not None:
        faster = 2 * samples < total
        if rows <= limit and (faster or moments > limit):
            return StatisticsLayout("rows", rows, samples)
    if moments <= limit:
        single = _slow_in_float64(device) and all(metric.single for metric in metrics)
        return StatisticsLayout(
            "moments", moments, samples, products=torch.float32 if single else torch.float64
        )
    least = moments if rows is None else min(moments, rows)
    raise PursuhintError(
        f"similarities of {len(widths)} layers with {total:,} features in all need {_size(least)}, and the "
        f"memory limit is {_size(limit)}; use fewer layers (--include), pooled narrower, or more memory "
        "(--memory-limit)"
    )


FAST_IN_FLOAT64 = ((6, 0), (7, 0), (8, 0), (9, 0), (10, 0))
"""Compute capabilities of data-centre chips, where float64 runs at half of the speed of float32."""


def default_memory_limit(device: torch.device | str = "cpu") -> int:
    """Half of the memory of the machine, or half of what is free on a CUDA device; in bytes."""
    device = torch.device(device)
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0]) // 2
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, ValueError, OSError):  # not every system can say
        return 4 << 30


def _bytes_of_rows(widths: Sequence[int], samples: int) -> int:
    coordinates = [min(width, samples) for width in widths]
    turned = sum(samples for width in widths if width > samples)
    # What a pass over pairs of samples adds up for each sample and layer, by the part of the other sample.
    sums = 8 * SHARDS * samples * len(widths)
    strips = 2 * 8 * max(coordinates) * sum(coordinates)
    return 4 * samples * sum(widths) + 8 * samples * turned + sums + strips


def _samples_within(widths: Sequence[int], limit: int) -> int:
    """For how many samples the features fit, to two digits; at least 2."""
    low, high = 2, 1 << 60
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _bytes_of_rows(widths, middle) <= limit else (low, middle)
    digit = 10 ** max(0, len(str(low)) - 2)
    return low // digit * digit


def _slow_in_float64(device: torch.device | str) -> bool:
    """Whether float64 runs at a small fraction of the speed of float32, as on graphics cards for displays."""
    device = torch.device(device)
    if device.type != "cuda" or torch.get_float32_matmul_precision() != "highest":
        return False
    return torch.cuda.get_device_capability(device) not in FAST_IN_FLOAT64


def _size(size: int) -> str:
    unit, name = next(unit for unit in UNITS if size >= unit[0] or unit is UNITS[-1])
    return f"{size / unit:,.2f} {name}"


UNITS = ((10**9, "GB"), (10**6, "MB"), (10**3, "KB"))
