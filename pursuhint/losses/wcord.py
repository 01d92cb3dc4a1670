"""Wasserstein contrastive representation distillation (Chen et al., 2021)."""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from pursuhint._util.distributed import gather
from pursuhint.losses._parts.contrast_options import ContrastOptions
from pursuhint.losses._parts.flat_options import flat_options
from pursuhint.losses._parts.memory_bank import MemoryBank
from pursuhint.losses._parts.vectors import unit_length
from pursuhint.losses.base import EmbeddingLoss
from pursuhint.losses.checks import check_non_negative, check_positive, check_same_batch

__all__ = ["WassersteinContrastLoss"]


def cosine_cost(first: Tensor, second: Tensor) -> Tensor:
    """One minus the cosine of every pair, (N, M), of vectors (N, D) and (M, D); 1 for vectors of zeros."""
    return 1 - unit_length(first) @ unit_length(second).T


def transport_plan(cost: Tensor, epsilon: float, iterations: int) -> Tensor:
    r"""Entropic optimal transport between uniform distributions, by Sinkhorn's iterations.

    The minimum of :math:`\langle P, C \rangle - \epsilon H(P)` over couplings. In logarithms, so that a small
    :math:`\epsilon` does not underflow. Potentials start from zero; each iteration updates those of the rows,
    then those of the columns, so that the column sums are exact and the row sums approach theirs.

    Args:
        cost: (N, M).
        epsilon: weight of the entropy, above 0.
        iterations: at least 1.

    Returns:
        (N, M), with the sum 1.
    """
    scaled = -cost / epsilon
    columns = torch.zeros_like(cost[:1])
    for _ in range(iterations):
        # Sinkhorn in the log domain: f_i = log(1 / N) - logsumexp_j(-C_ij / eps + g_j), then g likewise
        rows = -math.log(cost.shape[0]) - (scaled + columns).logsumexp(1, keepdim=True)
        columns = -math.log(cost.shape[1]) - (scaled + rows).logsumexp(0, keepdim=True)
    return (scaled + rows + columns).exp()


class LocalTransport(nn.Module):
    r"""Cost of moving the student's vectors of a batch to the teacher's, :math:`\langle P, C \rangle`.

    Args:
        epsilon: weight of the entropy that smooths the plan, above 0; not in the value.
        iterations: of Sinkhorn, at least 1.
        through_plan: let gradient flow through the iterations; otherwise the plan is a constant.
    """

    def __init__(self, *, epsilon: float = 0.1, iterations: int = 50, through_plan: bool = False) -> None:
        super().__init__()
        check_positive(epsilon=epsilon, iterations=iterations)
        self.epsilon = epsilon
        self.iterations = iterations
        self.through_plan = through_plan

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """The cost, in [0, 2], for vectors of equal width, (N, D)."""
        cost = cosine_cost(student, teacher)
        return (self.plan(cost) * cost).sum()

    def plan(self, cost: Tensor) -> Tensor:
        """How much of every sample goes where, for a cost of the same shape, (N, M)."""
        cost = cost if self.through_plan else cost.detach()
        return transport_plan(cost, self.epsilon, self.iterations)


class Critic(nn.Module):
    """Scores pairs of vectors; a change of the pair changes the score by no more.

    Two linear layers, 2 D -> D -> 1, with a ReLU between. The largest singular value of each is held at 1,
    found by one power iteration for every call in training mode. The last layer has no bias, which would
    cancel.

    Args:
        width: D.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.hidden = cast(nn.Linear, spectral_norm(nn.Linear(2 * width, width)))
        self.score = cast(nn.Linear, spectral_norm(nn.Linear(width, 1, bias=False)))

    def forward(
        self, teacher: Tensor, student: Tensor, bank: MemoryBank, negatives: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Mean scores.

        Args:
            teacher: (N, D).
            student: of the same samples, (N, D).
            bank: vectors of the student of all training samples.
            negatives: other training samples for every row, (N, K).

        Returns:
            Of the pairs of a sample, and of the teacher's vectors with those of their negatives in the
            bank; over all ranks.
        """
        # W [t, s] = W_t t + W_s s: the teacher's part is computed once for all negatives of a row.
        hidden, score = self.hidden.weight, self.score.weight
        towards_teacher, towards_student = hidden.split(teacher.shape[1], dim=1)
        shifted = teacher @ towards_teacher.T + self.hidden.bias
        same = gather(torch.relu(shifted + student @ towards_student.T) @ score[0])
        different: Tensor = _NegativeScores.apply(shifted, towards_student, score, bank, negatives)
        return same.mean(), gather(different[None]).sum() / len(same)


