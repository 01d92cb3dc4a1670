"""Comparison matching, the first stage of REFILLED (Ye, Lu and Zhan, 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from pursuhint.losses.base import EmbeddingLoss, check_choice, check_positive, check_same_batch
from pursuhint.losses.processes import gather
from pursuhint.losses.vectors import unit_length

__all__ = ["ComparisonMatchingLoss", "Comparisons", "Mode", "pairwise_distances", "semi_hard_comparisons"]

Mode = Literal["tuples", "triplets"]


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

    Computed from differences, so that they are exact for samples that lie close together; the gradient at
    equal samples is zero.

    Args:
        embedding: (N, D).

    Returns:
        (N, N), in [0, 2].
    """
    directions = unit_length(embedding)
    return torch.cdist(directions, directions, compute_mode="donot_use_mm_for_euclid_dist")


@torch.no_grad()
def semi_hard_comparisons(
    distances: Tensor, labels: Tensor, *, margin: float, max_negatives: int | None = None
) -> Comparisons:
    """Compare every pair of a class with the negatives that are a little farther away.

    Args:
        distances: between all samples, (N, N).
        labels: class numbers, (N,).
        margin: a negative counts if it is farther from the anchor than the positive, by at most this.
        max_negatives: keep at most so many, those nearest to the anchor (ties: the lower row), sorted by
            distance; None for all, sorted by row.

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
    if max_negatives is None:
        order = (~chosen).long().argsort(dim=1, stable=True)
    else:
        order = distances[anchor].masked_fill(~chosen, torch.inf).argsort(dim=1, stable=True)
        counts = counts.clamp(max=max_negatives)
    width = int(counts.max()) if len(counts) else 0
    mask = torch.arange(width, device=counts.device) < counts[:, None]
    return Comparisons(anchor, positive, order[:, :width].where(mask, 0), mask)


class ComparisonMatchingLoss(EmbeddingLoss):
    r"""Ask the student to compare samples as the teacher does, whatever classes the teacher knows.

    Every ordered pair :math:`(i, p)` of samples of one class is compared with samples :math:`k` of other
    classes. With :math:`D` the distances of the directions of embeddings,

    .. math:: L = s \, \mathrm{mean}_{(i, p)} \mathrm{KL}(p^T \,\|\, p^S), \quad
              p = \mathrm{softmax}(-D_{ip} / \tau, -D_{i k_1} / \tau, \dots) .

    The samples :math:`k` are semi-hard in the student's embedding: farther from the anchor than the positive,
    by at most ``margin``. Pairs without one are left out; a batch without any gives zero. All comparisons
    weigh the same. Widths may differ. Nothing is learned.

    ``k_hat`` limits the number of negatives to :math:`K = \min(K', \hat K)`, as the paper writes; which of
    them stay is not published: here the nearest to the anchor in the student's embedding. The authors' code
    has no such limit. Its other mode, ``"triplets"``, takes every negative alone and, by a slip in an
    average, half the value; the default is ``"tuples"``, which the paper finds better.

    Reference: H.-J. Ye, S. Lu and D.-C. Zhan, Distilling Cross-Task Knowledge via Relationship Matching,
    CVPR 2020; extended in Generalized Knowledge Distillation via Relationship Matching, TPAMI 2023,
    https://arxiv.org/abs/2205.01915.

    Args:
        mode: ``"tuples"`` or ``"triplets"``.
        temperature: :math:`\tau`, above 0.
        margin: how much farther than the positive a negative may be, above 0.
        k_hat: :math:`\hat K`, most negatives in a comparison, at least 1; None for all.
        scale: :math:`s`, above 0.

    Raises:
        PursuhintError: a value is out of its range.

    Example:
        >>> loss = ComparisonMatchingLoss()
        >>> loss(torch.randn(8, 16), torch.randn(8, 64), torch.arange(8) % 3).shape
        torch.Size([])
    """

    title = "Comparison matching"
    paper = "Ye, Lu and Zhan, Distilling Cross-Task Knowledge via Relationship Matching, CVPR 2020"
    couples_batch = True
    takes = (*EmbeddingLoss.takes, "labels")

    def __init__(
        self,
        *,
        mode: Mode = "tuples",
        temperature: float = 4.0,
        margin: float = 0.2,
        k_hat: int | None = None,
        scale: float = 1000.0,
    ) -> None:
        super().__init__()
        check_choice(Mode, mode=mode)
        check_positive(temperature=temperature, margin=margin, scale=scale)
        if k_hat is not None:
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
            Scalar, at least 0; zero when both compare alike.

        Raises:
            PursuhintError: the batch sizes differ.
        """
        check_same_batch(student, teacher)
        own, other = pairwise_distances(gather(student)), pairwise_distances(gather(teacher))
        chosen = self.comparisons(own, gather(labels))
        if not len(chosen.anchor):
            return 0.0 * own.sum()
        members, mask = chosen.members(), F.pad(chosen.mask, (1, 0), value=True)
        log_s, log_t = (
            (-distances[chosen.anchor[:, None], members] / self.temperature)
            .masked_fill(~mask, -torch.inf)
            .log_softmax(1)
            .where(mask, 0.0)
            for distances in (own, other)
        )
        divergences = (log_t.exp() * (log_t - log_s)).where(mask, 0.0).sum(1)
        share = 0.5 if self.mode == "triplets" else 1.0
        return share * self.scale * divergences.mean()

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
