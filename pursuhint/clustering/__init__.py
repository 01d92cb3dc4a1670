"""Groups of similar layers, from a precomputed similarity matrix.

An algorithm is a function of a similarity (layers, layers), the number of clusters ``k`` and the keyword
``normalize``, and returns a `Clustering`. Each is one file and one line of `ALGORITHMS`. Names are resolved
on use, so that listing algorithms imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pursuhint._util.lazy_exports import lazy_exports
from pursuhint._util.registry import lookup, resolve
from pursuhint.errors import PursuhintError

if TYPE_CHECKING:
    from pursuhint.clustering.agreement import Agreement, rand_index, rank_correlation
    from pursuhint.clustering.cluster_count import AUTO, ClusteringsOverK, KChoice, choose_k
    from pursuhint.clustering.distances import distances_of, similarity_of
    from pursuhint.clustering.hierarchical import linkage_tree
    from pursuhint.clustering.inertia import (
        Matrix,
        Similarity,
        checked_similarity,
        squared_distances,
        tie_width,
    )
    from pursuhint.clustering.near_optimal import NearOptimal, near_optimal_segments
    from pursuhint.clustering.result import Clustering, check_k
    from pursuhint.clustering.stability import SelectionStability, selection_stability

__getattr__, __dir__, __all__ = lazy_exports(__name__, "ALGORITHMS", "get_algorithm", "installed_algorithms")

ALGORITHMS: Mapping[str, str] = MappingProxyType(
    {
        "kmeans": "pursuhint.clustering.kmeans:kmeans",
        "segments": "pursuhint.clustering.segments:segments",
        "kmedoids": "pursuhint.clustering.kmedoids:kmedoids",
        "hierarchical": "pursuhint.clustering.hierarchical:hierarchical",
    }
)
"""Names of algorithms, as typed on the command line, and the import paths of their functions."""

_EXTRAS = MappingProxyType({"kmedoids": "kmedoids"})  # algorithm -> package of the extra of the same name


def _is_installed(name: str) -> bool:
    return name not in _EXTRAS or find_spec(_EXTRAS[name]) is not None


def installed_algorithms() -> tuple[str, ...]:
    """Names of the algorithms that work here: ``kmedoids`` needs the extra of its name, others nothing."""
    return tuple(name for name in ALGORITHMS if _is_installed(name))


def get_algorithm(name: str) -> Callable[..., Clustering]:
    """Look up a clustering function by name.

    Raises:
        PursuhintError: no algorithm has this name (the message suggests the closest), or it needs a package
            that is not installed.
    """
    lookup("clustering algorithm", ALGORITHMS, name)
    if not _is_installed(name):
        raise PursuhintError(
            f"the clustering algorithm {name!r} needs the package {_EXTRAS[name]}, whose licence is the GPL: "
            f"pip install 'pursuhint[{name}]', or choose one of {', '.join(installed_algorithms())}"
        )
    algorithm: Callable[..., Clustering] = resolve(lookup("clustering algorithm", ALGORITHMS, name))
    return algorithm
