"""REFILLED: both stages of relationship matching (Ye, Lu and Zhan, 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from pursuhint.losses.base import Keep, Loss, WarmUp
from pursuhint.losses.checks import check_choice, check_non_negative, check_positive
from pursuhint.losses.context import LossContext
from pursuhint.losses.refilled_stage1 import ComparisonMatchingLoss, Mode, MostNegatives
from pursuhint.losses.refilled_stage2 import Centers, LocalDistillationLoss, Weighting

__all__ = ["RelationshipMatchingLoss"]

_MATCHING = "matching"


class RelationshipMatchingLoss(Loss):
    r"""Learn from a teacher of other classes: its comparisons first, then its class centres.

    A warm-up matches comparisons of embeddings alone (`pursuhint.losses.refilled_stage1`); the classifier
    gets no gradient in it. The main stage trains the student with labels and local distillation
    (`pursuhint.losses.refilled_stage2`), which contain the classification term. The teacher's class
    centres are means over all samples of the warm-up, augmented as in training; without a warm-up they
    accumulate during the main stage.

    .. math:: L = L_{matching} \text{ in the warm-up, then } L = \mathrm{CE}(z, y) + L_{local} .

    The variants of the paper: "REFILLED-" has ``weighting="constant"``; "REFILLED-EMB", which the paper does
    not define, is taken as ``strength=0``. As theirs, the learning rate falls to a tenth along a cosine in
    the warm-up. The authors' code continues from the measured epoch of the warm-up whose nearest class means
    are the most accurate on the test images (``keep_matching="best-of-test"``); ``"best"`` does so without
    looking at these, and the default takes the last epoch, since the papers do not speak of it.

    Reference: H.-J. Ye, S. Lu and D.-C. Zhan, Distilling Cross-Task Knowledge via Relationship Matching,
    CVPR 2020; extended in Generalized Knowledge Distillation via Relationship Matching, TPAMI 2023,
    https://arxiv.org/abs/2205.01915.

    Args:
        num_classes: classes of the student's task.
        teacher_embedding: width of the teacher's embedding.
        matching_epochs: length of the warm-up, at least 0.
        mode: of the comparisons, ``"tuples"`` or ``"triplets"``.
        matching_temperature: of the comparisons, above 0.
        margin: how much farther than the positive a negative may be, above 0.
        k_hat: most negatives in a comparison, at least 1; ``"fewest"`` for as many as every comparison of
            the batch has; None for all.
        scale: of the comparisons, above 0.
        temperature: of the local distillation, above 0.
        strength: of the local distillation, at least 0.
        weighting: how the strength adapts to a sample, see `LocalDistillationLoss`.
        centers: ``"global"`` or ``"batch"``.
        student_temperature: of the student's side of the local distillation; None for ``temperature``.
        keep_matching: the student of the warm-up with which the main stage begins: ``"last"``, ``"best"`` or
            ``"best-of-test"``, see `pursuhint.losses.WarmUp`.
        score_every: epochs of the warm-up between two measurements for ``keep_matching``, at least 1; the
            last epoch is always measured.

    Raises:
        PursuhintError: a value is out of its range.

    Example:
        >>> loss = RelationshipMatchingLoss(10, 64)
        >>> [stage.name for stage in loss.stages()]
        ['matching']
    """

    info = Loss.info.replace(
        title="REFILLED",
        paper="Ye, Lu and Zhan, Distilling Cross-Task Knowledge via Relationship Matching, CVPR 2020",
        minimum=None,
        compares="embedding",
        batch_coupled=True,
        contains_classification=True,
        inputs=("student_embedding", "teacher_embedding", "student_logits", "labels", "teacher_logits"),
    )

    def __init__(
        self,
        num_classes: int,
        teacher_embedding: int,
        *,
        matching_epochs: int = 200,
        mode: Mode = "tuples",
        matching_temperature: float = 4.0,
        margin: float = 0.2,
        k_hat: MostNegatives = None,
        scale: float = 1000.0,
        temperature: float = 2.0,
        strength: float = 2.0,
        weighting: Weighting = "teacher_max_prob",
        centers: Centers = "global",
        student_temperature: float | None = None,
        keep_matching: Keep = "last",
        score_every: int = 10,
    ) -> None:
        super().__init__()
        check_non_negative(matching_epochs=matching_epochs)
        check_choice(Keep, keep_matching=keep_matching)
        check_positive(score_every=score_every)
        self.warm_up = WarmUp(
            _MATCHING,
            matching_epochs,
            trains_student=True,
            lr_floor=0.1,
            keep=keep_matching,
            score_every=score_every,
        )
        self.matching = ComparisonMatchingLoss(
            mode=mode, temperature=matching_temperature, margin=margin, k_hat=k_hat, scale=scale
        )
        self.local = LocalDistillationLoss(
            num_classes,
            teacher_embedding,
            temperature=temperature,
            strength=strength,
            weighting=weighting,
            centers=centers,
            student_temperature=student_temperature,
        )
        self._stage: str | None = None

    @classmethod
    def arguments(cls, context: LossContext) -> dict[str, Any]:
        """Classes, and the width of the teacher's embedding."""
        return LocalDistillationLoss.arguments(context)

    def stages(self) -> Sequence[WarmUp]:
        """The warm-up, unless it has no epochs."""
        return [self.warm_up] if self.warm_up.epochs else []

    def begin_stage(self, stage: str | None) -> None:
        """Match comparisons in the warm-up, distil locally in the main stage."""
        self._stage = stage
        if stage is None and self.local.sums.any():
            self.local.complete()

    def terms(
        self,
        student: Tensor,
        teacher: Tensor,
        student_logits: Tensor,
        labels: Tensor,
        teacher_logits: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """The loss of one batch in the present stage.

        Args:
            student: its embedding, (N, D_s).
            teacher: its embedding, (N, D_t).
            student_logits: (N, classes).
            labels: class numbers, (N,).
            teacher_logits: for its own classes, (N, classes of the teacher); None if ``weighting`` does not
                look at them.

        Returns:
            ``matching`` in the warm-up; ``ce`` and ``local`` in the main stage. Their sum is at least 0.

        Raises:
            PursuhintError: the batch sizes differ.
        """
        if self._stage == _MATCHING:
            self.local.see(teacher, labels)
            value = self.matching(student, teacher, labels)
            self.extra_metrics = self.matching.extra_metrics
            return {"matching": value}
        self.extra_metrics = {}
        return self.local.terms(student_logits, teacher, labels, teacher_logits)
