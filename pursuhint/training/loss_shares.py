"""Which share of the loss each term has: a term with nearly all of it leaves the others without effect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pursuhint._util.text import percent

__all__ = ["DominantTerm", "dominant_term"]

LARGE_SHARE = 0.9
"""A term with more than this share of the loss is named."""


@dataclass(frozen=True)
class DominantTerm:
    """The term that makes up nearly the whole loss.

    Attributes:
        name: of the term.
        share: its weighted value as a fraction of the sum of all weighted values, above `LARGE_SHARE`.
    """

    name: str
    share: float

    def sentence(self) -> str:
        """The finding and what to do, without a full stop."""
        return (
            f"the loss {self.name} makes up {percent(self.share)} of the weighted sum after the first epoch, "
            f"so the other terms hardly count; to give them a say, lower its weight "
            f"(--set losses.{self.name}.weight=...)"
        )


def dominant_term(metrics: Mapping[str, Any], weights: Mapping[str, float | None]) -> DominantTerm | None:
    r"""The term with a share above 90 %, :math:`w_i |L_i| / \sum_j w_j |L_j|`; None if there is none.

    Args:
        metrics: of an epoch, with the unweighted mean of every term as ``train_<term>``.
        weights: weight of every term.
    """
    values = {
        name: weight * abs(metrics[f"train_{name}"])
        for name, weight in weights.items()
        if weight and metrics.get(f"train_{name}") is not None
    }
    total = sum(values.values())
    if len(values) < 2 or not total:
        return None
    name = max(values, key=lambda term: values[term])
    share = values[name] / total
    return DominantTerm(name, share) if share > LARGE_SHARE else None


def dominant_of_run(
    metrics: Sequence[Mapping[str, Any]], weights: Mapping[str, float | None]
) -> DominantTerm | None:
    """`dominant_term` of the first epoch of the main stage; None before it is complete.

    Args:
        metrics: one entry an epoch; warm-ups have another ``stage``.
        weights: weight of every term.
    """
    first = next((line for line in metrics if line.get("stage") == "main"), None)
    return None if first is None else dominant_term(first, weights)
