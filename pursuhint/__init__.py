"""PursuHint: which layers of a trained network should teach, and does it matter?

The parts, in the order in which data flow through them::

    network + data -> collect -> LayerMoments -> LayerSimilarity -> Clustering -> HintPlan
        -> Distiller -> student

Names below are imported on first use, so that ``import pursuhint`` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pursuhint._util.lazy_exports import lazy_exports
from pursuhint._version import __version__

if TYPE_CHECKING:
    from pursuhint.analysis.cross_network import compare_networks
    from pursuhint.analysis.result import Analysis
    from pursuhint.analysis.run_analysis import analyze
    from pursuhint.clustering import Clustering
    from pursuhint.clustering.kmeans import kmeans
    from pursuhint.clustering.segments import segments
    from pursuhint.data import Batch, ImageData, load_dataset, make_loader
    from pursuhint.distillation.distiller import Distiller
    from pursuhint.errors import PursuhintError, PursuhintWarning
    from pursuhint.features.extractor import FeatureExtractor, Features
    from pursuhint.features.hint_points import HintPoint, conventional_points, find_hint_points
    from pursuhint.hints.plan import HintPlan
    from pursuhint.losses import get_loss
    from pursuhint.models import create_model
    from pursuhint.models.checkpoint import load_weights, save_weights
    from pursuhint.report import write_report
    from pursuhint.similarity import LayerMoments, LayerSimilarity, linear_cka, r2cca, r2cca_rank
    from pursuhint.study import compare, crosstask, transfer
    from pursuhint.training import Recipe, RunRecord, evaluate, train

__getattr__, __dir__, __all__ = lazy_exports(__name__, "__version__")
