"""Inverse probability weighting distillation (Niu et al., 2022)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pursuhint._util.distributed import gather, mean_over_processes
from pursuhint.errors import PursuhintError
from pursuhint.features.head import Head, find_head
from pursuhint.losses._parts.vectors import in_range
from pursuhint.losses.base import LogitLoss
from pursuhint.losses.checks import check_choice, check_positive, check_same_classes
from pursuhint.losses.context import LossContext

__all__ = ["InverseProbabilityLoss"]

Orientation = Literal["inverse", "reciprocal"]


class InverseProbabilityLoss(LogitLoss):
    r"""Learn from the teacher in a second head, most of all where the teacher's knowledge is thin.

    Beside the student's classifier ("cls", for the labels) a second one ("kd") on the same embedding learns
    the teacher's softened probabilities :math:`p`:

    .. math:: L = \frac{T^2}{b} \sum_i w_i \, \mathrm{KL}(p_i \,\|\, q_i), \quad
              w_i \propto \frac{1}{P_i} = 1 + \frac{H^{cls}_i}{H^{kd}_i} .

    :math:`H` are the cross-entropies of the two heads with the label, after scaling each sample's logits to
    mean 0 and standard deviation 1, and :math:`P` is the propensity of a sample to belong to what the teacher
    teaches. The weights are constants, limited to [1, ``max_weight``] and divided by their mean over the
    batch. The student's embedding learns from both heads, each head from its own loss. The student is kept
    with its own classifier; the second head lives and ends with the loss, and the log has its accuracy
    (``test_ipwd_kd_top1``) beside the student's. It also has the median of the weights before the limits, and
    the share of them that are above ``max_weight``.

    No implementation was found, and the form of the weights comes from a description of the paper; it does
    not settle beyond doubt which cross-entropy belongs above. ``orientation`` offers both: ``"inverse"`` is
    the formula above, ``"reciprocal"`` :math:`1 + H^{kd} / H^{cls}`. The other choices, which nobody has
    published, are the limits, the weight 1 and the warm-up, and that the weights have the mean 1 in a batch.

    Reference: Y. Niu, L. Chen, C. Zhou and H. Zhang, Respecting Transfer Gap in Knowledge Distillation,
    NeurIPS 2022, https://arxiv.org/abs/2210.12787.

    Args:
        student_embedding: width of the student's embedding.
        num_classes: classes of the task.
        head: where the student ends; None if the accuracy of the second head is not asked for.
        temperature: divides the logits in the divergence, above 0.
        orientation: ``"inverse"`` or ``"reciprocal"``.
        max_weight: upper limit of a weight before the division by the mean, at least 1.
        warm_up: fraction of the epochs at the beginning in which all weights are 1, because the heads know
            nothing yet; in [0, 1].
        standardize: scale the logits before the cross-entropies of the weights; the description of the paper
            calls it essential.
        eps: added to the variance of the logits, above 0.

    Raises:
        PursuhintError: a value is out of its range.

    Example:
        >>> loss = InverseProbabilityLoss(16, 10)
        >>> student, teacher = torch.randn(2, 8, 10)
        >>> loss(student, teacher, torch.arange(8), torch.randn(8, 16)).shape
        torch.Size([])
    """

    info = LogitLoss.info.replace(
        title="IPWD",
        paper="Niu et al., Respecting Transfer Gap in Knowledge Distillation, NeurIPS 2022",
        learns="a second classifier, which is dropped in the end",
        batch_coupled=True,  # through the mean of the weights alone
        inputs=(*LogitLoss.info.inputs, "student_embedding"),
        softens_logits=True,
        only_with=(("eps", "standardize", True),),
    )

    def __init__(
        self,
        student_embedding: int,
        num_classes: int,
        head: Head | None = None,
        *,
        temperature: float = 4.0,
        orientation: Orientation = "inverse",
        max_weight: float = 10.0,
        warm_up: float = 0.1,
        standardize: bool = True,
        eps: float = 1e-7,
    ) -> None:
        super().__init__()
        check_positive(temperature=temperature, eps=eps)
        check_choice(Orientation, orientation=orientation)
        if not max_weight >= 1:
            raise PursuhintError(f"max_weight must be at least 1, got {max_weight}")
        if not 0 <= warm_up <= 1:
            raise PursuhintError(f"warm_up must be in [0, 1], got {warm_up}")
        self.temperature = temperature
        self.orientation = orientation
        self.max_weight = max_weight
        self.warm_up = warm_up
        self.standardize = standardize
        self.eps = eps
        self.weighting = True
        self.head = nn.Linear(student_embedding, num_classes)
        self._place = head

    @classmethod
    def arguments(cls, context: LossContext) -> dict[str, Any]:
        """Sizes of the second head, and where it belongs."""
        assert context.student is not None
        assert context.example is not None
        return {
            "student_embedding": context.student_embedding,
            "num_classes": context.num_classes,
            "head": find_head(context.student, context.example),
        }

    def other_heads(self, student: nn.Module) -> Mapping[str, nn.Module]:
        """The student with the second head: ``kd``."""
        if self._place is None:
            return {}
        self._place.replace_classifier(student, self.head)
        return {"kd": student}

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """Weights are used once the warm-up is over."""
        self.weighting = epoch >= self.warm_up * epochs

    def forward(self, student: Tensor, teacher: Tensor, labels: Tensor, embedding: Tensor) -> Tensor:
        """Compare the second head with the teacher.

        Args:
            student: logits of the student's own classifier, (N, classes); they get no gradient.
            teacher: logits, (N, classes).
            labels: class numbers, (N,).
            embedding: the student's, (N, D).

        Returns:
            Scalar, at least 0; zero when the second head agrees with the teacher.

        Raises:
            PursuhintError: the numbers of samples or classes differ.
        """
        own: Tensor = self.head(embedding)
        check_same_classes(self.info.title, own, teacher)
        weights = self.weights(student, teacher, labels, embedding)
        log_q = F.log_softmax(own / self.temperature, dim=1)
        log_p = F.log_softmax(teacher / self.temperature, dim=1)
        divergences = F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(1)
        return self.temperature**2 * gather(weights * divergences).mean()

    @torch.no_grad()
    def weights(self, student: Tensor, teacher: Tensor, labels: Tensor, embedding: Tensor) -> Tensor:
        """The weights of a batch, (N,), with mean 1 over all ranks; takes what `forward` takes."""
        raw = self.raw_weights(self.head(embedding), student, labels)
        self.extra_metrics = {
            "median_weight": raw.median(),
            "weights_above_limit": (raw > self.max_weight).to(raw.dtype).mean(),
        }
        if not self.weighting:
            return torch.ones_like(raw)
        limited = raw.clamp(1, self.max_weight)
        return limited / mean_over_processes(limited)

    @torch.no_grad()
    def raw_weights(self, kd_logits: Tensor, cls_logits: Tensor, labels: Tensor) -> Tensor:
        """Weights before limits and division, (N,), without gradient; at least 1.

        Args:
            kd_logits: of the second head, (N, classes).
            cls_logits: of the student's classifier, (N, classes).
            labels: (N,).
        """
        kd, cls = (
            F.cross_entropy(self._scaled(logits), labels, reduction="none")
            for logits in (kd_logits, cls_logits)
        )
        above, below = (cls, kd) if self.orientation == "inverse" else (kd, cls)
        # 1 / P = 1 + H_cls / H_kd
        return 1 + above / below.clamp(min=torch.finfo(below.dtype).eps)

    def _scaled(self, logits: Tensor) -> Tensor:
        if not self.standardize:
            return logits
        return F.layer_norm(in_range(logits, dim=1), logits.shape[1:], eps=self.eps)
