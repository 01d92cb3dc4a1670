"""From a network and data to a hint plan: one pass, similarities, clusterings, positions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pursuhint._util.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from pursuhint.analysis.auto_samples import AutoSamples, AutoSampling, Look
    from pursuhint.analysis.by_rule import TrainingImages, plan_by_rule
    from pursuhint.analysis.cross_network import compare_networks
    from pursuhint.analysis.findings import (
        AnalysisSeconds,
        AnalyzedLayers,
        ChoiceRobustness,
        ClassCurves,
        LayerClusters,
        RidgeChoices,
    )
    from pursuhint.analysis.provenance import Provenance
    from pursuhint.analysis.result import Analysis
    from pursuhint.analysis.run_analysis import analyze
    from pursuhint.analysis.sample_size import TooFewSamples
    from pursuhint.analysis.selector import HintSelector
    from pursuhint.analysis.storage import StoredAnalysis
    from pursuhint.analysis.ways import BetterPartition, ChoiceAgreement, Way

__getattr__, __dir__, __all__ = lazy_exports(__name__)
