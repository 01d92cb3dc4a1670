"""Comparison matching, the first stage of REFILLED (Ye, Lu and Zhan, 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from pursuhint._util.distributed import gather
from pursuhint.losses._parts.vectors import unit_length
from pursuhint.losses.base import EmbeddingLoss
from pursuhint.losses.checks import check_choice, check_positive, check_same_batch

Mode = Literal["tuples", "triplets"]
MostNegatives = int | Literal["fewest"] | None

_NOWHERE = -1e9  # in place of minus infinity: its probability is 0, and nothing is infinite minus infinite


@dataclass(frozen=True)
class Comparisons:
    """Samples that are compared with an anchor: one of its class and some of others.

    Attributes:
        anchor: rows of the batch, (comparisons,).
        positive: (comparisons,).
        negative: (comparisons, K), where K is the largest number that any has.
        mask: which negatives there are, (comparisons, K); those come first.
    """

    anchor: Tensor
    positive: Tensor
    negative: Tensor
    mask: Tensor

    def as_triplets(self) -> Comparisons:
        """One comparison for every negative."""
        counts = self.mask.sum(1)
        negative = self.negative[self.mask][:, None]
        return Comparisons(
            self.anchor.repeat_interleave(counts),
            self.positive.repeat_interleave(counts),
            negative,
            torch.ones_like(negative, dtype=torch.bool),
        )

    def members(self) -> Tensor:
        """The positive and the negatives of each, (comparisons, 1 + K)."""
        return torch.cat([self.positive[:, None], self.negative], dim=1)


def pairwise_distances(embedding: Tensor) -> Tensor:
    """Euclidean distances of the directions of embeddings.

    Exact for samples that lie close together: float64 takes differences, float32 inner products in float64.
    The gradient at equal samples is zero.

    Args:
        embedding: (N, D).

    Returns:
        (N, N), in [0, 2].
    """
    directions = unit_length(embedding)
    if directions.dtype == torch.float64 or directions.device.type == "mps":  # which has no float64
        return torch.cdist(directions, directions, compute_mode="donot_use_mm_for_euclid_dist")
    products = directions.double() @ directions.double().T
    lengths = products.diagonal()
    squares = lengths[:, None] + lengths - 2 * products
    apart = squares > 1e-14  # below are rounding errors
    return squares.where(apart, 1.0).sqrt().where(apart, 0.0).to(directions.dtype)


@torch.no_grad()
def semi_hard_comparisons(
    distances: Tensor, labels: Tensor, *, margin: float, max_negatives: MostNegatives = None
) -> Comparisons:
    """Compare every pair of a class with the negatives that are a little farther away.

    Args:
        distances: between all samples, (N, N).
        labels: class numbers, (N,).
        margin: a negative counts if it is farther from the anchor than the positive, by at most this.
        max_negatives: keep at most so many, those nearest to the anchor (ties: the lower row), sorted by
            distance; ``"fewest"`` for as many as every pair of the batch has; None for all, sorted by row.

    Returns:
        The comparisons in the order of anchor and positive; pairs without such a negative are left out.
    """
    same = labels[:, None] == labels
    anchor, positive = (same & ~torch.eye(len(labels), dtype=torch.bool, device=same.device)).nonzero(
        as_tuple=True
    )
    excess = distances[anchor] - distances[anchor, positive][:, None]
    chosen = ~same[anchor] & (excess > 0) & (excess <= margin)
    some = chosen.any(1)
    anchor, positive, chosen = anchor[some], positive[some], chosen[some]
    counts = chosen.sum(1)
    if max_negatives == "fewest":
        counts = counts.clamp(max=counts.min()) if len(counts) else counts
    elif max_negatives is not None:
        counts = counts.clamp(max=max_negatives)
    width = int(counts.max()) if len(counts) else 0
    mask = torch.arange(width, device=counts.device) < counts[:, None]
    if max_negatives is None:
        negative = torch.zeros_like(mask, dtype=torch.long)
        negative[mask] = chosen.nonzero(as_tuple=True)[1]  # both go row by row
    else:
        order = distances[anchor].masked_fill(~chosen, torch.inf).argsort(dim=1, stable=True)
        negative = order[:, :width].where(mask, 0)
    return Comparisons(anchor, positive, negative, mask)


class ComparisonMatchingLoss(EmbeddingLoss):
    r"""Ask the student to compare samples as the teacher does, which may know other classes.

    Every ordered pair :math:`(i, p)` of samples of one class is compared with samples :math:`k` of other
    classes. With :math:`D` the distances of the directions of embeddings,

    .. math:: L = s \, \mathrm{mean}_{(i, p)} \mathrm{KL}(p^T \,\|\, p^S), \quad
              p = \mathrm{softmax}(-D_{ip} / \tau, -D_{i k_1} / \tau, \dots) .

    The samples :math:`k` are semi-hard in the student's embedding: farther from the anchor than the positive,
    by at most ``margin``. Pairs without one are left out; a batch without any gives zero, so the log has the
    mean number of ``comparisons``. How many there are depends on the embeddings, so finding them makes
    the host of a GPU wait a few times a step. All comparisons weigh the same. Widths may differ. Nothing is
    learned.

    ``k_hat`` limits the number of negatives to :math:`K = \min(K', \hat K)`, as the paper writes; which of
    them stay is not published: here the nearest to the anchor in the student's embedding. The supplement also
    speaks of the smallest number in the batch, ``"fewest"``. The authors' code has no limit, and so has the
    default none. Its other mode, ``"triplets"``, takes every negative alone and, by a slip in an average,
    half the value; the default is ``"tuples"``, which the paper finds better.

    Reference: H.-J. Ye, S. Lu and D.-C. Zhan, Distilling Cross-Task Knowledge via Relationship Matching,
    CVPR 2020; extended in Generalized Knowledge Distillation via Relationship Matching, TPAMI 2023,
    https://arxiv.org/abs/2205.01915.

    Args:
        mode: ``"tuples"`` or ``"triplets"``.
        temperature: :math:`\tau`, above 0.
        margin: how much farther than the positive a negative may be, above 0.
        k_hat: :math:`\hat K`, most negatives in a comparison, at least 1; ``"fewest"`` for as many as every
            comparison of the batch has; None for all.
        scale: :math:`s`, above 0.

    Raises:
        PursuhintError: a value is out of its range.

    Example:
        >>> loss = ComparisonMatchingLoss()
        >>> loss(torch.randn(8, 16), torch.randn(8, 64), torch.arange(8) % 3).shape
        torch.Size([])
    """

    info = EmbeddingLoss.info.replace(
        title="Comparison matching",
        paper="Ye, Lu and Zhan, Distilling Cross-Task Knowledge via Relationship Matching, CVPR 2020",
        batch_coupled=True,
        inputs=(*EmbeddingLoss.info.inputs, "labels"),
    )

    def __init__(
        self,
        *,
        mode: Mode = "tuples",
        temperature: float = 4.0,
        margin: float = 0.2,
        k_hat: MostNegatives = None,
        scale: float = 1000.0,
    ) -> None:
        super().__init__()
        check_choice(Mode, mode=mode)
        check_positive(temperature=temperature, margin=margin, scale=scale)
        if isinstance(k_hat, int):
            check_positive(k_hat=k_hat)
        self.mode = mode
        self.temperature = temperature
        self.margin = margin
        self.k_hat = k_hat
        self.scale = scale

    def forward(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        """Compare the embeddings of one batch.

        Args:
            student: (N, D_s).
            teacher: (N, D_t).
            labels: class numbers of the student's task, (N,).

        Returns:
            Scalar, at least 0; zero when both networks give equal comparisons.

        Raises:
            PursuhintError: the batch sizes differ.
        """
        check_same_batch(student, teacher)
        own, other = pairwise_distances(gather(student)), pairwise_distances(gather(teacher))
        chosen = self.comparisons(own, gather(labels))
        self.extra_metrics = {"comparisons": own.new_tensor(float(len(chosen.anchor)))}
        if not len(chosen.anchor):
            return 0.0 * own.sum()
        rows, absent = chosen.anchor[:, None], F.pad(~chosen.mask, (1, 0), value=False)
        members = chosen.members()
        log_s, log_t = (
            (distances[rows, members] / -self.temperature).masked_fill(absent, _NOWHERE).log_softmax(1)
            for distances in (own, other)
        )
        divergence = F.kl_div(log_s, log_t, reduction="batchmean", log_target=True)
        share = 0.5 if self.mode == "triplets" else 1.0
        return share * self.scale * divergence

    def comparisons(self, distances: Tensor, labels: Tensor) -> Comparisons:
        """What is compared with what in a batch.

        Args:
            distances: of the student's embeddings, see `pairwise_distances`.
            labels: (N,).
        """
        chosen = semi_hard_comparisons(
            distances.detach(), labels, margin=self.margin, max_negatives=self.k_hat
        )
        return chosen.as_triplets() if self.mode == "triplets" else chosen
