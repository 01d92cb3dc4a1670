"""Complementary relation contrastive distillation (Zhu et al., 2021)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from pursuhint._util.distributed import gather
from pursuhint._util.wrappers import copy_network
from pursuhint.errors import PursuhintError
from pursuhint.features.head import Head, find_head
from pursuhint.losses._parts.contrast_options import NoiseContrastOptions
from pursuhint.losses._parts.flat_options import flat_options
from pursuhint.losses._parts.memory_bank import MemoryBank
from pursuhint.losses._parts.vectors import unit_length
from pursuhint.losses.base import EmbeddingLoss
from pursuhint.losses.checks import check_choice, check_non_negative, check_positive, check_same_batch
from pursuhint.losses.context import LossContext

__all__ = ["ComplementaryRelationLoss"]

Embedder = Literal["linear", "nonlinear", "none"]
GradientRelation = Literal["auto", "cosine", "contrast", "none"]


def cross_entropy_gradient(embedding: Tensor, labels: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Gradient of the mean cross-entropy of a linear classifier with respect to its input.

    Written out, so that it can be differentiated like any other expression.

    Args:
        embedding: (N, D).
        labels: class numbers, (N,).
        weight: of the classifier, (classes, D).
        bias: of the classifier, (classes,), or None.

    Returns:
        (N, D); the mean is over the samples of all ranks.
    """
    # d CE / d e = W^T (softmax(W e + b) - onehot(y)) / b
    logits = F.linear(embedding, weight, bias)
    residual = logits.softmax(1) - F.one_hot(labels, logits.shape[1])
    return residual @ weight / len(gather(labels))


def gradient_disagreement(student: Tensor, teacher: Tensor) -> Tensor:
    """One minus the mean cosine of gradients, (N, D) each, over all ranks; in [0, 2]."""
    return 1 - gather((unit_length(student) * unit_length(teacher)).sum(1)).mean()


