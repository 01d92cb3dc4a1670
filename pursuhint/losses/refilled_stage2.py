"""Local knowledge distillation, the second stage of REFILLED (Ye, Lu and Zhan, 2020)."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from pursuhint._util.distributed import gather
from pursuhint.losses._parts.vectors import unit_length
from pursuhint.losses.base import EmbeddingLoss
from pursuhint.losses.checks import check_choice, check_non_negative, check_positive, check_same_batch
from pursuhint.losses.context import LossContext

Centers = Literal["global", "batch"]
Weighting = Literal[
    "teacher_max_prob",
    "teacher_exp_neg_entropy",
    "teacher_relative_confidence",
    "ncm_max_prob",
    "constant",
]


def class_sums(embedding: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Sum of the embeddings of every class, (num_classes, D); zeros for classes without a sample."""
    sums = embedding.new_zeros(num_classes, embedding.shape[1])
    return sums.index_add(0, labels, embedding)


def class_centers(embedding: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Direction of the mean embedding of every class.

    Args:
        embedding: (N, D).
        labels: class numbers, (N,).
        num_classes: number of rows of the result.

    Returns:
        (num_classes, D), rows of unit length; zeros for classes without a sample.
    """
    return unit_length(class_sums(embedding, labels, num_classes))


@torch.no_grad()
def relative_confidence(logits: Tensor, batch: Tensor | None = None) -> Tensor:
    r"""How sure a network is of each sample, compared with the others of its batch.

    With :math:`h_i` the cross-entropy of the logits against the class that they find most probable, scaled
    to :math:`w_i = (h_i - \min h) / (\max h - \min h)`, it is :math:`2 \sigma(-w_i)`: 1 for the surest sample
    of a batch and 0.538 for the least sure one. Samples of equal confidence have 1 each.

    Source: the authors' code of Ye, Lu and Zhan, Generalized Knowledge Distillation via Relationship
    Matching, TPAMI 2023 (njulus/GKD).

    Args:
        logits: (N, classes).
        batch: logits of the whole batch, (M, classes), if ``logits`` are a part of it.

    Returns:
        (N,), in [0.538, 1].
    """
    doubt, others = (
        -values.log_softmax(1).amax(1) for values in (logits, logits if batch is None else batch)
    )
    low, high = others.min(), others.max()
    spread = (high - low).where(high > low, 1.0)
    return 2 * torch.sigmoid((low - doubt) / spread)


class LocalDistillationLoss(EmbeddingLoss):
    r"""Learn to classify from labels and from which class centre the teacher finds nearest.

    The teacher may know other classes. For the classes :math:`Y` of a batch, its embedding :math:`\phi` and
    the centres :math:`c` of the task's classes in it give scores, which the student's logits :math:`z` for
    these classes shall match:

    .. math:: L = \mathrm{CE}(z, y) + \frac{1}{b} \sum_i \lambda_i \,
              \mathrm{KL}\big(\mathrm{softmax}(\phi_i^\top c_Y / \tau) \,\|\, \mathrm{softmax}(z_{iY} /
              \tau)\big) ,

    without the factor :math:`\tau^2`. The classification term is part of it.

    The centres are directions of the mean embedding of a class over the training set (``"global"``). `see`
    adds samples to them; before they have been completed (`complete`) every batch adds its own. The CVPR
    version takes those of the batch (``"batch"``).

    The strength :math:`\lambda_i` of a sample adapts to how well the teacher knows it. ``weighting`` is
    ``"teacher_max_prob"``, :math:`\lambda` times the largest probability among the teacher's own classes
    (default); ``"teacher_exp_neg_entropy"``, :math:`\lambda e^{-H}` with the entropy of the same;
    ``"teacher_relative_confidence"``, see `relative_confidence`, as in the authors' code of the extended
    paper (njulus/GKD); ``"ncm_max_prob"``, the largest of the local probabilities, for teachers without a
    classifier; or ``"constant"``, the authors' code of the conference paper. That code has
    :math:`\lambda = 100`, the one of the extended paper 1, and the study in the supplement finds 2 best and
    little sensitivity.

    Reference: H.-J. Ye, S. Lu and D.-C. Zhan, Distilling Cross-Task Knowledge via Relationship Matching,
    CVPR 2020; extended in Generalized Knowledge Distillation via Relationship Matching, TPAMI 2023,
    https://arxiv.org/abs/2205.01915.

    Args:
        num_classes: classes of the task.
        teacher_embedding: width of the teacher's embedding.
        temperature: :math:`\tau`, above 0.
        strength: :math:`\lambda`, at least 0.
        weighting: one of the five names above.
        centers: ``"global"`` or ``"batch"``.
        student_temperature: :math:`\tau` of the student's logits, above 0, where it differs; the code of the
            extended paper has 1 for both, and its :math:`\tau_2` divides the teacher's scores only.

    Raises:
        PursuhintError: a value is out of its range.

    Example:
        >>> loss = LocalDistillationLoss(10, 64, weighting="constant")
        >>> loss(torch.randn(8, 10), torch.randn(8, 64), torch.arange(8)).shape
        torch.Size([])
    """

    info = EmbeddingLoss.info.replace(
        title="Local distillation",
        paper="Ye, Lu and Zhan, Distilling Cross-Task Knowledge via Relationship Matching, CVPR 2020",
        minimum=None,
        compares="logits",
        batch_coupled=True,
        contains_classification=True,
        inputs=("student_logits", "teacher_embedding", "labels", "teacher_logits"),
    )

    sums: Tensor
    completed: Tensor

    def __init__(
        self,
        num_classes: int,
        teacher_embedding: int,
        *,
        temperature: float = 2.0,
        strength: float = 2.0,
        weighting: Weighting = "teacher_max_prob",
        centers: Centers = "global",
        student_temperature: float | None = None,
    ) -> None:
        super().__init__()
        self.student_temperature = temperature if student_temperature is None else student_temperature
        check_positive(temperature=temperature, student_temperature=self.student_temperature)
        check_choice(Weighting, weighting=weighting)
        check_choice(Centers, centers=centers)
        check_non_negative(strength=strength)
        self.temperature = temperature
        self.strength = strength
        self.weighting = weighting
        self.centers = centers
        self.register_buffer("sums", torch.zeros(num_classes, teacher_embedding))
        self.register_buffer("completed", torch.tensor(False))

    @classmethod
    def arguments(cls, context: LossContext) -> dict[str, Any]:
        """Classes, and the width of the teacher's embedding."""
        return {"num_classes": context.num_classes, "teacher_embedding": context.teacher_embedding}

    def see(self, teacher: Tensor, labels: Tensor) -> None:
        """Add samples of the training set to the class centres, unless these are done.

        Args:
            teacher: the teacher's embedding, (N, D_t).
            labels: class numbers, (N,).
        """
        embedding, classes = gather(teacher.detach()), gather(labels)
        sums = class_sums(embedding.to(self.sums.dtype), classes, len(self.sums))
        self.sums += sums.where(~self.completed, 0.0)

    def complete(self) -> None:
        """The class centres are done: batches do not change them any more."""
        self.completed.fill_(True)

    def terms(
        self, student: Tensor, teacher: Tensor, labels: Tensor, teacher_logits: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The loss of one batch.

        Args:
            student: logits, (N, classes).
            teacher: embedding, (N, D_t).
            labels: class numbers, (N,).
            teacher_logits: for its own classes, (N, classes of the teacher); None if ``weighting`` does not
                look at them.

        Returns:
            The two addends, weighted: ``ce`` and ``local``. Their sum is above 0.

        Raises:
            PursuhintError: the batch sizes differ.
        """
        check_same_batch(student, teacher)
        absent = ~self.present(labels)
        if self.centers == "global":
            self.see(teacher, labels)
        scores = teacher @ self.class_centers(teacher, labels).T / self.temperature
        log_p = scores.masked_fill(absent, -torch.inf).log_softmax(1)
        log_q = (student / self.student_temperature).masked_fill(absent, -torch.inf).log_softmax(1)
        divergences = F.kl_div(
            log_q.masked_fill(absent, 0.0), log_p.masked_fill(absent, 0.0), reduction="none", log_target=True
        ).sum(1)
        weights = self.sample_weights(log_p, teacher_logits)
        return {
            "ce": gather(F.cross_entropy(student, labels, reduction="none")).mean(),
            "local": gather(weights * divergences).mean(),
        }

    def present(self, labels: Tensor) -> Tensor:
        """Which classes a batch has over all ranks, (classes of the task,)."""
        none = torch.zeros(len(self.sums), dtype=torch.bool, device=labels.device)
        return none.index_fill(0, gather(labels), True)

    def class_centers(self, teacher: Tensor, labels: Tensor) -> Tensor:
        """The centres that a batch is compared with, (classes of the task, D_t), without gradient."""
        if self.centers == "global":
            return unit_length(self.sums)
        return class_centers(gather(teacher.detach()), gather(labels), len(self.sums))

    @torch.no_grad()
    def sample_weights(self, log_local: Tensor, teacher_logits: Tensor | None) -> Tensor:
        r"""The strengths :math:`\lambda_i`, (N,), in (0, ``strength``].

        Args:
            log_local: logarithms of the local probabilities, (N, classes); -inf for those not in the batch.
            teacher_logits: (N, classes of the teacher).
        """
        if self.weighting == "constant":
            return torch.full_like(log_local[:, 0], self.strength)
        if self.weighting == "ncm_max_prob":
            return self.strength * log_local.exp().amax(1)
        assert teacher_logits is not None
        if self.weighting == "teacher_relative_confidence":
            return self.strength * relative_confidence(teacher_logits, gather(teacher_logits))
        probabilities = teacher_logits.softmax(1)
        if self.weighting == "teacher_max_prob":
            return self.strength * probabilities.amax(1)
        return self.strength * torch.exp(-torch.special.entr(probabilities).sum(1))