@flat_options(ContrastOptions)
class WassersteinContrastLoss(EmbeddingLoss):
    r"""Bring the student's samples near the teacher's, one by one and as distributions.

    Both embeddings are mapped linearly to vectors :math:`s` of the student and :math:`t` of the teacher, of
    unit length.

    .. math:: L = \lambda_g \Big( \mathrm{mean}_{i, m} \, g(t_i, s_{i m}) - \mathrm{mean}_i \, g(t_i, s_i)
    \Big)
              + \lambda_l \, \langle P, C \rangle .

    The first, global term is the dual form of a Wasserstein distance: a critic :math:`g` (`Critic`) tells
    pairs of one sample from pairs with :math:`M` others (``negatives``), whose student vectors come from a
    memory. Student, maps and critic all descend on it. The second, local term is the primal form within the
    batch (`LocalTransport`) with the cosine distance as :math:`C`. Widths may differ.

    No implementation was found. The local term is the paper's; critic, memory, their sizes and the two
    weights are not confirmed by any source and may have to be tuned. "WCoRD+KD" adds KD with weight 1.

    The memory takes 4 bytes a number: 26 MB for CIFAR-100 and 656 MB for ImageNet at a width of 128, half
    of that with ``bank_precision="half"``, and no GPU memory with ``bank_on_host``. Negatives are
    scored a few rows of the batch at a time. Drawing them makes the host of a GPU wait a few times a step,
    see `ContrastiveRepresentationLoss`.

    Reference: L. Chen, D. Wang, Z. Gan, J. Liu, R. Henao and L. Carin, Wasserstein Contrastive Representation
    Distillation, CVPR 2021, https://arxiv.org/abs/2012.08674.

    Args:
        student_width: width of the student's embedding.
        teacher_width: width of the teacher's embedding.
        num_samples: size of the training set.
        labels: class of every training sample by its index, (num_samples,), -1 for samples that are held out.
            None if not known, which ``negatives_from="other_samples"`` allows.
        global_weight: :math:`\lambda_g`, at least 0.
        local_weight: :math:`\lambda_l`, at least 0.
        epsilon: weight of the entropy in the local term, above 0.
        iterations: of Sinkhorn, at least 1.
        through_plan: let gradient flow through Sinkhorn's iterations; otherwise the plan is a constant.

    Raises:
        PursuhintError: a value is out of its range, or labels are needed and not known.

    Example:
        >>> loss = WassersteinContrastLoss(64, 256, 50, torch.arange(50) % 10, negatives=20)
        >>> loss(torch.randn(8, 64), torch.randn(8, 256), torch.arange(8)).shape
        torch.Size([])
    """

    info = EmbeddingLoss.info.replace(
        title="WCoRD",
        paper="Chen et al., Wasserstein Contrastive Representation Distillation, CVPR 2021",
        learns="a projection of either embedding, and a critic",
        minimum=None,
        batch_coupled=True,
        inputs=(*EmbeddingLoss.info.inputs, "indices"),
        shared_buffers=(
            "memory.vectors",
            *(f"sampler.{name}" for name in ("order", "first", "count", "key")),
        ),
    )

    def __init__(
        self,
        student_width: int,
        teacher_width: int,
        num_samples: int,
        labels: Tensor | None = None,
        *,
        global_weight: float = 0.8,
        local_weight: float = 0.05,
        epsilon: float = 0.1,
        iterations: int = 50,
        through_plan: bool = False,
        options: ContrastOptions,
    ) -> None:
        super().__init__()
        check_non_negative(global_weight=global_weight, local_weight=local_weight)
        check_positive(num_samples=num_samples)
        self.global_weight = global_weight
        self.local_weight = local_weight
        self.options = options
        self.student_projection = nn.Linear(student_width, options.width)
        self.teacher_projection = nn.Linear(teacher_width, options.width)
        self.critic = Critic(options.width)
        self.transport = LocalTransport(epsilon=epsilon, iterations=iterations, through_plan=through_plan)
        self.memory = options.memory(num_samples)
        self.sampler = options.sampler(num_samples, labels)

    def terms(self, student: Tensor, teacher: Tensor, indices: Tensor) -> dict[str, Tensor]:
        """Compare the embeddings of one batch, and remember the student's.

        Args:
            student: (N, D_s).
            teacher: (N, D_t).
            indices: which training samples these are, (N,).

        Returns:
            The two addends, weighted: ``global`` and ``local``. Their sum is at
            least -2 ``global_weight`` and at most 2 (``global_weight`` + ``local_weight``).

        Raises:
            PursuhintError: the batch sizes differ, or no training sample has another class.
        """
        check_same_batch(student, teacher)
        own = unit_length(self.student_projection(student))
        other = unit_length(self.teacher_projection(teacher))
        same, different = self.critic(other, own, self.memory, self.sampler(indices, self.options.negatives))
        found = {
            "global": self.global_weight * (different - same),
            "local": self.local_weight * self.transport(gather(own), gather(other)),
        }
        if self.training:
            self.memory.update(gather(indices), gather(own.detach()), self.options.momentum)
            self.sampler.advance()
        return found


_AT_ONCE = 2**24  # numbers


class _NegativeScores(torch.autograd.Function):
    """Mean score of the teacher's vectors with their negatives, summed over the batch.

    Gradients are computed along with the value, a few rows of the batch at a time: what all rows together
    need in between would be as large as the batch times the negatives times the width.
    """

    @staticmethod
    def forward(
        ctx: Any, shifted: Tensor, matrix: Tensor, score: Tensor, bank: MemoryBank, negatives: Tensor
    ) -> Tensor:
        rows = max(1, _AT_ONCE // (negatives.shape[1] * matrix.shape[1]))
        total = shifted.new_zeros(())
        gradients = (torch.zeros_like(shifted), torch.zeros_like(matrix), torch.zeros_like(score))
        for start in range(0, len(shifted), rows):
            part = slice(start, start + rows)
            chosen = bank.rows(negatives[part].flatten()).to(shifted.dtype)
            hidden = torch.relu(chosen.unflatten(0, negatives[part].shape) @ matrix.T + shifted[part, None])
            total += (hidden @ score[0]).sum()
            # Gradients are computed here, so that the hidden layer of all negatives is never held.
            slopes = (hidden > 0) * score[0]
            gradients[0][part] = slopes.sum(1)
            gradients[1].addmm_(slopes.flatten(0, 1).T, chosen)
            gradients[2].add_(hidden.sum((0, 1)))
        count = negatives.shape[1]
        ctx.save_for_backward(*(gradient / count for gradient in gradients))
        return total / count

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        return *(outputs[0] * gradient for gradient in ctx.saved_tensors), None, None
