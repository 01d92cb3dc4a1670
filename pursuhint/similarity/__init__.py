"""Similarity of layers: metrics, and the one-pass statistics that they are computed from.

Names are resolved on use, so that listing metrics imports nothing heavy. A metric is one file and one line
of `METRICS`.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pursuhint._util.lazy_exports import lazy_exports
from pursuhint._util.registry import load
from pursuhint.errors import PursuhintError

if TYPE_CHECKING:
    from pursuhint.similarity.accumulators.base import LayerStatistics
    from pursuhint.similarity.accumulators.choose import StatisticsLayout, choose_layout, default_memory_limit
    from pursuhint.similarity.accumulators.moments import LayerMoments
    from pursuhint.similarity.accumulators.pooled_features import PooledFeatures
    from pursuhint.similarity.accumulators.shards import MomentShards, RowShards
    from pursuhint.similarity.angular import (
        angular_procrustes_distance,
        angular_procrustes_matrix,
        angular_procrustes_similarity,
    )
    from pursuhint.similarity.archive import read_archive, write_archive
    from pursuhint.similarity.cca import r2cca, r2cca_matrix, r2cca_rank, r2cca_rank_matrix
    from pursuhint.similarity.cka import linear_cka, linear_cka_matrix
    from pursuhint.similarity.debiased import debiased_cka, debiased_cka_matrix
    from pursuhint.similarity.gcd import yanai_gcd, yanai_gcd_matrix
    from pursuhint.similarity.kernel import rbf_cka, rbf_cka_matrix, rbf_cka_pairs, with_exact_median
    from pursuhint.similarity.layer_similarity import LayerSimilarity
    from pursuhint.similarity.linear_regression import linear_r2, linear_r2_matrix
    from pursuhint.similarity.metric import Metric, similarities_between, similarity_matrices
    from pursuhint.similarity.neighbors import mutual_knn, mutual_knn_matrix
    from pursuhint.similarity.network_similarity import NetworkSimilarity
    from pursuhint.similarity.procrustes import procrustes_matrix, procrustes_similarity
    from pursuhint.similarity.projection_weighted import pwcca, pwcca_matrix
    from pursuhint.similarity.resampling import SHARDS, SMALLEST_SHARD, Resampled, resample
    from pursuhint.similarity.ridge import (
        gulp_distance,
        gulp_distances,
        ridge_cca,
        ridge_cca_matrix,
        ridge_cca_sweep,
    )
    from pursuhint.similarity.singular_vectors import svcca, svcca_matrix

__getattr__, __dir__, __all__ = lazy_exports(
    __name__, "METRICS", "NORMALIZED", "check_normalized", "get_metric"
)

METRICS: Mapping[str, str] = MappingProxyType(
    {
        "cka": "pursuhint.similarity.cka:LINEAR_CKA",
        "debiased-cka": "pursuhint.similarity.debiased:DEBIASED_CKA",
        "rbf-cka": "pursuhint.similarity.kernel:RBF_CKA",
        "rbf-cka-pairs": "pursuhint.similarity.kernel:RBF_CKA_PAIRS",
        "r2cca": "pursuhint.similarity.cca:R2CCA",
        "r2cca-rank": "pursuhint.similarity.cca:R2CCA_RANK",
        "gcd": "pursuhint.similarity.gcd:GCD",
        "svcca": "pursuhint.similarity.singular_vectors:SVCCA",
        "pwcca": "pursuhint.similarity.projection_weighted:PWCCA",
        "procrustes": "pursuhint.similarity.procrustes:PROCRUSTES",
        "angular-procrustes": "pursuhint.similarity.angular:ANGULAR_PROCRUSTES",
        "ridge-cca": "pursuhint.similarity.ridge:RIDGE_CCA",
        "linear-r2": "pursuhint.similarity.linear_regression:LINEAR_R2",
        "mutual-knn": "pursuhint.similarity.neighbors:MUTUAL_KNN",
    }
)
"""Metric names, as typed on the command line, and references to their `Metric`."""

NORMALIZED: Mapping[str, str] = MappingProxyType({"r2cca": "r2cca-rank"})
"""Metrics by which a layer's similarity with itself may be below 1, and the form by which it is 1."""


def check_normalized(metrics: Sequence[str]) -> None:
    """Make sure that a metric has a normalised form.

    Raises:
        PursuhintError: none of them has: by all of them a layer has similarity 1 with itself.
    """
    if not NORMALIZED.keys() & set(metrics):
        raise PursuhintError(
            f"normalize (--normalize) has no effect with {', '.join(metrics)}: a layer has similarity 1 with "
            f"itself already; it is for {', '.join(NORMALIZED)}"
        )


def get_metric(name: str) -> Metric:
    """The metric with a given name.

    Args:
        name: in `METRICS`, or registered by another distribution in the entry-point group
            ``pursuhint.metrics``.

    Raises:
        PursuhintError: there is none (the message suggests the closest name), two have it, or another
            distribution registers something that is no `Metric`.
    """
    metric: Metric = load("metric", METRICS, name)
    if name not in METRICS:
        from pursuhint.similarity.metric import Metric as Expected  # imports torch

        if not isinstance(metric, Expected):
            raise PursuhintError(f"metric {name!r} must be a pursuhint.similarity.Metric, got {metric!r}")
    return metric