class RelationContrast(nn.Module):
    r"""Contrast the relations of a sample to the anchors with those of its counterpart in a memory bank.

    Vectors :math:`s` of the student and :math:`t` of the teacher are embedded and scaled to unit length. On
    the student's side, for every sample :math:`i` and every anchor :math:`a` of the batch, with :math:`c_0`
    the sample itself, :math:`c_1, ...` its negatives and :math:`\mathrm{n}` scaling to unit length,

    .. math:: o_k = \exp\big(\mathrm{n}(M^T_{c_k} - M^T_a + \delta)^\top \mathrm{n}(s_i - M^T_a + \delta)
              / \tau\big) .

    The contrast of :math:`o_0` with the others is that of `ContrastiveRepresentationLoss`. The teacher's side
    has the roles changed and trains the teacher's embedder.

    Args:
        student_width: width of the student's vectors.
        teacher_width: width of the teacher's.
        num_samples: size of the training set.
        embedder: ``"linear"``; ``"nonlinear"``, three linear layers with ReLUs between; ``"none"`` for equal
            widths.
        offset: :math:`\delta`, added to every component of a difference, above 0.
        options: :math:`\tau`, the width of the embedded vectors, and the memories; the caller draws the
            negatives.
    """

    log_z_student: Tensor
    log_z_teacher: Tensor

    def __init__(
        self,
        student_width: int,
        teacher_width: int,
        num_samples: int,
        *,
        embedder: Embedder,
        offset: float,
        options: NoiseContrastOptions,
    ) -> None:
        super().__init__()
        if embedder == "none" and student_width != teacher_width:
            raise PursuhintError(
                f"without embedders the widths must be equal, got {student_width} and {teacher_width}"
            )
        self.num_samples = num_samples
        self.offset = offset
        self.options = options
        self.student_embed = _embedder(embedder, student_width, options.width)
        self.teacher_embed = _embedder(embedder, teacher_width, options.width)
        width = student_width if embedder == "none" else options.width
        self.memory_student = options.memory(num_samples, width)
        self.memory_teacher = options.memory(num_samples, width)
        for bank in (self.memory_student, self.memory_teacher):
            bank.scale_to_unit_length()
        self.register_buffer("log_z_student", torch.full((1,), -math.inf))  # until the first batch
        self.register_buffer("log_z_teacher", torch.full((1,), -math.inf))
        self._settled: set[str] = set()  # constants known to be finite
        self.register_load_state_dict_pre_hook(lambda module, *_: module._settled.clear())

    def forward(self, student: Tensor, teacher: Tensor, indices: Tensor, contrast: Tensor) -> Tensor:
        """Compare the vectors of one batch, and remember them in training mode.

        Args:
            student: (N, D_s).
            teacher: (N, D_t).
            indices: which training samples these are, (N,).
            contrast: training samples to compare with, (N, K + 1), the sample itself first.

        Returns:
            Scalar, above 0.
        """
        own, other = unit_length(self.student_embed(student)), unit_length(self.teacher_embed(teacher))
        everywhere = gather(indices)
        loss = self._side(own, self.memory_teacher, everywhere, contrast, "log_z_student")
        loss = loss + self._side(other, self.memory_student, everywhere, contrast, "log_z_teacher")
        if self.training:
            self.memory_student.update(everywhere, gather(own.detach()), self.options.momentum)
            self.memory_teacher.update(everywhere, gather(other.detach()), self.options.momentum)
        return loss

    def _side(
        self, vectors: Tensor, bank: MemoryBank, anchors: Tensor, contrast: Tensor, name: str
    ) -> Tensor:
        """One side of the loss; sets its constant, once, if it is to learn."""
        log_z: Tensor = getattr(self, name)
        places = bank.rows(anchors).to(vectors.dtype)  # M_a, (A, F)
        # n(s_i - M_a + delta): from every anchor to every sample, (N, A, F)
        relation = unit_length(vectors[:, None] - places + self.offset)
        same = bank.rows(contrast[:, 0]).to(vectors.dtype)
        # log o_0. The sample itself may lie close to an anchor, so this is computed from differences, not by
        # inner products as for the negatives.
        temperature = self.options.temperature
        positive = (unit_length(same[:, None] - places + self.offset) * relation).sum(2) / temperature
        negatives = _Negatives(bank, anchors, contrast[:, 1:], self.offset, temperature)
        count = contrast.shape[1] - 1
        constant = log_z
        # Reading it forces a GPU sync, so it is not read once it is known to be finite.
        if name not in self._settled and log_z.isinf():  # the first batch goes through the scores twice
            everything = len(anchors) * (count + 1)
            constant = self._log_constant(
                positive.detach(), negatives.log_sums(relation.detach()), everything
            )
            if self.training:
                log_z.copy_(constant)
        else:
            self._settled.add(name)
        # As in CRD, with q = K / N: -log of o / (o + q + eps) and of q / (o + q + eps) are softpluses.
        share = count / self.num_samples
        log_share, log_added = math.log(share), math.log(share + self.options.eps)
        found = F.softplus(log_added - (positive - constant))  # -log(x / (x + P + eps))
        softplus: Tensor = _SumOfSoftplus.apply(relation, constant + log_added, negatives)
        refused = softplus + count * (log_added - log_share)
        return gather((found + refused).mean(1)).mean()

    def _log_constant(self, positive: Tensor, log_sums: Tensor, count: int) -> Tensor:
        """Logarithm of the number of training samples times the mean of the exponentials, (1,).

        Args:
            positive: logarithms of the scores, (N, A).
            log_sums: of the sums of the negatives' scores, (N, A).
            count: scores of a sample.
        """
        sums = gather(torch.logaddexp(positive, log_sums).logsumexp(1))
        return (sums.logsumexp(0) - math.log(len(sums) * count / self.num_samples))[None]


