"""Similarities on many unions of parts of the samples at once, from the moments of the parts.

What `pursuhint.similarity.resampling` uses for the metrics that are sums of squares: linear CKA in both
forms, and the sums of squared canonical correlations that R2CCA and Yanai's GCD are made of.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from pursuhint.similarity.accumulators.base import Basis
from pursuhint.similarity.accumulators.shards import MomentShards
from pursuhint.similarity.checks import noise_floor

SAFE = 1e-3
"""A union reaches the rank of all samples where no direction has less than this share of the spread that the
whole has in it (as a ratio of standard deviations)."""

ROOM = 256 << 20
"""Bytes that temporary matrices of several unions may take together."""


def linear_cka_on_subsamples(parts: MomentShards, subsamples: Tensor) -> Tensor:
    r"""Linear CKA of all pairs of layers on several unions of parts of the samples.

    The squared norm of a sum of matrices is a quadratic form of their inner products. These are computed
    once for each pair of layers; every union is then a few sums. For two layers, with :math:`A_s` the second
    moment of part s and :math:`a_s, b_s` the sums of the features of either layer, all about the common
    shift, and s, t, u running over the parts of a union of n samples,

    .. math:: \Big\lVert \sum_s A_s - \frac1n a b^\top \Big\rVert_F^2 =
        \sum_{s,t} \langle A_s, A_t \rangle - \frac2n \sum_{s,t,u} a_t^\top A_s b_u
        + \frac{1}{n^2} \lVert a \rVert^2 \lVert b \rVert^2 , \qquad a = \sum_s a_s, \; b = \sum_s b_s .

    Args:
        parts: moments of the parts.
        subsamples: which parts belong to each union, (unions, parts); at least two samples in each.

    Returns:
        (unions, layers, layers), float64, each as `pursuhint.similarity.linear_cka_matrix` of the union.
    """
    terms = _linear_terms(parts, subsamples)
    own = terms.norms.diagonal(dim1=1, dim2=2)
    own = torch.where(terms.constant, math.nan, own.clamp_min(0).sqrt())
    return terms.norms / own[:, :, None] / own[:, None, :]


def debiased_cka_on_subsamples(parts: MomentShards, subsamples: Tensor, *, smallest: float) -> Tensor:
    """Debiased linear CKA of all pairs of layers on several unions of parts; see `linear_cka_on_subsamples`.

    Args:
        parts: moments of the parts.
        subsamples: which parts belong to each union, (unions, parts); at least four samples in each.
        smallest: an unbiased HSIC of a layer with itself below this fraction of the biased one is NaN.

    Returns:
        (unions, layers, layers), float64, each as `pursuhint.similarity.debiased_cka_matrix` of the
        union.
    """
    terms = _linear_terms(parts, subsamples)
    n = terms.counts[:, None, None]
    dependence = (
        terms.norms
        - n / (n - 2) * terms.row_norms
        + terms.spreads[:, :, None] * terms.spreads[:, None, :] / ((n - 1) * (n - 2))
    )
    own = dependence.diagonal(dim1=1, dim2=2)
    own = torch.where((own > smallest) & ~terms.constant, own, math.nan).sqrt()
    return dependence / own[:, :, None] / own[:, None, :]


class _LinearTerms(NamedTuple):
    """What both forms of CKA are made of; the features of each layer are divided by ``scales``.

    Attributes:
        counts: samples, (unions,).
        norms: squared norms of centred cross-products, (unions, layers, layers).
        row_norms: sums over samples of products of squared norms, (unions, layers, layers).
        spreads: sums over samples of squared norms, (unions, layers).
        constant: which layers do not vary beyond rounding, (unions, layers).
    """

    counts: Tensor
    norms: Tensor
    row_norms: Tensor
    spreads: Tensor
    constant: Tensor


def _linear_terms(parts: MomentShards, subsamples: Tensor) -> _LinearTerms:
    terms: _LinearTerms = parts.once(_compute_linear_terms, subsamples)
    return terms


def _compute_linear_terms(parts: MomentShards, subsamples: Tensor) -> _LinearTerms:
    moments, widths = parts.moments, parts.moments.widths
    weights = subsamples.to(moments.device, moments.dtype)
    sums = list(parts.parts())
    strips = [_strips(widths, part.tensors["second"]) for part in sums]
    counts = weights @ weights.new_tensor([part.count for part in sums])
    # Scaled by how much each layer varies, so that layers of any magnitude can be squared.
    scales = torch.stack([moments.variation(i) for i in range(len(moments))]).sqrt()
    scales = scales.clamp_min(torch.finfo(scales.dtype).tiny)
    totals = torch.stack([part.tensors["sum"].to(weights) for part in sums])
    layer_sums = [block / scale for block, scale in zip(totals.split(widths, dim=1), scales)]

    products, mixed, diagonals = [], [], []
    for i in range(len(moments)):
        strip = torch.stack([part[i].to(weights) for part in strips]) / scales[i]
        diagonals.append(strip[:, :, : widths[i]].diagonal(dim1=1, dim2=2) * scales[i])
        against = layer_sums[i] @ strip  # (s, t, columns): sums of part t against the moments of part s
        pieces = zip(strip.split(widths[i:], dim=2), against.split(widths[i:], dim=2))
        for j, (block, half) in enumerate(pieces, start=i):
            flat = block.flatten(1) / scales[j]
            products.append(flat @ flat.T)
            mixed.append(half @ layer_sums[j].T / scales[j])
    pairs = (weights[:, :, None] * weights[:, None, :]).flatten(1)
    triples = (pairs[:, :, None] * weights[:, None, :]).flatten(1)
    inner = _symmetric(pairs @ torch.stack(products).flatten(1).T, len(moments))
    cubic = _symmetric(triples @ torch.stack(mixed).flatten(1).T, len(moments))
    squares = torch.stack([(weights @ layer).square().sum(1) for layer in layer_sums], dim=1)
    n = counts[:, None, None]
    norms = inner - 2 / n * cubic + squares[:, :, None] * squares[:, None, :] / n**2

    diagonal = weights @ torch.cat(diagonals, dim=1)
    spreads = torch.stack([layer.sum(1) for layer in diagonal.split(widths, dim=1)], dim=1)
    spreads = spreads / scales.square() - squares / counts[:, None]
    own = norms.diagonal(dim1=1, dim2=2).clamp_min(0).sqrt()
    floors = _floors(parts, counts, weights @ totals, diagonal)
    return _LinearTerms(
        counts,
        norms,
        _row_norms(parts, weights, scales, layer_sums, cubic),
        spreads,
        own * scales.square() <= floors,
    )


def _row_norms(
    parts: MomentShards, weights: Tensor, scales: Tensor, layer_sums: list[Tensor], cubic: Tensor
) -> Tensor:
    r"""Sums over samples of the products of two layers' squared centred norms, (unions, layers, layers).

    About the mean of n samples whose sum is a, a squared norm is :math:`\lvert z \rvert^2 - \frac2n a^\top z
    + \frac{1}{n^2} \lvert a \rvert^2`; the product of two such is multiplied out.
    """
    sums = list(parts.parts())
    widths = parts.moments.widths
    counts = weights @ weights.new_tensor([part.count for part in sums])
    n = counts[:, None, None]
    squared = scales.square()

    def added(name: str) -> Tensor:
        return torch.tensordot(weights, torch.stack([part.tensors[name].to(weights) for part in sums]), 1)

    norm_norm = added("norm_norm") / squared / squared[:, None]
    norm_sum = added("norm_sum") / squared
    norm_feature = added("norm_feature") / squared[:, None]
    means = [weights @ layer / counts[:, None] for layer in layer_sums]
    # (i, j): squared norm in layer i times the projection on the mean in layer j.
    projected = torch.stack(
        [
            (block @ mean[:, :, None]).squeeze(2) / scale
            for block, mean, scale in zip(norm_feature.split(widths, dim=2), means, scales)
        ],
        dim=2,
    )
    constant = torch.stack([mean.square().sum(1) for mean in means], dim=1)
    linear = norm_sum - 2 * counts[:, None] * constant
    outer = linear[:, :, None] * constant[:, None, :]
    return (
        norm_norm
        - 2 * (projected + projected.mT)
        + 4 / n**2 * cubic
        + outer
        + outer.mT
        + n * constant[:, :, None] * constant[:, None, :]
    )


def shared_variances_on_subsamples(parts: MomentShards, subsamples: Tensor) -> tuple[Tensor, Tensor]:
    """Sums of squared canonical correlations of all pairs of layers on several unions of parts.

    These see only what layers span and take any basis of it. So for each layer a Cholesky factor of the
    union's scatter, in the directions that all samples span, replaces an eigendecomposition. The rank is that
    of all samples; where a union does not reach it, its own rank counts.

    Args:
        parts: moments of the parts.
        subsamples: which parts belong to each union, (unions, parts); at least two samples in each.

    Returns:
        The sums, (unions, layers, layers), NaN where a rank is 0; and the ranks, (unions, layers).
    """
    result: tuple[Tensor, Tensor] = parts.once(_compute_shared_variances, subsamples)
    return result


def _compute_shared_variances(parts: MomentShards, subsamples: Tensor) -> tuple[Tensor, Tensor]:
    moments, widths = parts.moments, parts.moments.widths
    largest = max(width * moments.total_width for width in widths)
    largest += sum(width**2 for width in widths)
    at_once = max(1, ROOM // (8 * largest))
    found = [_shared_variances(parts, chunk) for chunk in subsamples.split(at_once)]
    shared, ranks = (torch.cat(tensors) for tensors in zip(*found))
    empty = ranks == 0
    return torch.where(empty[:, :, None] | empty[:, None, :], math.nan, shared), ranks


def _shared_variances(parts: MomentShards, subsamples: Tensor) -> tuple[Tensor, Tensor]:
    moments, widths = parts.moments, parts.moments.widths
    sums = list(parts.parts())
    weights = subsamples.to(moments.device, moments.dtype)
    counts = weights @ weights.new_tensor([part.count for part in sums])
    totals = weights @ torch.stack([part.tensors["sum"].to(weights) for part in sums])

    strips = [_strips(widths, part.tensors["second"]) for part in sums]

    def centered(i: int, last: int) -> Tensor:
        """Cross-products of layer i with layers i to last in every union."""
        rows = moments.blocks[i]
        columns = slice(rows.start, moments.blocks[last].stop)
        width = columns.stop - columns.start
        of_parts = torch.stack([part[i][:, :width].to(weights) for part in strips])
        cross = torch.tensordot(weights, of_parts, 1)
        mean = totals[:, columns] / -counts[:, None]
        return cross.baddbmm_(totals[:, rows, None], mean[:, None, :])

    scatters = [centered(i, i) for i in range(len(moments))]
    squares = torch.cat([scatter.diagonal(dim1=1, dim2=2) for scatter in scatters], dim=1)
    floors = _floors(parts, counts, totals, squares + totals.square() / counts[:, None])
    shares = counts / moments.count
    whitenings, ranks = zip(
        *(
            _whitenings(moments.basis(i).whitening, scatter, shares, floors[:, i])
            for i, scatter in enumerate(scatters)
        )
    )
    shared = weights.new_zeros(len(weights), len(moments), len(moments))
    for i in range(len(moments)):
        half = whitenings[i] @ centered(i, len(moments) - 1)
        for j, block in enumerate(half.split(widths[i:], dim=2), start=i):
            values = (block @ whitenings[j].mT).square_().sum((1, 2))
            shared[:, i, j] = values
            shared[:, j, i] = values
    return shared, torch.stack(ranks, dim=1)


def _whitenings(
    directions: Tensor, scatters: Tensor, shares: Tensor, floors: Tensor
) -> tuple[Tensor, Tensor]:
    """What makes a layer's features uncorrelated in every union, and how many directions there are.

    Args:
        directions: the whitening for all samples, (width, rank).
        scatters: (unions, width, width).
        shares: of the samples, (unions,).
        floors: largest eigenvalues that rounding explains, (unions,).

    Returns:
        Transposed whitenings (unions, rank, width), which end in zeros where there are fewer directions;
        and the ranks, (unions,).
    """
    rank = directions.shape[1]
    factors, failed = torch.linalg.cholesky_ex(directions.T @ scatters @ directions)
    transposed = directions.T.expand(len(scatters), -1, -1)
    found = torch.linalg.solve_triangular(factors, transposed, upper=False)
    ranks = torch.full_like(shares, rank)
    if rank == 0:
        return found, ranks
    safe = factors.diagonal(dim1=1, dim2=2).amin(1) / shares.sqrt() >= SAFE
    for union in ((failed > 0) | ~safe).nonzero().flatten().tolist():
        basis = Basis(scatters[union], float(floors[union]))
        own = min(basis.rank, rank)
        found[union] = 0
        found[union, :own] = basis.whitening[:, :own].T
        ranks[union] = own
    return found, ranks


def _symmetric(upper: Tensor, layers: int) -> Tensor:
    """Matrices (unions, layers, layers) from their upper triangles (unions, pairs), row after row."""
    first, second = torch.triu_indices(layers, layers, device=upper.device)
    full = upper.new_empty(len(upper), layers, layers)
    full[:, first, second] = upper
    full[:, second, first] = upper
    return full


def _strips(widths: tuple[int, ...], packed: Tensor) -> list[Tensor]:
    """Of a packed second moment, each layer's rows from its own columns on."""
    columns = [sum(widths[i:]) for i in range(len(widths))]
    pieces = packed.split([width * length for width, length in zip(widths, columns)])
    return [piece.view(width, length) for piece, width, length in zip(pieces, widths, columns)]


def _floors(parts: MomentShards, counts: Tensor, totals: Tensor, squares: Tensor) -> Tensor:
    """Largest variation of each layer that rounding explains, (unions, layers).

    Args:
        parts: for the shift and the types of the features.
        counts: samples, (unions,).
        totals: sums of the features about the shift, (unions, P).
        squares: sums of their squares about the shift, (unions, P).
    """
    moments = parts.moments
    shift = moments.shift
    assert shift is not None
    mean_squares = (squares + 2 * shift * totals) / counts[:, None] + shift.square()
    floors = [
        [noise_floor(layer, int(count), eps) for layer, eps in zip(row.split(moments.widths), moments.eps)]
        for row, count in zip(mean_squares, counts)
    ]
    # Where a union is far from the common shift, centring it leaves rounding errors of the sums as well.
    far = (totals.square() / counts[:, None]).split(moments.widths, dim=1)
    centring = torch.stack([layer.amax(1) * layer.shape[1] for layer in far], dim=1)
    return squares.new_tensor(floors) + 16 * torch.finfo(squares.dtype).eps * centring
