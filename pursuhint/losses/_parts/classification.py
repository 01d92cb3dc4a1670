"""Decide whether cross-entropy is added to the losses that were asked for, and its weight."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pursuhint.losses.base import Loss

__all__ = ["add_classification"]


def add_classification(
    kinds: Mapping[str, type[Loss]], weights: Mapping[str, float | None]
) -> dict[str, float | None]:
    """Weights by name, with cross-entropy in front where it is missing and its default weight filled in.

    Cross-entropy (``ce``) is added unless it is named or one of the losses contains it. Without a weight of
    its own it gets the smallest weight that the papers of the other losses give it
    (`LossInfo.default_ce_weight`), and 1 when it is alone.

    Args:
        kinds: the classes of the losses by name.
        weights: weights by the same names; None for the default.
    """
    result = dict(weights)
    if not any(kind.info.contains_classification for kind in kinds.values()):
        result = {"ce": None, **result}
    if result.get("ce", 0.0) is None:
        result["ce"] = min(
            (kinds[name].info.default_ce_weight for name in weights if name != "ce"), default=1.0
        )
    return result
