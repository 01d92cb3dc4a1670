"""Multi-level logit distillation (Jin, Wang and Lin, 2023)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from pursuhint._util.distributed import gather
from pursuhint.losses._parts.logits import standardized
from pursuhint.losses.base import LogitLoss
from pursuhint.losses.checks import check_choice, check_positive, check_same_classes

__all__ = ["MultiLevelLoss"]

Confidence = Literal["all", "unsure", "share"]


class MultiLevelLoss(LogitLoss):
    r"""Ask for the teacher's probabilities of a sample, its similarities of samples and of classes.

    With the softened probabilities of a batch as rows of :math:`P` (teacher) and :math:`Q` (student), b
    samples by n classes, at each of several temperatures,

    .. math:: L = \sum_T \Big( \frac{T^2}{b} \sum_i \mathrm{KL}(P_i \,\|\, Q_i)
              + \frac{1}{b} \lVert P P^\top - Q Q^\top \rVert_F^2
              + \frac{1}{n} \lVert P^\top P - Q^\top Q \rVert_F^2 \Big) .

    The three addends compare predictions (*instance*), the relations of samples (*batch*) and those of
    classes (*class*). The samples of all ranks are compared with one another. Teacher and student need the
    same classes. Nothing is learned.

    Reference: Y. Jin, J. Wang and D. Lin, Multi-Level Logit Distillation, CVPR 2023. Temperatures and weights
    (0.9, and 0.1 of the cross-entropy) are those of the authors' code for CIFAR-100. That code departs from
    the sums above: it is written to compare only what the teacher is unsure of (``confidence``), and adds the
    instance term of a second, strongly augmented view of the batch, which is left out here. In that view two
    temperatures take the logits of the first one, and the other two terms are computed but not added.

    Args:
        temperatures: each divides the logits of both networks, above 0; the addends are summed over them.
        confidence: ``"all"`` samples and classes count. ``"unsure"``: those at or below the median of the
            teacher's confidence, of samples their largest probability at temperature 1, of classes its sum
            over the batch; rows of the others are zeroed, the denominators stay. ``"share"``: each addend is
            multiplied by the share of those, which is what the authors' code computes, as it masks means.
        standardize: the instance term compares standardized logits (Sun et al., Logit Standardization in
            Knowledge Distillation, CVPR 2024, who take temperatures 2, 3, 5, 2 and 6, and weight 9).

    Raises:
        PursuhintError: an option is out of its range.

    Example:
        >>> loss = MultiLevelLoss()
        >>> loss(torch.randn(8, 10), torch.randn(8, 10), torch.arange(8)).shape
        torch.Size([])
    """

    info = LogitLoss.info.replace(
        title="MLKD",
        paper="Jin, Wang and Lin, Multi-Level Logit Distillation, CVPR 2023",
        default_weight=0.9,
        default_ce_weight=0.1,
        batch_coupled=True,
    )

    def __init__(
        self,
        *,
        temperatures: tuple[float, ...] = (4.0, 3.0, 5.0, 2.0, 6.0),
        confidence: Confidence = "all",
        standardize: bool = False,
    ) -> None:
        super().__init__()
        check_positive(temperatures=min(temperatures, default=0))
        check_choice(Confidence, confidence=confidence)
        self.temperatures = temperatures
        self.confidence = confidence
        self.standardize = standardize

    def terms(self, student: Tensor, teacher: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """Compare the logits of one batch.

        Args:
            student: (N, classes).
            teacher: (N, classes).
            labels: not used.

        Returns:
            The three addends: ``instance``, ``batch`` and ``class``. Each is at least 0; zero when the
            probabilities agree.

        Raises:
            PursuhintError: the numbers of samples or classes differ.
        """
        check_same_classes(self.info.title, student, teacher)
        own, other = gather(student), gather(teacher)
        samples, classes = self._counted(other)
        scaled = (standardized(own), standardized(other)) if self.standardize else (own, other)
        instance, batch, among_classes = [], [], []
        for temperature in self.temperatures:
            z_s, z_t = (F.log_softmax(logits / temperature, dim=1) for logits in scaled)
            divergence = F.kl_div(z_s, z_t, reduction="none", log_target=True).sum(1)
            instance.append(temperature**2 * (samples * divergence).mean())
            q, p = (F.softmax(logits / temperature, dim=1) for logits in (own, other))
            batch.append((samples * (p @ p.T - q @ q.T).square().sum(1)).mean())
            among_classes.append((classes * (p.T @ p - q.T @ q).square().sum(1)).mean())
        return {
            name: torch.stack(values).sum()
            for name, values in (("instance", instance), ("batch", batch), ("class", among_classes))
        }

    def _counted(self, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """Factors of samples, (N,), and of classes, (classes,)."""
        probabilities = F.softmax(teacher, dim=1)
        sure = probabilities.amax(1), probabilities.sum(0)
        if self.confidence == "all":
            return torch.ones_like(sure[0]), torch.ones_like(sure[1])
        samples, classes = ((values <= values.quantile(0.5)).to(values.dtype) for values in sure)
        if self.confidence == "share":
            return samples.mean().expand_as(samples), classes.mean().expand_as(classes)
        return samples, classes
