"""Multi-level logit distillation (Jin, Wang and Lin, 2023)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from pursuhint._util.distributed import gather
from pursuhint.errors import PursuhintError
from pursuhint.losses._parts.logits import standardized
from pursuhint.losses.base import LogitLoss
from pursuhint.losses.checks import check_choice, check_positive, check_same_classes

__all__ = ["MultiLevelLoss"]

Confidence = Literal["all", "unsure", "share"]
SecondTerms = Literal["all", "instance", "published"]

_OF_SECOND_VIEW = 3  # temperatures whose logits are the second view's with second_terms="published"


class MultiLevelLoss(LogitLoss):
    r"""Ask for the teacher's probabilities of a sample, its similarities of samples and of classes.

    With the softened probabilities of a batch as rows of :math:`P` (teacher) and :math:`Q` (student), b
    samples by n classes, at each of several temperatures,

    .. math:: L = \sum_T \Big( \frac{T^2}{b} \sum_i \mathrm{KL}(P_i \,\|\, Q_i)
              + \frac{1}{b} \lVert P P^\top - Q Q^\top \rVert_F^2
              + \frac{1}{n} \lVert P^\top P - Q^\top Q \rVert_F^2 \Big) .

    The three addends compare predictions (*instance*), the relations of samples (*batch*) and those of
    classes (*class*). With a second view of each image, strongly augmented (``data.second_view``), the loss
    is the sum over both views, and so is the cross-entropy beside it; without one it is that of the first.
    The class term compares sums over the batch: it grows with the square of the batch and falls with the
    third power of the number of classes, so that a weight published for 64 images of 100 classes can be far
    too large for few classes. The samples of all ranks are compared with one another. Teacher and student
    need the same classes. Nothing is learned.

    Reference: Y. Jin, J. Wang and D. Lin, Multi-Level Logit Distillation, CVPR 2023. Temperatures and weights
    (0.9, and 0.1 of the cross-entropy) are those of the authors' code for CIFAR-100, as is the second view:
    RandAugment with two changes. That code departs from the sums above: it is written to compare only what
    the teacher is unsure of, in the first view (``confidence``), and of the second view it adds the instance
    term alone (``second_terms``). It draws the strength of each change instead of taking 10 of 30, always
    blanks out a square of up to half the side (``cutout`` blanks out a quarter), and runs the student on one
    view after the other; here both go through it together, and batch norms average over both.

    Args:
        temperatures: each divides the logits of both networks, above 0; the addends are summed over them.
        confidence: ``"all"`` samples and classes count. ``"unsure"``: those at or below the median of the
            teacher's confidence, of samples their largest probability at temperature 1, of classes its sum
            over the batch; rows of the others are zeroed, the denominators stay. ``"share"``: each addend is
            multiplied by the share of those, which is what the authors' code computes, as it masks means.
        standardize: the instance term compares standardized logits (Sun et al., Logit Standardization in
            Knowledge Distillation, CVPR 2024, who take temperatures 2, 3, 5, 2 and 6, and weight 9).
        second_terms: what is compared in a second view: ``"all"`` three addends, with the confidence of its
            own; ``"instance"``, that one alone, for all samples; ``"published"``, as in the authors' code:
            the instance term for all samples, from the fourth temperature on once more of the first view.

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
        inputs=(*LogitLoss.info.inputs, "student_second_logits", "teacher_second_logits"),
    )

    def __init__(
        self,
        *,
        temperatures: tuple[float, ...] = (4.0, 3.0, 5.0, 2.0, 6.0),
        confidence: Confidence = "all",
        standardize: bool = False,
        second_terms: SecondTerms = "all",
    ) -> None:
        super().__init__()
        check_positive(temperatures=min(temperatures, default=0))
        check_choice(Confidence, confidence=confidence)
        check_choice(SecondTerms, second_terms=second_terms)
        self.temperatures = temperatures
        self.confidence = confidence
        self.standardize = standardize
        self.second_terms = second_terms

    @classmethod
    def needs_second_view(cls, hyperparameters: Mapping[str, Any]) -> bool:
        """Whether an option says what is compared in a second view."""
        return hyperparameters.get("second_terms", "all") != "all"

    def terms(
        self,
        student: Tensor,
        teacher: Tensor,
        labels: Tensor | None = None,
        student_second: Tensor | None = None,
        teacher_second: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Compare the logits of one batch.

        Args:
            student: (N, classes).
            teacher: (N, classes).
            labels: not used.
            student_second: of the second view of the same images, (N, classes); None for one view.
            teacher_second: likewise.

        Returns:
            The three addends, of both views: ``instance``, ``batch`` and ``class``. Each is at least 0; zero
            when the probabilities agree.

        Raises:
            PursuhintError: the numbers of samples or classes differ; one network has a second view and the
                other has none, or neither has and ``second_terms`` says something of it.
        """
        check_same_classes(self.info.title, student, teacher)
        own, other = gather(student), gather(teacher)
        samples, classes = self._counted(other)
        first = self._instance(own, other, samples)
        found = [first.sum(), *self._relations(own, other, samples, classes)]
        if student_second is not None and teacher_second is not None:
            check_same_classes(self.info.title, student_second, teacher_second)
            own, other = gather(student_second), gather(teacher_second)
            if self.second_terms == "all":
                samples, classes = self._counted(other)
                second = [self._instance(own, other, samples).sum()]
                second += self._relations(own, other, samples, classes)
                found = [one + two for one, two in zip(found, second)]
            else:
                every = torch.ones_like(samples)
                values = self._instance(own, other, every)
                if self.second_terms == "published":
                    again = self._instance(gather(student), gather(teacher), every)
                    values = torch.cat([values[:_OF_SECOND_VIEW], again[_OF_SECOND_VIEW:]])
                found[0] = found[0] + values.sum()
        elif student_second is not teacher_second:
            raise PursuhintError(f"{self.info.title} got a second view of one network; give both, or neither")
        elif self.second_terms != "all":
            raise PursuhintError(
                f"second_terms={self.second_terms} of {self.info.title} says what is compared in a second "
                "view, and there is none; give one (data.second_view=standard,randaugment), or leave it out"
            )
        return dict(zip(("instance", "batch", "class"), found))

    def _instance(self, own: Tensor, other: Tensor, samples: Tensor) -> Tensor:
        """The instance term at every temperature, with factors of the samples, (N,)."""
        scaled = (standardized(own), standardized(other)) if self.standardize else (own, other)
        values = []
        for temperature in self.temperatures:
            z_s, z_t = (F.log_softmax(logits / temperature, dim=1) for logits in scaled)
            divergence = F.kl_div(z_s, z_t, reduction="none", log_target=True).sum(1)
            values.append(temperature**2 * (samples * divergence).mean())
        return torch.stack(values)

    def _relations(self, own: Tensor, other: Tensor, samples: Tensor, classes: Tensor) -> list[Tensor]:
        """The batch and the class term, with factors of samples, (N,), and of classes, (classes,)."""
        batch, among_classes = [], []
        for temperature in self.temperatures:
            q, p = (F.softmax(logits / temperature, dim=1) for logits in (own, other))
            batch.append((samples * (p @ p.T - q @ q.T).square().sum(1)).mean())
            among_classes.append((classes * (p.T @ p - q.T @ q).square().sum(1)).mean())
        return [torch.stack(values).sum() for values in (batch, among_classes)]

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
