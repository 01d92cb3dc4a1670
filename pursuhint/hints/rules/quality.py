r"""The layer of the highest knowledge quality in each contiguous group: arXiv 2511.14981.

.. math:: Q = S + \sqrt{I \cdot E}

with separation S, information I and efficiency E of the features of a layer; see `Quality`. As in the
authors' code, cosines are absolute values and every mean over classes counts classes equally. One departure:
the entropy is divided by the logarithm of the mean number of dimensions that it sums over, where the code
divides by log 5 for all data.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pursuhint.errors import PursuhintError
from pursuhint.features.hint_points import HintPoint
from pursuhint.hints.rules.best_of_segments import best_of_segments
from pursuhint.hints.rules.features import pooled_features
from pursuhint.hints.rules.source import RuleSource

_VARIANCE = 0.95


def choose(source: RuleSource) -> list[HintPoint]:
    """The layer of each segment of the similarity with the highest quality."""
    rows, labels = pooled_features(source, "quality")
    return best_of_segments(source, "quality", [quality(features, labels).quality for features in rows])


@dataclass(frozen=True)
class Quality:
    """Knowledge quality of a layer.

    Attributes:
        separation: S, mean cosine within a class minus mean cosine between classes.
        information: I, one minus the smallest cosine within a class, times the entropy of the class's
            spectrum.
        efficiency: E, twice the distance to the nearest image of another class relative to the norm, times
            (samples / pi) ** (1 / rank).
    """

    separation: float
    information: float
    efficiency: float

    @property
    def quality(self) -> float:
        """Q."""
        return self.separation + math.sqrt(self.information * self.efficiency)


def quality(features: Tensor, labels: Tensor) -> Quality:
    """Separation, information and efficiency of the features of a layer.

    Args:
        features: (samples, channels).
        labels: (samples,).

    Raises:
        PursuhintError: there are fewer than two classes with at least two images.
    """
    features = features.double()
    counts = torch.bincount(labels.long())
    classes = torch.nonzero(counts > 1).flatten().tolist()
    if len(classes) < 2:
        raise PursuhintError("quality needs at least two classes with two images each; take more (--samples)")
    groups = [torch.nonzero(labels == label).flatten() for label in classes]
    norms = features.norm(dim=1)
    unit = features / norms.clamp_min(torch.finfo(torch.float64).tiny)[:, None]
    cosines, distances = (unit @ unit.T).abs(), torch.cdist(features, features)
    within = [_pairs(cosines[group][:, group]) for group in groups]
    between = [cosines[group][:, other].mean() for group in groups for other in groups if other is not group]
    nearest = [distances[group][:, labels != label].min() for group, label in zip(groups, classes)]
    separation = _mean([pairs.mean() for pairs in within]) - _mean(between)
    spread = 1 - _mean([pairs.min() for pairs in within])
    rank = max(int(torch.linalg.matrix_rank(features)), 1)
    norm = _mean([norms[group].mean() for group in groups])
    relative = 2 * _mean(nearest) / norm if norm > 0 else 0.0
    return Quality(
        separation=separation,
        information=max(spread, 0.0) * _entropy([features[group] for group in groups]),
        efficiency=relative * (len(features) / math.pi) ** (1 / rank),
    )


def _entropy(groups: list[Tensor]) -> float:
    """Mean entropy of the classes' spectra of variances, from 0 to 1.

    Each spectrum is cut to the number of dimensions that hold 95 % of the variance, on average over classes.
    """
    spectra = [_spectrum(group) for group in groups]
    dimensions = _mean([(spectrum.cumsum(0) < _VARIANCE - 1e-12).sum() + 1.0 for spectrum in spectra])
    if dimensions < 2:
        return 0.0
    kept = [spectrum[: int(dimensions)] for spectrum in spectra]
    shares = [spectrum / spectrum.sum() for spectrum in kept]
    return _mean([torch.special.entr(share).sum() for share in shares]) / math.log(dimensions)


def _spectrum(group: Tensor) -> Tensor:
    """Shares of the variance of a class along its principal axes, the largest first."""
    variances = torch.linalg.svdvals(group - group.mean(0)).square()
    total = variances.sum()
    if total > 0:
        return variances / total
    return torch.eye(len(variances), dtype=torch.float64)[0]  # a single point: all in the first one


def _pairs(matrix: Tensor) -> Tensor:
    """The entries above the diagonal."""
    rows, columns = torch.triu_indices(len(matrix), len(matrix), offset=1)
    return matrix[rows, columns]


def _mean(values: list[Tensor]) -> float:
    return float(torch.stack([torch.as_tensor(value, dtype=torch.float64) for value in values]).mean())
