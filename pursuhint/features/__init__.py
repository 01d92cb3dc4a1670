"""Hint points of a network, and extraction of their features."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pursuhint._util.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from pursuhint.features.call_trace import Call, evaluating, first_tensor, trace_calls
    from pursuhint.features.embedding import find_classifier
    from pursuhint.features.extractor import FeatureExtractor, Features
    from pursuhint.features.feature_norm import find_norm
    from pursuhint.features.head import Head, find_head, find_last_map
    from pursuhint.features.hint_points import (
        Activation,
        HintPoint,
        conventional_points,
        find_hint_points,
        number_of_stages,
        resolve_point,
        stage_ends,
    )
    from pursuhint.features.pooling import POOLINGS, MeanPooling, Pooling, get_pooling
    from pursuhint.features.tap import Tap

__getattr__, __dir__, __all__ = lazy_exports(__name__)
