"""The weight of every loss by default, and whether cross-entropy is added to the losses asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pursuhint.losses.base import Loss

__all__ = ["add_classification", "default_weights"]


def add_classification(
    kinds: Mapping[str, Loss | type[Loss]], weights: Mapping[str, float | None]
) -> dict[str, float | None]:
    """Weights by name, with cross-entropy (``ce``) in front unless it is named or a loss contains it.

    Args:
        kinds: the losses by name.
        weights: weights by the same names; None for the default.
    """
    if "ce" in weights or any(kind.info.contains_classification for kind in kinds.values()):
        return dict(weights)
    return {"ce": None, **weights}


def second_view_has_use(kinds: Mapping[str, Loss | type[Loss]]) -> bool:
    """Whether losses look at a second view of each image.

    Cross-entropy looks at it alone, or beside a loss that does.

    Args:
        kinds: the losses by name.
    """
    others = [kind for name, kind in kinds.items() if name != "ce"] or list(kinds.values())
    return any(kind.info.sees_second_view for kind in others)


def default_weights(
    kinds: Mapping[str, Loss | type[Loss]], weights: Mapping[str, float | None]
) -> dict[str, float]:
    """Weights by name, with the papers' in place of None.

    A loss that is alone, or beside cross-entropy only, has its `LossInfo.default_weight`; beside another loss
    with a weight it has its `LossInfo.weight_beside`. Cross-entropy gets the smallest weight that the other
    losses give it (`LossInfo.default_ce_weight`, `LossInfo.ce_weight_beside`), and 1 without any.

    Args:
        kinds: the losses by name.
        weights: weights by name; None for the default.
    """
    others = [name for name, weight in weights.items() if name != "ce" and weight != 0]
    papers = {name: kinds[name].info.papers_weights(alone=len(others) == 1) for name in others}
    result = {}
    for name, weight in weights.items():
        if weight is None and name == "ce":
            weight = min((of_ce for _, of_ce in papers.values()), default=1.0)
        elif weight is None:
            weight = papers[name][0]
        result[name] = weight
    return result
