"""Contrastive representation distillation (Tian, Krishnan and Isola, 2020)."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pursuhint._util.distributed import gather
from pursuhint.errors import PursuhintError
from pursuhint.losses._parts.contrast_options import NoiseContrastOptions
from pursuhint.losses._parts.flat_options import flat_options
from pursuhint.losses._parts.memory_bank import MemoryBank
from pursuhint.losses._parts.vectors import unit_length
from pursuhint.losses.base import EmbeddingLoss
from pursuhint.losses.checks import check_choice, check_positive, check_same_batch

__all__ = ["ContrastiveRepresentationLoss"]

Positive = Literal["instance", "class"]
Constants = Literal["first_batch", "none"]


@flat_options(NoiseContrastOptions)
class ContrastiveRepresentationLoss(EmbeddingLoss):
    r"""Find a sample's teacher vector among those of many other samples from its student vector, and back.

    Both embeddings are mapped linearly to vectors :math:`u` of the student and :math:`v` of the teacher, of
    unit length. Two memories :math:`M^S, M^T` hold one vector for every training sample. With the sample
    itself as :math:`c_0` and :math:`K` negatives :math:`c_1, ..., c_K` of other classes,

    .. math:: P_j = e^{u \cdot M^T_{c_j} / \tau} / Z, \quad
              L^S = - \frac{1}{b} \sum_n \Big( \log \frac{P_0}{P_0 + q + \epsilon}
              + \sum_{j \ge 1} \log \frac{q}{P_j + q + \epsilon} \Big), \quad q = K / N ,

    plus the same of :math:`v` and :math:`M^S`. :math:`Z` is a constant: :math:`N` times the mean of
    :math:`e^{u \cdot M / \tau}` in the first batch. Afterwards the memories of the batch's samples move
    towards :math:`u` and :math:`v`. All is computed in logarithms, so that a small temperature does not
    overflow. Widths may differ; both maps are trained. In evaluation mode the memories stay as they are.

    Formula and weight 0.8 are those of the authors' code, whose results are the published ones. The paper has
    no :math:`Z`: ``constants="none"`` sets it to 1. Of a sample that occurs twice in a batch the last vector
    is remembered; there, on a GPU, either may be.

    The two memories take 8 bytes a number: 51 MB for CIFAR-100 and 1.3 GB for ImageNet at a width of 128,
    half of that with ``bank_precision="half"``, and no GPU memory with ``bank_on_host``. They are
    part of the saved state. Drawing negatives takes 24 bytes a training sample and 8 bytes a negative of the
    batch. For 1.28 million samples a step of 64 samples with 16,384 negatives each was measured to need 0.1
    GB beside that, or 0.35 GB with memories of half precision, which are converted as they are read. It makes
    the host of a GPU wait a few times a step: numbers beyond the last sample are drawn again, until none is.

    Reference: Y. Tian, D. Krishnan and P. Isola, Contrastive Representation Distillation, ICLR 2020,
    https://arxiv.org/abs/1910.10699.

    Args:
        student_width: width of the student's embedding.
        teacher_width: width of the teacher's embedding.
        num_samples: size of the training set.
        labels: class of every training sample by its index, (num_samples,), -1 for samples that are held out.
            None if not known, which ``negatives_from="other_samples"`` allows.
        positive: the sample's counterpart: itself (``"instance"``), or a random sample of its class
            (``"class"``, called relaxed in the authors' code).
        constants: where :math:`Z` comes from, the ``"first_batch"``, or ``"none"`` for 1.

    Raises:
        PursuhintError: a value is out of its range, or labels are needed and not known.

    Example:
        >>> loss = ContrastiveRepresentationLoss(64, 256, 50, torch.arange(50) % 10, negatives=20)
        >>> loss(torch.randn(8, 64), torch.randn(8, 256), torch.arange(8)).shape
        torch.Size([])
    """

    info = EmbeddingLoss.info.replace(
        title="CRD",
        paper="Tian, Krishnan and Isola, Contrastive Representation Distillation, ICLR 2020",
        learns="a projection of either embedding",
        default_weight=0.8,
        minimum=None,
        batch_coupled=True,  # through the constants of the first
        inputs=(*EmbeddingLoss.info.inputs, "indices"),
        shared_buffers=(
            *("memory_student.vectors", "memory_teacher.vectors", "log_z_student", "log_z_teacher"),
            *(f"sampler.{name}" for name in ("order", "first", "count", "key")),
        ),
    )

    log_z_student: Tensor
    log_z_teacher: Tensor

    def __init__(
        self,
        student_width: int,
        teacher_width: int,
        num_samples: int,
        labels: Tensor | None = None,
        *,
        positive: Positive = "instance",
        constants: Constants = "first_batch",
        options: NoiseContrastOptions,
    ) -> None:
        super().__init__()
        check_positive(num_samples=num_samples)
        check_choice(Positive, positive=positive)
        check_choice(Constants, constants=constants)
        if positive == "class" and labels is None:
            raise PursuhintError("positives of the same class need the classes of the training samples")
        self.num_samples = num_samples
        self.options = options
        self.positive = positive
        self.student_embed = nn.Linear(student_width, options.width)
        self.teacher_embed = nn.Linear(teacher_width, options.width)
        self.memory_student = options.memory(num_samples)
        self.memory_teacher = options.memory(num_samples)
        self.sampler = options.sampler(num_samples, labels)
        self.info = self.info.replace(batch_coupled=constants == "first_batch")
        start = -math.inf if self.info.batch_coupled else 0.0  # infinite until the first batch
        self.register_buffer("log_z_student", torch.full((1,), start))
        self.register_buffer("log_z_teacher", torch.full((1,), start))

    def terms(
        self, student: Tensor, teacher: Tensor, indices: Tensor, contrast: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Compare the embeddings of one batch, and remember them.

        Args:
            student: (N, D_s).
            teacher: (N, D_t).
            indices: which training samples these are, (N,).
            contrast: training samples to compare with, (N, K + 1), the positive first; None to draw them.

        Returns:
            The two addends: ``student_anchor`` and ``teacher_anchor``. Their sum is above 0.

        Raises:
            PursuhintError: the batch sizes differ, or no training sample has another class.
        """
        check_same_batch(student, teacher)
        own = unit_length(self.student_embed(student))
        other = unit_length(self.teacher_embed(teacher))
        if contrast is None:
            contrast = self.draw(indices)
        terms = {
            "student_anchor": self._contrasted(own, self.memory_teacher, contrast, self.log_z_student),
            "teacher_anchor": self._contrasted(other, self.memory_student, contrast, self.log_z_teacher),
        }
        if self.training:
            everywhere = gather(indices)
            self.memory_student.update(everywhere, gather(own.detach()), self.options.momentum)
            self.memory_teacher.update(everywhere, gather(other.detach()), self.options.momentum)
            self.sampler.advance()
        return terms

    def draw(self, indices: Tensor) -> Tensor:
        """A positive and the negatives of every sample, (N, K + 1); unchanged until the next step.

        Args:
            indices: which training samples, (N,).
        """
        positives = indices if self.positive == "instance" else self.sampler.partners(indices)
        return torch.cat([positives[:, None], self.sampler(indices, self.options.negatives)], dim=1)

    def _contrasted(self, anchors: Tensor, bank: MemoryBank, contrast: Tensor, log_z: Tensor) -> Tensor:
        """One side of the loss; sets its constant, once, if it is to learn."""
        scores = bank.products(anchors, contrast) / self.options.temperature  # log P + log Z, (N, K + 1)
        # Z is fixed by the first batch and constant from then on; `where` needs no GPU sync to find out.
        constant = torch.where(log_z.isinf(), self._log_constant(scores.detach()), log_z)
        if self.training:
            log_z.copy_(constant)
        scores = scores - constant  # log P
        log_q = math.log((contrast.shape[1] - 1) / self.num_samples)
        log_added = math.log((contrast.shape[1] - 1) / self.num_samples + self.options.eps)  # log(q + eps)
        # P / (P + q + eps) is a sigmoid of log P - log(q + eps), so its -log is a softplus: no overflow.
        positive = F.softplus(log_added - scores[:, 0])  # -log(P / (P + q + eps))
        negative = F.softplus(scores[:, 1:] - log_added) + (log_added - log_q)  # -log(q / (P + q + eps))
        return gather(positive + negative.sum(1)).mean()

    def _log_constant(self, scores: Tensor) -> Tensor:
        """Logarithm of the number of training samples times the mean of the exponentials, (1,)."""
        # log Z = log(N / (b (K + 1)) * sum of all exponentials), over the batch of all ranks
        sums = gather(scores.logsumexp(1))
        return (sums.logsumexp(0) - math.log(len(sums) * scores.shape[1] / self.num_samples))[None]