@dataclass(frozen=True)
class _Negatives:
    """The negatives of every sample; their relations to all anchors are contrasted with the sample's own.

    Samples are processed in chunks, so that intermediate results take the same memory for any batch. The
    relations themselves are never held, which would be anchors times as much as the vectors: the products
    and lengths that are needed follow from inner products.

    Args:
        bank: memory of the anchors and the negatives.
        anchors: training samples, (A,).
        chosen: training samples, (N, K).
        offset: added to every component of a difference.
        temperature: divides the products.
    """

    bank: MemoryBank
    anchors: Tensor
    chosen: Tensor
    offset: float
    temperature: float

    def log_sums(self, relation: Tensor) -> Tensor:
        """Logarithm of the sum of the exponentials of the scores, (N, A).

        Args:
            relation: of the samples to the anchors, (N, A, F).
        """
        return torch.cat([part.scores(relation[rows]).logsumexp(1) for rows, part in self.parts(relation)])

    def parts(self, relation: Tensor) -> Iterator[tuple[slice, _SomeNegatives]]:
        """The negatives of some samples after the other, in the precision of ``relation``, (N, A, F)."""
        anchors, width = relation.shape[1:]
        origin = self.bank.rows(self.anchors).to(relation.dtype) - self.offset
        size = max(1, _AT_ONCE // (self.chosen.shape[1] * (anchors + width)))
        for start in range(0, len(self.chosen), size):
            rows = slice(start, start + size)
            chosen = self.chosen[rows]
            vectors = self.bank.rows(chosen.flatten()).to(relation.dtype).unflatten(0, chosen.shape)
            itself = chosen[:, :, None] == self.anchors
            yield rows, _SomeNegatives.of(vectors, origin, itself, self.offset, self.temperature)


_AT_ONCE = 2**22  # numbers


@dataclass(frozen=True)
class _SomeNegatives:
    """Negatives of some samples, read from the bank.

    An anchor among them leaves nothing but the offset as difference, whose direction is known.

    Args:
        vectors: (N, K, F).
        origin: vectors of the anchors less the offset, (A, F).
        factor: what a product with a difference from an anchor is multiplied by, (N, K, A); 0 where that
            is the anchor itself.
        itself: what the sum of a relation is multiplied by, (N, K, A); 0 where that is another.
    """

    vectors: Tensor
    origin: Tensor
    factor: Tensor
    itself: Tensor

    @classmethod
    def of(
        cls, vectors: Tensor, origin: Tensor, itself: Tensor, offset: float, temperature: float
    ) -> _SomeNegatives:
        """From the vectors, the anchors and which negative is which anchor, (N, K, A)."""
        width = vectors.shape[2]
        # |M_c - M_a + delta|^2 = |M_c|^2 - 2 M_c . (M_a - delta) + |M_a - delta|^2, clamped against rounding
        squares = vectors.square().sum(2, keepdim=True) - 2 * vectors @ origin.T + origin.square().sum(1)
        factor = squares.clamp_(min=offset**2 * width).rsqrt_() / temperature
        alone = itself.to(vectors.dtype) / (math.sqrt(width) * temperature)
        return cls(vectors, origin, factor.masked_fill_(itself, 0), alone)

    def scores(self, relation: Tensor) -> Tensor:
        """Products of the directions to the negatives with ``relation``, (N, A, F): (N, K, A)."""
        # (M_c - M_a + delta) . r, then divided by its length and tau; for c = a the direction is 1 / sqrt(F)
        products = self.vectors @ relation.mT - (self.origin * relation).sum(2)[:, None]
        return products.mul_(self.factor).addcmul_(self.itself, relation.sum(2)[:, None])

    def gradient(self, slopes: Tensor) -> Tensor:
        """Of a sum over the negatives by the relations, (N, A, F), from its gradient by the scores."""
        # The scores are linear in the relation: d score_k / d r = factor_k (M_c - M_a + delta).
        weights = slopes * self.factor
        towards = weights.mT @ self.vectors - weights.sum(1)[:, :, None] * self.origin
        return towards + (slopes * self.itself).sum(1)[:, :, None]


class _SumOfSoftplus(torch.autograd.Function):
    """Sum over the negatives of softplus(score - threshold), (N, A).

    Gradients are computed along with the value, so that the scores need not be held.
    """

    @staticmethod
    def forward(ctx: Any, relation: Tensor, threshold: Tensor, negatives: _Negatives) -> Tensor:
        sums, gradients = [], []
        for rows, part in negatives.parts(relation):
            scores = part.scores(relation[rows]).sub_(threshold)
            sums.append(F.softplus(scores).sum(1))
            if ctx.needs_input_grad[0]:
                gradients.append(part.gradient(scores.sigmoid_()))  # softplus' = sigmoid
        if gradients:
            ctx.save_for_backward(torch.cat(gradients))
        return torch.cat(sums)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        return outputs[0][:, :, None] * ctx.saved_tensors[0], None, None


@flat_options(NoiseContrastOptions, negatives=500, temperature=0.05)
class ComplementaryRelationLoss(EmbeddingLoss):
    r"""Ask the student to place a sample among others as the teacher does, in embeddings and in gradients.

    The relation of two samples is the direction from one to the other. `RelationContrast` compares
    relations of the student with those in a memory of the teacher, and the reverse. The same is asked of
    the "gradient elements", the gradients :math:`g` of the cross-entropy with respect to the embedding:

    .. math:: L = L_{relation}(e_S, e_T) + L_{gradient}(g_S, g_T) .

    For the second term ``gradient`` offers ``"cosine"``, :math:`10 \, (1 - \mathrm{mean} \cos(g_S, g_T))`,
    the default of the available code, for equal widths; ``"contrast"``, relations of the gradients with
    embedders and memories of their own, as the paper describes; ``"none"``; and ``"auto"``, the default,
    which is the cosine for equal widths and the contrast for others. In the last 1/25 of the training the
    loss is zero.

    The only public implementation is partial, by one of the authors, and not checked by them. The paper
    describes a learned network for relations, it takes the plain difference; it multiplies the gradient
    term by the KD term, which looks like a slip: here it is added. It uses KD with weight 0.9 beside this.

    Each memory takes 4 bytes a number: both 51 MB for CIFAR-100 and 1.3 GB for ImageNet at a width of 128
    (twice that with gradients in contrast), half with ``bank_precision="half"``, no GPU memory with
    ``bank_on_host``. Negatives are compared a few samples of the batch at a time. Drawing them makes the host
    of a GPU wait a few times a step, see `ContrastiveRepresentationLoss`; the constants, at first.

    Reference: J. Zhu, S. Tang, D. Chen, S. Yu, Y. Liu, M. Rong, A. Yang and X. Wang, Complementary Relation
    Contrastive Distillation, CVPR 2021, https://arxiv.org/abs/2103.16367.

    Args:
        student_width: width of the student's embedding.
        teacher_width: width of the teacher's embedding.
        num_samples: size of the training set.
        labels: class of every training sample by its index, (num_samples,), -1 for samples that are held out.
            None if not known, which ``negatives_from="other_samples"`` allows.
        teacher_classifier: copied and frozen; needed for gradients.
        head: where the student ends; needed for gradients.
        embedder: ``"linear"``, ``"nonlinear"`` or ``"none"``.
        gradient: ``"auto"``, ``"cosine"``, ``"contrast"`` or ``"none"``.
        cosine_scale: the factor 10 of the cosine, at least 0.
        active: fraction of the training in which the loss is not zero, in [0, 1].
        offset: added to every component of a difference, above 0.

    Raises:
        PursuhintError: a value is out of its range, labels are needed and not known, or widths differ where
            they must not.

    Example:
        >>> labels = torch.arange(50) % 10
        >>> loss = ComplementaryRelationLoss(64, 256, 50, labels, negatives=20, gradient="none")
        >>> loss(torch.randn(8, 64), torch.randn(8, 256), torch.arange(8), labels[:8]).shape
        torch.Size([])
    """

    info = EmbeddingLoss.info.replace(
        title="CRCD",
        paper="Zhu et al., Complementary Relation Contrastive Distillation, CVPR 2021",
        learns="a projection of either embedding",
        minimum=None,
        batch_coupled=True,
        inputs=(*EmbeddingLoss.info.inputs, "indices", "labels"),
        needs_teacher_classifier=True,
    )

    def __init__(
        self,
        student_width: int,
        teacher_width: int,
        num_samples: int,
        labels: Tensor | None = None,
        teacher_classifier: nn.Module | None = None,
        head: Head | None = None,
        *,
        embedder: Embedder = "linear",
        gradient: GradientRelation = "auto",
        cosine_scale: float = 10.0,
        active: float = 24 / 25,
        offset: float = 1e-6,
        options: NoiseContrastOptions,
    ) -> None:
        super().__init__()
        check_positive(num_samples=num_samples, offset=offset)
        check_non_negative(cosine_scale=cosine_scale)
        check_choice(Embedder, embedder=embedder)
        check_choice(GradientRelation, gradient=gradient)
        if not 0 <= active <= 1:
            raise PursuhintError(f"active must be in [0, 1], got {active}")
        if gradient == "auto":
            gradient = "cosine" if student_width == teacher_width else "contrast"
        if gradient == "cosine" and student_width != teacher_width:
            raise PursuhintError(
                f"the cosine of gradients needs embeddings of equal width, got {student_width} of the "
                f"student and {teacher_width} of the teacher; set gradient to 'contrast'"
            )
        self.options = options
        self.gradient = gradient
        self.cosine_scale = cosine_scale
        self.active = active
        self.factor = 1.0
        self.sampler = options.sampler(num_samples, labels)
        widths = student_width, teacher_width
        same: dict[str, Any] = {"embedder": embedder, "offset": offset, "options": options}
        self.relations = RelationContrast(*widths, num_samples, **same)
        if gradient == "contrast":
            self.gradient_relations = RelationContrast(*widths, num_samples, **same)
        self.info = self.info.replace(shared_buffers=tuple(name for name, _ in self.named_buffers()))
        if gradient != "none":
            assert head is not None
            if not isinstance(teacher_classifier, nn.Linear):
                raise PursuhintError(
                    "CRCD differentiates linear classifiers, but the teacher's is a "
                    f"{type(teacher_classifier).__name__}; set gradient to 'none'"
                )
            self.teacher_classifier = copy_network(teacher_classifier).requires_grad_(False)
        self._head = head
        self._student_classifier: list[nn.Linear] = []  # the student's own, so it is not a part of the loss

    @classmethod
    def arguments(cls, context: LossContext) -> dict[str, Any]:
        """Widths of the embeddings, the training samples, and the classifiers."""
        assert context.student is not None
        assert context.example is not None
        return {
            "student_width": context.student_embedding,
            "teacher_width": context.teacher_embedding,
            "num_samples": context.num_samples,
            "labels": context.labels,
            "teacher_classifier": context.teacher_classifier,
            "head": find_head(context.student, context.example),
        }

    def prepare(self, student: nn.Module) -> nn.Module:
        """Look up the student's classifier, whose gradient is compared; nothing is changed."""
        if self.gradient != "none":
            assert self._head is not None
            self._student_classifier = [self._head.linear_classifier(student)]
        return student

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """Set the loss to zero in the last epochs."""
        self.factor = 1.0 if epoch < self.active * epochs else 0.0

    def terms(
        self,
        student: Tensor,
        teacher: Tensor,
        indices: Tensor,
        labels: Tensor,
        contrast: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Compare the embeddings of one batch, and remember them.

        Args:
            student: (N, D_s).
            teacher: (N, D_t).
            indices: which training samples these are, (N,).
            labels: class numbers, (N,).
            contrast: training samples to compare with, (N, K + 1), the sample itself first; None to draw
                them.

        Returns:
            The addends: ``relation`` and, unless it is left out, ``gradient``. Their sum is at least 0.

        Raises:
            PursuhintError: the batch sizes differ, or no training sample has another class.
        """
        check_same_batch(student, teacher)
        if contrast is None:
            contrast = torch.cat([indices[:, None], self.sampler(indices, self.options.negatives)], dim=1)
        found = {"relation": self.factor * self.relations(student, teacher, indices, contrast)}
        if self.gradient != "none":
            own, other = self.gradient_elements(student, teacher, labels)
            if self.gradient == "cosine":
                value = self.cosine_scale * gradient_disagreement(own, other)
            else:
                value = self.gradient_relations(own, other, indices, contrast)
            found["gradient"] = self.factor * value
        if self.training:
            self.sampler.advance()
        return found

    def gradient_elements(self, student: Tensor, teacher: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of both cross-entropies with respect to the embeddings, (N, D_s) and (N, D_t)."""
        (classifier,) = self._student_classifier
        fixed = self.teacher_classifier
        return (
            cross_entropy_gradient(student, labels, classifier.weight, classifier.bias),
            cross_entropy_gradient(teacher, labels, fixed.weight, fixed.bias),
        )


def _embedder(kind: Embedder, width: int, embedded_width: int) -> nn.Module:
    if kind == "none":
        return nn.Identity()
    if kind == "linear":
        return nn.Linear(width, embedded_width)
    return _NonlinearEmbedder(width, embedded_width)


class _NonlinearEmbedder(nn.Module):
    """Three linear layers with ReLUs between."""

    def __init__(self, width: int, embedded_width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, width)
        self.fc2 = nn.Linear(width, embedded_width)
        self.fc3 = nn.Linear(embedded_width, embedded_width)

    def forward(self, vectors: Tensor) -> Tensor:
        output: Tensor = self.fc3(torch.relu(self.fc2(torch.relu(self.fc1(vectors)))))
        return output
