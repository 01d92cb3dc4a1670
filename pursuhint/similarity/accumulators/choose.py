"""In which form to gather the statistics of layers: by cost, and by how much memory there is."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from pursuhint.errors import PursuhintError
from pursuhint.similarity.accumulators.base import LayerStatistics, StripFunction
from pursuhint.similarity.accumulators.moments import LayerMoments
from pursuhint.similarity.accumulators.multi_pass import MultiPassMoments, passes_within
from pursuhint.similarity.accumulators.pooled_features import PooledFeatures
from pursuhint.similarity.metric import Metric
from pursuhint.similarity.resampling import PARTS

__all__ = ["StatisticsLayout", "choose_layout", "default_memory_limit"]

FormKind = Literal["moments", "rows", "blocks"]


@dataclass(frozen=True)
class StatisticsLayout:
    """How statistics of layers are gathered.

    Attributes:
        kind: ``"moments"`` (`LayerMoments`, memory independent of the number of samples), ``"rows"``
            (`PooledFeatures`, the features themselves) or ``"blocks"`` (`MultiPassMoments`, several passes).
        bytes: about how much memory that takes, with what is needed to read it.
        samples: for how many samples, if that is known.
        functions: for blocks, what the metrics ask of strips.
        groups: for blocks, the layers of each pass.
        products: for moments, the type in which products within a batch are computed.
    """

    kind: FormKind = "moments"
    bytes: int = 0
    samples: int | None = None
    functions: tuple[StripFunction, ...] = ()
    groups: tuple[range, ...] = ()
    products: torch.dtype = torch.float64

    @property
    def passes(self) -> int:
        """How often the data go through the network."""
        return len(self.groups) if self.kind == "blocks" else 1

    def start(
        self, widths: Sequence[int], *, names: Sequence[str] | None = None, device: torch.device | str = "cpu"
    ) -> LayerStatistics:
        """Empty statistics of this form."""
        if self.kind == "rows":
            return PooledFeatures(widths, names=names, capacity=self.samples or 0, device=device)
        if self.kind == "blocks":
            return MultiPassMoments(widths, self.functions, self.groups, names=names, device=device)
        return LayerMoments(widths, names=names, products=self.products, device=device)

    def __str__(self) -> str:
        if self.kind == "rows":
            what = f"the pooled features of {self.samples:,} samples"
        elif self.kind == "blocks":
            what = f"second moments in {self.passes} passes"
        else:
            what = "second moments"
        return f"{what}, {_size(self.bytes)}"


def choose_layout(
    widths: Sequence[int],
    metrics: Sequence[Metric],
    *,
    samples: int | None = None,
    memory_limit: int | None = None,
    device: torch.device | str = "cpu",
) -> StatisticsLayout:
    """Choose the form that takes the least work among those that fit.

    A metric that compares pairs of samples (an RBF kernel) needs the features themselves. Else, with P the
    sum of widths: fewer samples than P favour the features (the dual form, ``4 * samples * P`` bytes), more
    favour second moments (``8 * P ** 2`` bytes). If second moments do not fit, the features may; if neither
    does, second moments are gathered a few strips at a time in several passes over the data.

    Args:
        widths: number of features of each layer.
        metrics: what will be computed.
        samples: how many samples there will be; unknown (None) rules out keeping features.
        memory_limit: bytes for the statistics and for what reading them needs, on ``device``; the network and
            its feature maps are not counted. Default: `default_memory_limit`.
        device: where they will be kept.

    Raises:
        PursuhintError: nothing fits; the message says what would be needed.
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
    if rows is not None and samples is not None and rows <= limit and (samples < total or moments > limit):
        return StatisticsLayout("rows", rows, samples)
    if moments <= limit:
        single = _slow_in_float64(device) and all(metric.single for metric in metrics)
        return StatisticsLayout(
            "moments", moments, samples, products=torch.float32 if single else torch.float64
        )
    groups = passes_within(widths, limit - reading)
    if groups is None:
        least = 8 * sum(width * width for width in widths) + 3 * 8 * max(widths) * total
        passes = f", or {_size(least)} in several passes over the data," if least < moments else ""
        raise PursuhintError(
            f"second moments of {total:,} features take {_size(moments)}{passes} and the memory limit is "
            f"{_size(limit)}; raise the limit or look at fewer layers"
        )
    functions = tuple(dict.fromkeys(function for metric in metrics for function in metric.strips))
    return StatisticsLayout("blocks", limit, samples, functions, groups)


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
    sums = 8 * PARTS * samples * len(widths)
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
