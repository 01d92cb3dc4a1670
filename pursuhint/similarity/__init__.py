"""How alike are two layers? Metrics, and the one-pass statistics that they are computed from.

Names are resolved on use, so that listing metrics imports nothing heavy. A metric is one file and one line
of `METRICS`.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pursuhint.tables import lookup, resolve

if TYPE_CHECKING:
    from pursuhint.similarity.cca import r2cca, r2cca_matrix, r2cca_rank, r2cca_rank_matrix
    from pursuhint.similarity.cka import linear_cka, linear_cka_matrix
    from pursuhint.similarity.layers import LayerSimilarity
    from pursuhint.similarity.metric import Metric
    from pursuhint.similarity.moments import LayerMoments

__all__ = [
    "METRICS",
    "LayerMoments",
    "LayerSimilarity",
    "Metric",
    "get_metric",
    "linear_cka",
    "linear_cka_matrix",
    "r2cca",
    "r2cca_matrix",
    "r2cca_rank",
    "r2cca_rank_matrix",
]

METRICS: Mapping[str, str] = MappingProxyType(
    {
        "cka": "pursuhint.similarity.cka:LINEAR_CKA",
        "r2cca": "pursuhint.similarity.cca:R2CCA",
        "r2cca-rank": "pursuhint.similarity.cca:R2CCA_RANK",
    }
)
"""Metric names, as typed on the command line, and where their `Metric` lives."""

_HOMES = MappingProxyType(
    {
        "LayerMoments": "moments",
        "LayerSimilarity": "layers",
        "Metric": "metric",
        "linear_cka": "cka",
        "linear_cka_matrix": "cka",
        "r2cca": "cca",
        "r2cca_matrix": "cca",
        "r2cca_rank": "cca",
        "r2cca_rank_matrix": "cca",
    }
)


def get_metric(name: str) -> Metric:
    """The metric of a given name.

    Raises:
        PursuhintError: there is none; the message suggests the closest name.
    """
    metric: Metric = resolve(lookup("metric", METRICS, name))
    return metric


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
