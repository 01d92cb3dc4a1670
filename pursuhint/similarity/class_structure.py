r"""What the features of a layer say about the classes, from its scatter matrix and the class means.

With T the covariance of all features (p of them, N samples), B the covariance of the class means, W = T - B,
C classes of shares :math:`\pi_c` and centred class means :math:`\mu_c`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pursuhint.similarity.accumulators.class_sums import ClassSums
from pursuhint.similarity.accumulators.moments import LayerMoments
from pursuhint.similarity.accumulators.pooled_features import PooledFeatures

_SMALL = 1e-10
"""Directions with less than this share of the variance are rounding errors."""


@dataclass(frozen=True)
class ClassStructure:
    """One layer; None where a number is not defined.

    Attributes:
        probe: share of the variance of the one-hot labels that linear least squares on the features explains,
            corrected for their number (adjusted :math:`R^2`), so that unrelated features have 0 on average.
        h_score: :math:`\\mathrm{tr}(T^{-1} B) / (C - 1)`, the share of the variance between classes in
            the whitened features, 0 to 1 (Bao et al., ICIP 2019, divided by its maximum).
        participation: :math:`(\\mathrm{tr}\\,T)^2 / \\lVert T \\rVert_F^2`, how many directions hold the
            variance, 1 to p.
        collapse: :math:`\\mathrm{tr}(W B^{+}) / C`, variability within classes relative to between them; 0
            once every image sits on the mean of its class (NC1 of Papyan, Han and Donoho, PNAS 2020).
    """

    probe: float | None
    h_score: float | None
    participation: float | None
    collapse: float | None


def class_structures(layers: LayerMoments | PooledFeatures, classes: ClassSums) -> list[ClassStructure]:
    """The class structure of every layer.

    Args:
        layers: statistics of all samples.
        classes: sums of the features of the same samples by class.

    Returns:
        One record a layer; empty if fewer than two classes have samples, or some samples have no class.
    """
    there = (classes.counts > 0).cpu()
    if int(there.sum()) < 2 or int(classes.counts.sum()) != layers.count:
        return []
    counts = classes.counts.cpu()[there]
    means = classes.sums.cpu()[there] / counts[:, None]
    return [
        _structure(
            layers.cross(i, i).double().cpu() / layers.count,
            means[:, layers.blocks[i]] - layers.mean(i).double().cpu(),
            counts,
        )
        for i in range(len(layers))
    ]


def _structure(total: Tensor, means: Tensor, counts: Tensor) -> ClassStructure:
    """The class structure from T (p, p), centred class means (C, p) and samples a class (C,)."""
    samples, shares = float(counts.sum()), counts / counts.sum()
    variance = float(total.trace())
    if not variance > 0:
        return ClassStructure(None, None, None, None)
    # A ridge far below the noise of features in place of a pseudoinverse: a Cholesky factor costs a tenth of
    # the eigenvectors of a wide layer.
    ridge = _SMALL * variance * torch.eye(len(total), dtype=total.dtype)
    solved = torch.cholesky_solve(means.T, torch.linalg.cholesky(total + ridge))
    explained = (means * solved.T).sum(1)  # of every class, mu' T^-1 mu
    r2 = float(shares.square() @ explained / (1 - shares.square().sum()))
    width = int((total.diagonal() > _SMALL * total.diagonal().max()).sum())
    free = samples - 1 - width
    return ClassStructure(
        probe=1 - (1 - r2) * (samples - 1) / free if free > 0 else None,
        h_score=float(shares @ explained) / (len(counts) - 1),
        participation=variance**2 / float(total.square().sum()),
        collapse=_collapse(total, means * shares.sqrt()[:, None]),
    )


def _collapse(total: Tensor, weighted: Tensor) -> float | None:
    """tr(W B^+) / C, with B the product of the weighted class means with themselves."""
    _, singular, right = torch.linalg.svd(weighted, full_matrices=False)
    energies = singular.square()
    kept = energies > _SMALL * float(total.trace())
    if not bool(kept.any()):
        return None
    directions = right[kept]
    within = ((directions @ total) * directions).sum(1) - energies[kept]
    return float((within.clamp_min(0) / energies[kept]).sum() / len(weighted))
