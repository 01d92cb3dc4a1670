"""Pool feature maps and token sequences to one vector per sample: the representation that metrics compare.

PURSUhInT averages over space; that is the default. A mean hides where a channel is active (``none`` keeps
positions), how strongly (``max``), and what a transformer's classifier reads (``class-token``).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from pursuhint._util.registry import lookup, resolve
from pursuhint.errors import PursuhintError

if TYPE_CHECKING:
    from torch import Tensor

    from pursuhint.features.hint_points import HintPoint

__all__ = ["POOLINGS", "MeanPooling", "Pooling", "get_pooling"]

POOLINGS: Mapping[str, str] = MappingProxyType(
    {
        "mean": "pursuhint.features.pooling:MeanPooling",
        "max": "pursuhint.features.pooling:MaxPooling",
        "class-token": "pursuhint.features.pooling:ClassToken",
        "none": "pursuhint.features.pooling:GridOfPositions",
    }
)
"""Names, as typed on the command line. ``none`` takes the side of its grid after a colon: ``none:4``."""


class Pooling(ABC):
    """Turns features (N, C, H, W), (N, T, C) or (N, C) into a representation (N, width).

    Poolings are plain values: equal if their parameters are, and printed as the name that `get_pooling`
    takes.
    """

    @abstractmethod
    def __call__(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """Pool the features of a batch.

        Args:
            features: (N, C, H, W), (N, tokens, C) or (N, C).
            mask: which tokens are real, bool of shape (N, tokens), as an attention mask says it; the others
                are padding and left out. Used for features with that number of tokens only. None: all are
                real.

        Returns:
            (N, width); see `width`.

        Raises:
            PursuhintError: the number of axes is another, or this pooling does not apply to the features.
        """

    def width(self, channels: int, spatial: Sequence[int]) -> int:
        """Width of the representation.

        Args:
            channels: C.
            spatial: (H, W), (tokens,) or ().
        """
        return channels

    def check(self, points: Iterable[HintPoint]) -> None:  # noqa: B027
        """Check before a long pass that this pooling applies to the features of all points.

        Raises:
            PursuhintError: it does not; the message names the point.
        """


@dataclass(frozen=True)
class MeanPooling(Pooling):
    """The mean over space or tokens (PURSUhInT, section 3.1).

    Half-precision features are averaged in float32 and returned in float32: a mean of many values has more
    significant digits than half precision holds.

    Example:
        >>> import torch
        >>> MeanPooling()(torch.ones(2, 3, 4, 4)).shape
        torch.Size([2, 3])
    """

    def __call__(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        if _axes(features) == 2:
            return features
        from torch import float32  # not needed to list the names

        precision = float32 if features.element_size() < 4 else features.dtype
        real = _real_tokens(features, mask)
        if real is None:
            return features.mean(_space(features), dtype=precision)
        # Zeros in place of padding, which may hold anything, infinities too; then a mean over the real ones.
        total = features.masked_fill(~real, 0).sum(1, dtype=precision)
        return total / real.sum(1).clamp_min(1)

    def __str__(self) -> str:
        return "mean"


@dataclass(frozen=True)
class MaxPooling(Pooling):
    """The maximum of each channel over space or tokens."""

    def __call__(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        if _axes(features) == 2:
            return features
        real = _real_tokens(features, mask)
        if real is not None:
            features = features.masked_fill(~real, float("-inf"))
        return features.amax(_space(features))

    def __str__(self) -> str:
        return "max"


@dataclass(frozen=True)
class ClassToken(Pooling):
    """The first token of a sequence, from which a vision transformer classifies.

    Whether the first token is a class token shows where it is known which patches of the image the tokens are
    (`pursuhint.features.HintPoint`). Otherwise it is none if the number of tokens is a square: the tokens are
    the patches.
    """

    def __call__(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        if _axes(features) != 3:
            raise PursuhintError(
                f"class-token pooling takes sequences (N, tokens, C); found shape {tuple(features.shape)}"
            )
        real = _real_tokens(features, mask)
        if real is not None and not real[:, 0].all():
            raise PursuhintError(
                "class-token pooling takes the first token, which the attention mask calls padding; pad "
                "behind the tokens (padding_side='right'), or use mean pooling"
            )
        return features[:, 0]

    def check(self, points: Iterable[HintPoint]) -> None:
        for point in points:
            if len(point.spatial) != 1:
                kind = "a feature map" if point.spatial else "a vector"
                raise PursuhintError(f"{point} is {kind} and has no class token; use mean pooling")
            tokens = point.spatial[0]
            rows, columns = point.grid or (math.isqrt(tokens), math.isqrt(tokens))
            if tokens > 1 and rows * columns == tokens:
                raise PursuhintError(
                    f"{point} has {tokens} tokens, {rows} x {columns} patches and no class token; "
                    "use mean pooling"
                )

    def __str__(self) -> str:
        return "class-token"


@dataclass(frozen=True)
class GridOfPositions(Pooling):
    """No pooling: the channels of several positions, concatenated.

    Of a map, an evenly spaced grid of ``side`` x ``side`` positions is kept (all positions, if there are no
    more); of a sequence, ``side`` squared evenly spaced tokens. Metrics then also compare where channels are
    active. The representation is up to ``side`` squared times as wide, and the cost of an analysis grows with
    the square of the width.

    Args:
        side: positions along each axis of a map, at least 1.

    Raises:
        PursuhintError: ``side`` is not positive.

    Example:
        >>> import torch
        >>> GridOfPositions(2)(torch.arange(16.0).reshape(1, 1, 4, 4))
        tensor([[ 5.,  7., 13., 15.]])
    """

    side: int = 2

    def __post_init__(self) -> None:
        if self.side < 1:
            raise PursuhintError(f"a grid needs at least one place along each side, got {self.side}")

    def __call__(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        axes = _axes(features)
        if axes == 2:
            return features
        real = _real_tokens(features, mask)
        if real is not None and not real.all():
            raise PursuhintError(
                f"pooling {self} reads evenly spaced tokens, some of which the attention mask calls padding; "
                "use mean pooling"
            )
        if axes == 3:
            return features[:, _spread(features.shape[1], self.side**2)].flatten(1)
        rows, columns = (_spread(size, self.side) for size in features.shape[2:])
        return features[:, :, rows][:, :, :, columns].flatten(1)

    def width(self, channels: int, spatial: Sequence[int]) -> int:
        if len(spatial) == 1:
            return channels * min(self.side**2, spatial[0])
        return channels * math.prod(min(self.side, size) for size in spatial)

    def __str__(self) -> str:
        return f"none:{self.side}"


def get_pooling(name: str) -> Pooling:
    """The pooling of a given name: one of `POOLINGS`, or ``none:4`` for a grid of 4 x 4 places.

    Raises:
        PursuhintError: there is none; the message suggests the closest name.
    """
    base, colon, side = name.partition(":")
    kind = resolve(lookup("pooling", POOLINGS, base))
    if not colon:
        pooling: Pooling = kind()
        return pooling
    if kind is not GridOfPositions or not side.isdecimal():
        raise PursuhintError(
            f"{name!r} is not a pooling: only none takes a number, as in none:4, a grid of 4 x 4 places"
        )
    return GridOfPositions(int(side))


def _axes(features: Tensor) -> int:
    if not 2 <= features.ndim <= 4:
        raise PursuhintError(
            f"features must be (N, C, H, W), (N, tokens, C) or (N, C); found shape {tuple(features.shape)}"
        )
    return features.ndim


def _space(features: Tensor) -> tuple[int, ...]:
    return (2, 3) if features.ndim == 4 else (1,)


def _real_tokens(features: Tensor, mask: Tensor | None) -> Tensor | None:
    """The mask as (N, tokens, 1), if it is one of these features."""
    if mask is None or features.ndim != 3 or mask.shape != features.shape[:2]:
        return None
    return mask.to(features.device).bool()[:, :, None]


def _spread(size: int, count: int) -> list[int]:
    """Centers of ``count`` equal intervals of an axis; all indices, if there are no more than ``count``."""
    return list(range(size)) if size <= count else [(2 * i + 1) * size // (2 * count) for i in range(count)]
