r"""Similarities of all pairs of layers on many subsamples, from the moments of the shards.

A subsample is a union of shards: all but one (the jackknife, for standard errors) or half of them
(half-sampling, for the stability of a selection). Nothing is measured again, because every statistic that the
metrics need is a sum over samples, and so a sum over shards. In steps:

1. **Shard sums.** The pass over the data leaves, for each shard s and about one shift common to all shards:
   the number of samples :math:`n_s`, the sum of the features :math:`a_s^{(i)}` of each layer i, and the
   second moments :math:`A_s^{(ij)} = \sum_{m \in s} z_m^{(i)} z_m^{(j)\top}` of each pair of layers.
2. **Weights.** A table of zeros and ones w, (subsamples, shards), says which shards form each subsample, so
   that :math:`n = w \, n_s`, :math:`a = w \, a_s` and :math:`A = w \, A_s` are matrix products with w.
3. **Centering.** The centered cross-products of a subsample are :math:`C = A - a b^\top / n`, with a and b
   the sums of the two layers. The shift cancels.
4. **CKA** needs only the squared norm of C. Expanded, it is a quadratic form in w whose coefficients are
   inner products of shard sums, computed once for each pair of layers (`linear_cka_on_subsamples`). A
   subsample then costs a few hundred multiplications a pair, whatever the widths.
5. **Debiased CKA** also needs sums over samples of products of squared norms, moved from the shift to the
   mean of the subsample by expanding the squares (`_row_norms`).
6. **R2CCA and Yanai's GCD** need :math:`\lVert W_i C W_j^\top \rVert_F^2` with whitenings W, so C itself is
   formed for every subsample and layer, in batches of subsamples (`shared_variances_on_subsamples`).

The results equal those of the same samples measured anew, up to rounding. `pursuhint.similarity.resample`
draws the subsamples.
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
"""A subsample is treated as full rank if every direction keeps at least this fraction of its standard
deviation in the full data."""

MEMORY_BUDGET = 256 << 20
"""Memory budget in bytes for the temporary matrices of concurrently processed subsamples."""


def linear_cka_on_subsamples(shards: MomentShards, subsamples: Tensor) -> Tensor:
    r"""Linear CKA of all pairs of layers on several subsamples.

    The squared norm of a sum of matrices is a quadratic form in their inner products. These are computed
    once for each pair of layers; every subsample is then a few sums. For two layers, with :math:`A_s` the
    second moment of shard s and :math:`a_s, b_s` the sums of the features of either layer, all about the
    common shift, and s, t, u running over the shards of a subsample of n samples,

    .. math:: \Big\lVert \sum_s A_s - \frac1n a b^\top \Big\rVert_F^2 =
        \sum_{s,t} \langle A_s, A_t \rangle - \frac2n \sum_{s,t,u} a_t^\top A_s b_u
        + \frac{1}{n^2} \lVert a \rVert^2 \lVert b \rVert^2 , \qquad a = \sum_s a_s, \; b = \sum_s b_s .

    Args:
        shards: moments of the shards.
        subsamples: which shards belong to each subsample, (subsamples, shards); at least two samples in each.

    Returns:
        (subsamples, layers, layers), float64, each equal to `linear_cka_matrix` of the subsample.
    """
    terms = _linear_terms(shards, subsamples)
    own = terms.norms.diagonal(dim1=1, dim2=2)
    # The expanded square can round to just below zero; a layer without variance is 0/0, not 0.
    own = torch.where(terms.constant, math.nan, own.clamp_min(0).sqrt())
    return terms.norms / own[:, :, None] / own[:, None, :]


def debiased_cka_on_subsamples(shards: MomentShards, subsamples: Tensor, *, smallest: float) -> Tensor:
    """Debiased linear CKA of all pairs of layers on several subsamples; see `linear_cka_on_subsamples`.

    Args:
        shards: moments of the shards.
        subsamples: which shards belong to each subsample, (subsamples, shards); at least 4 samples in each.
        smallest: an unbiased HSIC of a layer with itself below this fraction of the biased one is NaN.

    Returns:
        (subsamples, layers, layers), float64, each equal to `debiased_cka_matrix` of the subsample.
    """
    terms = _linear_terms(shards, subsamples)
    n = terms.counts[:, None, None]
    # Song's unbiased HSIC without the factor 1 / (n (n - 3)), which cancels in CKA; see `debiased_cka`.
    dependence = (
        terms.norms
        - n / (n - 2) * terms.row_norms
        + terms.spreads[:, :, None] * terms.spreads[:, None, :] / ((n - 1) * (n - 2))
    )
    own = dependence.diagonal(dim1=1, dim2=2)
    own = torch.where((own > smallest) & ~terms.constant, own, math.nan).sqrt()
    return dependence / own[:, :, None] / own[:, None, :]


class _LinearTerms(NamedTuple):
    """Terms of both forms of CKA; the features of each layer are divided by its scale.

    Attributes:
        counts: samples, (subsamples,).
        norms: squared norms of centred cross-products, (subsamples, layers, layers).
        row_norms: sums over samples of products of squared norms, (subsamples, layers, layers).
        spreads: sums over samples of squared norms, (subsamples, layers).
        constant: layers that do not vary beyond rounding, (subsamples, layers), boolean.
    """

    counts: Tensor
    norms: Tensor
    row_norms: Tensor
    spreads: Tensor
    constant: Tensor


def _linear_terms(shards: MomentShards, subsamples: Tensor) -> _LinearTerms:
    terms: _LinearTerms = shards.once(_compute_linear_terms, subsamples)
    return terms


def _compute_linear_terms(shards: MomentShards, subsamples: Tensor) -> _LinearTerms:
    moments, widths = shards.moments, shards.moments.widths
    weights = subsamples.to(moments.device, moments.dtype)
    sums = list(shards.sums())
    strips = [_strips(widths, shard.tensors["second"]) for shard in sums]
    counts = weights @ weights.new_tensor([shard.count for shard in sums])
    # Each layer is divided by the root of its variation: its moments are then about 1, and fourth powers of
    # layers of any magnitude stay inside the range of float64.
    scales = torch.stack([moments.variation(i) for i in range(len(moments))]).sqrt()
    scales = scales.clamp_min(torch.finfo(scales.dtype).tiny)
    totals = torch.stack([shard.tensors["sum"].to(weights) for shard in sums])
    layer_sums = [block / scale for block, scale in zip(totals.split(widths, dim=1), scales)]

    # For each pair of layers (i, j >= i): `products` holds <A_s, A_t>, (shards, shards), and `mixed` holds
    # a_t' A_s b_u, (shards, shards, shards). One strip of second moments (layer i with all deeper layers) is
    # in memory at a time, stacked over the shards.
    products, mixed, diagonals = [], [], []
    for i in range(len(moments)):
        strip = torch.stack([shard[i].to(weights) for shard in strips]) / scales[i]
        # The diagonal of a layer's own block, without its scale: sums of squared features, for `_floors`.
        diagonals.append(strip[:, :, : widths[i]].diagonal(dim1=1, dim2=2) * scales[i])
        against = layer_sums[i] @ strip  # (s, t, columns): a_t' A_s, to be multiplied by each layer's b_u
        pieces = zip(strip.split(widths[i:], dim=2), against.split(widths[i:], dim=2))
        for j, (block, half) in enumerate(pieces, start=i):
            flat = block.flatten(1) / scales[j]
            products.append(flat @ flat.T)
            mixed.append(half @ layer_sums[j].T / scales[j])
    # Sums over the pairs (s, t) and triples (s, t, u) of a subsample's shards are matrix products with the
    # outer products of its weights.
    pairs = (weights[:, :, None] * weights[:, None, :]).flatten(1)
    triples = (pairs[:, :, None] * weights[:, None, :]).flatten(1)
    inner = _symmetric(pairs @ torch.stack(products).flatten(1).T, len(moments))
    cubic = _symmetric(triples @ torch.stack(mixed).flatten(1).T, len(moments))
    squares = torch.stack([(weights @ layer).square().sum(1) for layer in layer_sums], dim=1)
    n = counts[:, None, None]
    # The formula of `linear_cka_on_subsamples`, term by term.
    norms = inner - 2 / n * cubic + squares[:, :, None] * squares[:, None, :] / n**2

    diagonal = weights @ torch.cat(diagonals, dim=1)
    # The trace of the centered scatter: trace of the second moment about the shift, minus |a|^2 / n.
    spreads = torch.stack([layer.sum(1) for layer in diagonal.split(widths, dim=1)], dim=1)
    spreads = spreads / scales.square() - squares / counts[:, None]
    # `norms` are of scaled features; times the squared scale they compare with the floor of the features.
    own = norms.diagonal(dim1=1, dim2=2).clamp_min(0).sqrt()
    floors = _floors(shards, counts, weights @ totals, diagonal)
    return _LinearTerms(
        counts,
        norms,
        _row_norms(shards, weights, scales, layer_sums, cubic),
        spreads,
        own * scales.square() <= floors,
    )


def _row_norms(
    shards: MomentShards, weights: Tensor, scales: Tensor, layer_sums: list[Tensor], cubic: Tensor
) -> Tensor:
    r"""Sums over samples of the products of two layers' squared centered norms, (subsamples, layers, layers).

    About the mean of n samples whose sum is a, a squared norm is :math:`\lvert z \rvert^2 - \frac2n a^\top z
    + \frac{1}{n^2} \lvert a \rvert^2`. The product of this for two layers has nine terms; each is a sum that
    the shards hold, or the cubic term of CKA.
    """
    sums = list(shards.sums())
    widths = shards.moments.widths
    counts = weights @ weights.new_tensor([shard.count for shard in sums])
    n = counts[:, None, None]
    squared = scales.square()

    def added(name: str) -> Tensor:
        return torch.tensordot(weights, torch.stack([shard.tensors[name].to(weights) for shard in sums]), 1)

    norm_norm = added("norm_norm") / squared / squared[:, None]
    norm_sum = added("norm_sum") / squared
    norm_feature = added("norm_feature") / squared[:, None]
    means = [weights @ layer / counts[:, None] for layer in layer_sums]
    # (i, j): sum over samples of |z_i|^2 times the projection of z_j onto the mean in layer j.
    projected = torch.stack(
        [
            (block @ mean[:, :, None]).squeeze(2) / scale
            for block, mean, scale in zip(norm_feature.split(widths, dim=2), means, scales)
        ],
        dim=2,
    )
    # |a|^2 / n^2, the constant term; and the sum over samples of the two other terms, |z|^2 - 2 |a|^2 / n^2.
    constant = torch.stack([mean.square().sum(1) for mean in means], dim=1)
    linear = norm_sum - 2 * counts[:, None] * constant
    outer = linear[:, :, None] * constant[:, None, :]
    return (
        norm_norm
        - 2 * (projected + projected.mT)
        + 4 / n**2 * cubic  # the product of both projections: sum over m of (a' z_m) (b' z_m) is a' A b
        + outer
        + outer.mT
        + n * constant[:, :, None] * constant[:, None, :]
    )


def shared_variances_on_subsamples(shards: MomentShards, subsamples: Tensor) -> tuple[Tensor, Tensor]:
    """Sums of squared canonical correlations of all pairs of layers on several subsamples.

    The sums depend only on the spans of the layers, so any whitening will do. A Cholesky factor of each
    layer's scatter, restricted to the directions that the full data span, replaces an eigendecomposition. The
    rank is the rank of the full data, or the subsample's own where it is smaller.

    Args:
        shards: moments of the shards.
        subsamples: which shards belong to each subsample, (subsamples, shards); at least two samples in each.

    Returns:
        The sums, (subsamples, layers, layers), NaN where a rank is 0; and the ranks, (subsamples, layers).
    """
    result: tuple[Tensor, Tensor] = shards.once(_compute_shared_variances, subsamples)
    return result


def _compute_shared_variances(shards: MomentShards, subsamples: Tensor) -> tuple[Tensor, Tensor]:
    moments, widths = shards.moments, shards.moments.widths
    # A strip of cross-products and the scatter matrices of all layers, for every subsample of a batch.
    largest = max(width * moments.total_width for width in widths)
    largest += sum(width**2 for width in widths)
    chunk_size = max(1, MEMORY_BUDGET // (8 * largest))
    found = [_shared_variances(shards, chunk) for chunk in subsamples.split(chunk_size)]
    shared, ranks = (torch.cat(tensors) for tensors in zip(*found))
    empty = ranks == 0
    return torch.where(empty[:, :, None] | empty[:, None, :], math.nan, shared), ranks


def _shared_variances(shards: MomentShards, subsamples: Tensor) -> tuple[Tensor, Tensor]:
    moments, widths = shards.moments, shards.moments.widths
    sums = list(shards.sums())
    weights = subsamples.to(moments.device, moments.dtype)
    counts = weights @ weights.new_tensor([shard.count for shard in sums])
    totals = weights @ torch.stack([shard.tensors["sum"].to(weights) for shard in sums])

    strips = [_strips(widths, shard.tensors["second"]) for shard in sums]

    def centered(i: int, last: int) -> Tensor:
        """Centered cross-products of layer i with layers i to ``last``, (subsamples, width of i, columns)."""
        rows = moments.blocks[i]
        columns = slice(rows.start, moments.blocks[last].stop)
        width = columns.stop - columns.start
        of_shards = torch.stack([shard[i][:, :width].to(weights) for shard in strips])
        cross = torch.tensordot(weights, of_shards, 1)
        mean = totals[:, columns] / -counts[:, None]
        return cross.baddbmm_(totals[:, rows, None], mean[:, None, :])

    scatters = [centered(i, i) for i in range(len(moments))]
    squares = torch.cat([scatter.diagonal(dim1=1, dim2=2) for scatter in scatters], dim=1)
    floors = _floors(shards, counts, totals, squares + totals.square() / counts[:, None])
    shares = counts / moments.count
    whitenings, ranks = zip(
        *(
            _whitenings(moments.basis(i).whitening, scatter, shares, floors[:, i])
            for i, scatter in enumerate(scatters)
        )
    )
    shared = weights.new_zeros(len(weights), len(moments), len(moments))
    # The canonical correlations of layers i and j are the singular values of W_i C_ij W_j'; their squares sum
    # to its squared Frobenius norm. The factor on the left is applied to the whole strip.
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
    """Whitening of one layer in every subsample, and its rank there.

    Args:
        directions: the whitening for all samples, (width, rank).
        scatters: centered scatter matrices, (subsamples, width, width).
        shares: fraction of all samples in each subsample, (subsamples,).
        floors: largest eigenvalue that rounding explains, (subsamples,).

    Returns:
        Transposed whitenings (subsamples, rank, width), with rows of zeros beyond a subsample's rank; and the
        ranks, (subsamples,).
    """
    rank = directions.shape[1]
    # With D the whitening for all samples and L L' = D' S D, the rows of inv(L) D' are uncorrelated and of
    # unit length in the subsample. D' S D is about the share of the samples times the identity, so it is well
    # conditioned where the subsample spans what all samples span.
    factors, failed = torch.linalg.cholesky_ex(directions.T @ scatters @ directions)
    transposed = directions.T.expand(len(scatters), -1, -1)
    found = torch.linalg.solve_triangular(factors, transposed, upper=False)
    ranks = torch.full_like(shares, rank)
    if rank == 0:
        return found, ranks
    # A diagonal entry of L is a standard deviation in the subsample, relative to all samples, times the root
    # of the share. A small one, or a factorization that failed, means fewer directions: the eigenvalues of
    # the subsample's own scatter decide the rank there.
    safe = factors.diagonal(dim1=1, dim2=2).amin(1) / shares.sqrt() >= SAFE
    for subsample in ((failed > 0) | ~safe).nonzero().flatten().tolist():
        basis = Basis(scatters[subsample], float(floors[subsample]))
        own = min(basis.rank, rank)
        found[subsample] = 0
        found[subsample, :own] = basis.whitening[:, :own].T
        ranks[subsample] = own
    return found, ranks


def _symmetric(upper: Tensor, layers: int) -> Tensor:
    """Matrices (subsamples, layers, layers) from their upper triangles (subsamples, pairs), row after row."""
    first, second = torch.triu_indices(layers, layers, device=upper.device)
    full = upper.new_empty(len(upper), layers, layers)
    full[:, first, second] = upper
    full[:, second, first] = upper
    return full


def _strips(widths: tuple[int, ...], packed: Tensor) -> list[Tensor]:
    """Unpack a second moment: for each layer its rows, from its own columns on (views)."""
    columns = [sum(widths[i:]) for i in range(len(widths))]
    pieces = packed.split([width * length for width, length in zip(widths, columns)])
    return [piece.view(width, length) for piece, width, length in zip(pieces, widths, columns)]


def _floors(shards: MomentShards, counts: Tensor, totals: Tensor, squares: Tensor) -> Tensor:
    """Largest variation of each layer that rounding explains, (subsamples, layers).

    Args:
        shards: source of the shift and of the dtypes of the features.
        counts: number of samples, (subsamples,).
        totals: sums of the features about the shift, (subsamples, P).
        squares: sums of squared features about the shift, (subsamples, P).
    """
    moments = shards.moments
    shift = moments.shift
    assert shift is not None
    # Features round relative to their value, not to their distance from the shift: E[(z + shift)^2].
    mean_squares = (squares + 2 * shift * totals) / counts[:, None] + shift.square()
    floors = [
        [noise_floor(layer, int(count), eps) for layer, eps in zip(row.split(moments.widths), moments.eps)]
        for row, count in zip(mean_squares, counts)
    ]
    # Where the mean of a subsample is far from the common shift, centering subtracts two large numbers and
    # leaves rounding errors of the float64 sums as well.
    far = (totals.square() / counts[:, None]).split(moments.widths, dim=1)
    centring = torch.stack([layer.amax(1) * layer.shape[1] for layer in far], dim=1)
    return squares.new_tensor(floors) + 16 * torch.finfo(squares.dtype).eps * centring
