r"""Knowledge quality of a layer, from the features of single images: arXiv 2511.14981.

.. math:: Q = S + \sqrt{I \cdot E}

with separation S, information I and efficiency E of the features of a layer; see `KnowledgeQuality`. As in
the authors' code, cosines are absolute values and every mean over classes counts classes equally. One
departure: the entropy is divided by the logarithm of the mean number of dimensions that it sums over, where
the code divides by log 5 for all data.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from pursuhint.errors import PursuhintError

_VARIANCE = 0.95


@dataclass(frozen=True)
class KnowledgeQuality:
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


def knowledge_quality(features: Tensor, labels: Tensor) -> KnowledgeQuality:
    """Separation, information and efficiency of the features of a layer.

    A class with a single image has no pairs of its own; it counts as another class only.

    Args:
        features: (samples, channels).
        labels: integers, (samples,).

    Raises:
        PursuhintError: there are fewer than two classes with at least two images.
    """
    features = features.double()
    present, own, sizes = labels.unique(return_inverse=True, return_counts=True)
    kept = torch.nonzero(sizes > 1).flatten()
    if len(kept) < 2:
        raise PursuhintError("quality needs at least two classes with two images each; take more (--samples)")
    norms = features.norm(dim=1)
    unit = features / norms.clamp_min(torch.finfo(torch.float64).tiny)[:, None]
    cosines, distances = (unit @ unit.T).abs(), torch.cdist(features, features)
    same = own[:, None] == own
    members = one_hot(own, len(present)).double()[:, kept]  # (samples, classes that count)
    counts = sizes[kept].double()
    sums = members.T @ cosines @ members
    pairs = counts * (counts - 1)
    within = (sums.diagonal() - members.T @ cosines.diagonal()) / pairs
    means = sums / counts[:, None] / counts
    between = (means.sum() - means.trace()) / (len(kept) * (len(kept) - 1))
    others = cosines.masked_fill(~same, torch.inf).fill_diagonal_(torch.inf).amin(1)
    smallest = _smallest(others, own, len(present))[kept]
    nearest = _smallest(distances.masked_fill(same, torch.inf).amin(1), own, len(present))[kept]
    rank = max(int(torch.linalg.matrix_rank(features)), 1)
    norm = float((members.T @ norms / counts).mean())
    relative = 2 * float(nearest.mean()) / norm if norm > 0 else 0.0
    return KnowledgeQuality(
        separation=float(within.mean() - between),
        information=max(1 - float(smallest.mean()), 0.0) * _entropy([features[own == c] for c in kept]),
        efficiency=relative * (len(features) / math.pi) ** (1 / rank),
    )


def _smallest(values: Tensor, classes: Tensor, number: int) -> Tensor:
    """The smallest value of each class."""
    start = torch.full((number,), torch.inf, dtype=values.dtype)
    return start.scatter_reduce(0, classes, values, "amin")


def _entropy(groups: list[Tensor]) -> float:
    """Mean entropy of the classes' spectra of variances, from 0 to 1.

    Each spectrum is cut to the number of dimensions that hold 95 % of the variance, on average over classes.
    """
    spectra = [_spectrum(group) for group in groups]
    dimensions = _mean([1 + (spectrum.cumsum(0) < _VARIANCE - 1e-12).double().sum() for spectrum in spectra])
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


def _mean(values: list[Tensor]) -> float:
    return float(torch.stack(values).mean())
