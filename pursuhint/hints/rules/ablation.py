"""The layers whose removal changes the embedding most: arXiv 2405.17081.

The importance of a block is 1 - linear CKA of the embedding (the input of the classifier) with and without
the block, which is replaced by the identity. A block that changes the shape of its input cannot be removed
and is no candidate, so the rule suits residual networks and transformers.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from pursuhint._util.wrappers import original_modules
from pursuhint.errors import PursuhintError
from pursuhint.features.extractor import FeatureExtractor
from pursuhint.features.hint_points import HintPoint
from pursuhint.hints.rules.source import RuleSource


def choose(source: RuleSource) -> list[HintPoint]:
    """The k removable layers of the highest importance, in depth order; the shallower on a tie.

    Raises:
        PursuhintError: fewer than k blocks can be removed.
    """
    known = {layer: value for layer, value in enumerate(importances(source)) if value is not None}
    if len(known) < source.k:
        raise PursuhintError(
            f"ablation can remove {len(known)} of the {len(source.points)} blocks, those that keep the shape "
            f"of their input, and {source.k} hint points are asked for; ask for fewer (--k), or take another "
            "rule"
        )
    best = sorted(known, key=lambda layer: -known[layer])[: source.k]
    return [source.points[layer] for layer in sorted(best)]


def importances(source: RuleSource) -> list[float | None]:
    """Importance of every candidate, from 0 to 1; None for a block that changes the shape of its input."""
    teacher, batches = source.network_and_batches("ablation")
    batches = tuple(batches)
    extractor = FeatureExtractor(teacher, logits=False, embedding=True)
    with torch.no_grad():
        whole = _embeddings(extractor, batches)
        with original_modules(teacher) as inner:
            modules = dict(inner.named_modules())
        found: list[float | None] = []
        for point in source.points:
            removed = _Removed(modules[point.module])
            try:
                without = _embeddings(extractor, batches)
            finally:
                removed.restore()
            found.append(1 - _linear_cka(whole, without) if removed.possible else None)
    return found


class _Removed:
    """A block whose output is replaced by its input, where these have one shape."""

    def __init__(self, block: nn.Module) -> None:
        self.possible = True
        self._input: Tensor | None = None
        self._handles = [
            block.register_forward_pre_hook(self._before),
            block.register_forward_hook(self._after),
        ]

    def _before(self, block: nn.Module, arguments: tuple[Any, ...]) -> None:
        first = arguments[0] if arguments else None
        # A copy: blocks that begin with an activation in place overwrite their input.
        self._input = first.clone() if isinstance(first, Tensor) else None

    def _after(self, block: nn.Module, arguments: tuple[Any, ...], output: Any) -> Any:
        first, *rest = output if isinstance(output, tuple) else (output,)
        before = self._input
        if before is None or not isinstance(first, Tensor) or first.shape != before.shape:
            self.possible = False
            return output
        return (before, *rest) if isinstance(output, tuple) else before

    def restore(self) -> None:
        """Put the block back."""
        for handle in self._handles:
            handle.remove()


def _embeddings(extractor: FeatureExtractor, batches: Iterable[Any]) -> Tensor:
    rows = []
    for batch in batches:
        embedding = extractor(batch.images).embedding
        assert embedding is not None
        rows.append(embedding.double().cpu())
    return torch.cat(rows)


def _linear_cka(x: Tensor, y: Tensor) -> float:
    """Linear CKA of features (samples, channels); 0 where one of them does not vary."""
    x, y = x - x.mean(0), y - y.mean(0)
    scale = (x.T @ x).norm() * (y.T @ y).norm()
    return float((x.T @ y).square().sum() / scale) if scale > 0 and scale.isfinite() else 0.0
