"""PursuHint: which layers of a trained network should teach, and does it matter?

The parts, in the order in which data flow through them::

    network + data -> collect -> LayerMoments -> LayerSimilarity -> Clustering -> HintPlan
        -> Distiller -> student

Names below are imported on first use, so that ``import pursuhint`` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from pursuhint.analysis.cross_network import compare_networks
    from pursuhint.analysis.run_analysis import Analysis, analyze
    from pursuhint.clustering import Clustering
    from pursuhint.clustering.kmeans import kmeans
    from pursuhint.clustering.segments import segments
    from pursuhint.data import Batch, ImageData, load_dataset, make_loader
    from pursuhint.distillation.distiller import Distiller
    from pursuhint.errors import PursuhintError
    from pursuhint.features.extractor import Probe, Trace
    from pursuhint.features.hint_points import HintPoint, conventional_points, find_hint_points
    from pursuhint.hints.plan import HintPlan
    from pursuhint.losses import get_loss
    from pursuhint.models import create_model
    from pursuhint.models.checkpoint import load_weights, save_weights
    from pursuhint.report import write_report
    from pursuhint.similarity import LayerMoments, LayerSimilarity, linear_cka, r2cca, r2cca_rank
    from pursuhint.study import compare
    from pursuhint.training import Recipe, RunRecord, evaluate, train

__all__ = [
    "Analysis",
    "Batch",
    "Clustering",
    "Distiller",
    "HintPlan",
    "HintPoint",
    "ImageData",
    "LayerMoments",
    "LayerSimilarity",
    "Probe",
    "PursuhintError",
    "Recipe",
    "RunRecord",
    "Trace",
    "__version__",
    "analyze",
    "compare",
    "compare_networks",
    "conventional_points",
    "create_model",
    "evaluate",
    "find_hint_points",
    "get_loss",
    "kmeans",
    "linear_cka",
    "load_dataset",
    "load_weights",
    "make_loader",
    "r2cca",
    "r2cca_rank",
    "save_weights",
    "segments",
    "train",
    "write_report",
]

_HOMES = {
    "analysis.run_analysis": "Analysis analyze",
    "analysis.cross_network": "compare_networks",
    "clustering": "Clustering",
    "clustering.kmeans": "kmeans",
    "clustering.segments": "segments",
    "data": "Batch ImageData load_dataset make_loader",
    "distillation.distiller": "Distiller",
    "errors": "PursuhintError",
    "hints.plan": "HintPlan",
    "losses": "get_loss",
    "models": "create_model",
    "models.checkpoint": "load_weights save_weights",
    "features.hint_points": "HintPoint conventional_points find_hint_points",
    "features.extractor": "Probe Trace",
    "report": "write_report",
    "similarity": "LayerMoments LayerSimilarity linear_cka r2cca r2cca_rank",
    "study": "compare",
    "training": "Recipe RunRecord evaluate train",
}
_HOME = {name: module for module, names in _HOMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pursuhint._util.registry import resolve

    value = globals()[name] = resolve(f"{__name__}.{_HOME[name]}:{name}")
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
