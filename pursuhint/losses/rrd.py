"""Relational representation distillation (Giakoumoglou and Stathaki, 2024)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from pursuhint._util.distributed import gather
from pursuhint.losses._parts.vectors import unit_length
from pursuhint.losses.base import EmbeddingLoss
from pursuhint.losses.checks import check_choice, check_positive, check_same_batch

__all__ = ["RelationalRepresentationLoss"]

Variant = Literal["paper", "fifo"]

# (student, teacher) of each variant
_TEMPERATURES: dict[Variant, tuple[float, float]] = {"paper": (0.04, 0.07), "fifo": (0.1, 0.02)}


class RelationalRepresentationLoss(EmbeddingLoss):
    r"""Ask the student to find the samples of a queue as similar to each other as the teacher does.

    Both embeddings are mapped linearly to vectors :math:`u` of the student and :math:`v` of the teacher, of
    unit length. A queue :math:`Q` holds the teacher's vectors of the latest samples:

    .. math:: L = - \frac{1}{b} \sum_n \sum_k \mathrm{softmax}(v_n Q^\top / \tau_T)_k
              \log \mathrm{softmax}(u_n Q^\top / \tau_S)_k .

    This is a cross-entropy: its minimum is the entropy of the teacher's similarities. Widths may differ.

    - ``variant="paper"``, the default: Algorithm 1 of the paper's supplement. The batch is compared with the
      queue as it was, and enters it afterwards. Temperatures 0.04 of the student and 0.07 of the teacher.
    - ``variant="fifo"``: the authors' repository. The batch enters the queue first, so that each sample meets
      itself. Temperatures 0.1 and 0.02. The two sources do not agree on which side is the sharper one.

    The teacher's similarities are constants by default, and its linear map keeps its random initial weights:
    all files of the authors detach them, also the one in the order of Algorithm 1.
    ``train_teacher_map=True`` is Algorithm 1 as printed, whose gradient includes the teacher's similarities.

    At the start the queue is random, and scaled so that its columns, not its vectors, have length 1, as in
    both sources. The batch need not divide the queue, which then wraps around; of a batch that is
    larger the last samples are kept. In distributed training the samples of all ranks enter the queue. In
    evaluation mode it stays as it is.

    Reference: N. Giakoumoglou and T. Stathaki, Relational Representation Distillation, arXiv 2407.12073
    (2024), https://arxiv.org/abs/2407.12073.

    Args:
        student_width: width of the student's embedding.
        teacher_width: width of the teacher's embedding.
        variant: ``"paper"`` or ``"fifo"``.
        train_teacher_map: train the linear map of the teacher's embedding.
        queue_size: how many vectors are remembered, at least 1.
        student_temperature: divides the student's similarities, above 0; None for the variant's own.
        teacher_temperature: divides the teacher's, above 0; None for the variant's own.
        width: length of the vectors that are compared.

    Attributes:
        queue: (queue_size, width); a buffer.
        queue_pointer: which of its rows is overwritten next, (1,); a buffer.

    Raises:
        PursuhintError: a value is out of its range.

    Example:
        >>> loss = RelationalRepresentationLoss(64, 256, queue_size=100)
        >>> loss(torch.randn(8, 64), torch.randn(8, 256)).shape
        torch.Size([])
    """

    info = EmbeddingLoss.info.replace(
        title="RRD",
        paper="Giakoumoglou and Stathaki, Relational Representation Distillation, arXiv 2407.12073, 2024",
        learns="a projection of the student's embedding",
        default_weight=1.0,
        minimum=None,
        shared_buffers=("queue", "queue_pointer"),
    )

    queue: Tensor
    queue_pointer: Tensor

    def __init__(
        self,
        student_width: int,
        teacher_width: int,
        *,
        variant: Variant = "paper",
        train_teacher_map: bool = False,
        queue_size: int = 16384,
        student_temperature: float | None = None,
        teacher_temperature: float | None = None,
        width: int = 128,
    ) -> None:
        super().__init__()
        check_choice(Variant, variant=variant)
        own, other = _TEMPERATURES[variant]
        self.student_temperature = own if student_temperature is None else student_temperature
        self.teacher_temperature = other if teacher_temperature is None else teacher_temperature
        check_positive(
            student_temperature=self.student_temperature,
            teacher_temperature=self.teacher_temperature,
            queue_size=queue_size,
            width=width,
        )
        self.variant = variant
        self.train_teacher_map = train_teacher_map
        self.info = self.info.replace(
            batch_coupled=variant == "fifo",
            no_grad_parameters=() if train_teacher_map else ("teacher_embed.weight", "teacher_embed.bias"),
        )
        self.student_embed = nn.Linear(student_width, width)
        self.teacher_embed = nn.Linear(teacher_width, width)
        self.register_buffer("queue", unit_length(torch.randn(queue_size, width), dim=0))
        self.register_buffer("queue_pointer", torch.zeros(1, dtype=torch.long))

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Compare the embeddings of one batch, and remember the teacher's.

        Args:
            student: (N, D_s).
            teacher: (N, D_t).

        Returns:
            Scalar, at least the entropy of the teacher's similarities; that, when the student's are equal.

        Raises:
            PursuhintError: the batch sizes differ.
        """
        check_same_batch(student, teacher)
        own = unit_length(self.student_embed(student))
        other = unit_length(self.teacher_embed(teacher))
        if not self.train_teacher_map:
            other = other.detach()
        if self.variant == "fifo":
            self._enqueue(other)
        queue = self.queue.clone()  # backward needs it as it is now
        targets = torch.softmax(other @ queue.T / self.teacher_temperature, dim=1)
        logarithms = torch.log_softmax(own @ queue.T / self.student_temperature, dim=1)
        if self.variant == "paper":
            self._enqueue(other)
        crosses = -(targets * logarithms).sum(1)
        return (gather(crosses) if self.info.batch_coupled else crosses).mean()

    @torch.no_grad()
    def _enqueue(self, vectors: Tensor) -> None:
        """Overwrite the oldest vectors with the new ones of all ranks."""
        if not self.training:
            return
        vectors = gather(vectors)
        count, size = len(vectors), len(self.queue)
        kept = torch.arange(max(count - size, 0), count, device=vectors.device)
        self.queue[(self.queue_pointer + kept) % size] = vectors[kept].to(self.queue.dtype)
        self.queue_pointer.copy_((self.queue_pointer + count) % size)
